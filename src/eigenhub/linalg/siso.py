# SPDX-License-Identifier: Apache-2.0
r"""Banks of single-input single-output diagonal systems, one per channel: the core of S4D and S4-PTD.

$x_l = \bar\lambda \odot x_{l-1} + \bar b u_l$ and $y_l = 2\,\mathrm{Re}\sum_n c_n x_{ln}$ in every channel: the output sees the
updated state, and the conjugate of each state is implied. Complex numbers are pairs of real ones in a last dimension of two.
"""

import torch
from torch import Tensor

from eigenhub.linalg.autocast import without_autocast
from eigenhub.linalg.chunk_convolution import chunk_convolution
from eigenhub.linalg.fft_convolution import fft_convolution
from eigenhub.linalg.scan_checks import check_choice, check_chunk_size
from eigenhub.linalg.siso_state import final_state, state_response
from eigenhub.linalg.siso_step import check_siso, pair_product, siso_reference
from eigenhub.linalg.ssm_kernel import diagonal_kernel


SISO_BACKENDS = ("auto", "chunk", "fft", "reference")


def siso_ssm(
    u: Tensor,
    lbar: Tensor,
    bbar: Tensor,
    c: Tensor,
    *,
    initial_state: Tensor | None = None,
    lengths: Tensor | None = None,
    return_state: bool = False,
    backend: str = "auto",
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    r"""Run the systems over a batch of sequences from left to right.

    | backend | how | cost per step and channel |
    | --- | --- | --- |
    | `"chunk"` | [`eigenhub.linalg.chunk_convolution`], the final state for free | about 2 T + 8 N flops |
    | `"fft"` | [`diagonal_kernel`] and [`fft_convolution`] | O(log L) |
    | `"reference"` | step by step, under autograd | the definition |

    Args:
        u (`Tensor` of shape `(batch, length, channels)`): input. Half precision is computed in float32.
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues; float64 is worth it, see
            [`~eigenhub.linalg.discretization.discretize`].
        bbar (`Tensor` of shape `(channels, states, 2)`): discrete input map.
        c (`Tensor` of shape `(channels, states, 2)`): output map.
        initial_state (`Tensor` of shape `(batch, channels, states, 2)`, *optional*): state before the first step, zero by
            default.
        lengths (`Tensor` of shape `(batch,)`, *optional*): integers; the returned state of a row is the one after so many
            steps, held over the pads to the right of them. Outputs are not affected.
        return_state (`bool`, *optional*, defaults to `False`): whether to return the final state.
        backend (`str`, *optional*, defaults to `"auto"`): one of the above; `"auto"` is `"fft"`, but on a CPU `"chunk"` where
            a state goes in or out.
        chunk_size (`int`, *optional*): T of `"chunk"`, by default 64 up to 4096 steps and 128 above.

    Returns:
        `y (batch, length, channels)` in the dtype of `u`, and the final state `(batch, channels, states, 2)` in at least
        float32, or `None` if it was not asked for.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.siso import siso_ssm
    >>> half, one = torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
    >>> y, state = siso_ssm(torch.ones(1, 3, 1), half, one, one, return_state=True)
    >>> y.flatten().tolist(), state.flatten().tolist()
    ([2.0, 3.0, 3.5], [1.75, 0.0])
    ```
    """
    check_siso(u, lbar, bbar, c, initial_state, lengths)
    backend = _chosen(backend, chunk_size, u, return_state or initial_state is not None)
    work = u.to(torch.promote_types(u.dtype, torch.float32))
    state = work.new_zeros(u.shape[0], *lbar.shape) if initial_state is None else initial_state.to(work.dtype)
    if u.numel() == 0:
        return u.clone(), state if return_state else None
    with without_autocast(u.device):
        if backend == "fft":
            y, final = _by_fft(work, lbar, bbar, c, initial_state), None
        elif backend == "chunk":
            y, final = chunk_convolution(work, lbar, bbar, c, state, chunk_size or default_chunk(u.shape[1]))
        else:
            y, final = siso_reference(work, lbar, bbar, c, state)
        if return_state and (final is None or lengths is not None):
            final = final_state(work, lbar, bbar, state, lengths)
    return y.to(u.dtype), final if return_state else None


def siso_bidirectional(
    u: Tensor,
    lbar: Tensor,
    bbar: Tensor,
    c: Tensor,
    c_reverse: Tensor,
    *,
    backend: str = "auto",
    chunk_size: int | None = None,
) -> Tensor:
    r"""Both directions with shared states: $y_t = \sum_{s \le t} K_{t-s} u_s + \sum_{s > t} K'_{s-t-1} u_s$.

    The current step belongs to the forward kernel only, the convention of S4 (S5 has it in both).

    Args:
        u (`Tensor` of shape `(batch, length, channels)`): input. Half precision is computed in float32.
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues of both directions.
        bbar (`Tensor` of shape `(channels, states, 2)`): discrete input map of both.
        c (`Tensor` of shape `(channels, states, 2)`): output map of the forward kernel K.
        c_reverse (`Tensor` of shape `(channels, states, 2)`): output map of the backward kernel K'.
        backend (`str`, *optional*, defaults to `"auto"`): as in [`siso_ssm`], but `"auto"` is `"fft"`: one transform serves
            both directions.
        chunk_size (`int`, *optional*): T of `"chunk"`.

    Returns:
        `Tensor` of shape `(batch, length, channels)` in the dtype of `u`.
    """
    check_siso(u, lbar, bbar, c)
    check_siso(u, lbar, bbar, c_reverse)
    if backend in ("auto", "fft") and u.numel():
        coefficient = torch.stack([pair_product(bbar, c), pair_product(bbar, c_reverse)])
        kernels = diagonal_kernel(lbar, coefficient, u.shape[1], torch.promote_types(u.dtype, torch.float32))
        return fft_convolution(u, kernels[0], kernels[1])
    forward, _ = siso_ssm(u, lbar, bbar, c, backend=backend, chunk_size=chunk_size)
    behind, _ = siso_ssm(u.flip(1), lbar, bbar, c_reverse, backend=backend, chunk_size=chunk_size)
    return forward + torch.nn.functional.pad(behind.flip(1)[:, 1:], (0, 0, 0, 1))[:, : u.shape[1]]


def default_chunk(length: int) -> int:
    """Steps of a chunk that are quick at a length; depends on nothing else, so that a run and its resumption agree.

    Args:
        length (`int`): steps of the sequence.
    """
    return 64 if length <= 4096 else 128


def _by_fft(u: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor, state: Tensor | None) -> Tensor:
    y = fft_convolution(u, diagonal_kernel(lbar, pair_product(bbar, c), u.shape[1], u.dtype))
    return y if state is None else y + state_response(lbar, c, state.to(u.dtype), u.shape[1])


def _chosen(backend: str, chunk_size: int | None, u: Tensor, with_state: bool) -> str:
    check_choice("backend", backend, SISO_BACKENDS)
    check_chunk_size(chunk_size)
    if backend == "auto":
        return "chunk" if with_state and u.device.type == "cpu" else "fft"
    return backend
