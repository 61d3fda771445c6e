# SPDX-License-Identifier: Apache-2.0
r"""Scans of diagonal state-space models: the linear-time core of S5, S4D and their relatives.

All of them run
$$x_k = \bar\lambda \odot x_{k-1} + \bar B u_k, \qquad y_k = \mathrm{Re}\sum_p w_p C_{:p} x_{kp} + D \odot u_k$$
with a complex diagonal $\bar\lambda$; the output sees the updated state.

Complex numbers are pairs of real ones in a last dimension of two, as of `torch.view_as_real`, in every argument and
result: parameters then survive `module.to(bfloat16)`, fused optimizers, `GradScaler` and sharding.

| function | steps | memory for the backward pass |
| --- | --- | --- |
| [`diagonal_ssm`] | all alike | the input, and the state before each chunk |
| [`variable_ssm`] | each with its own $\Delta_k$ (irregular timestamps) | the input, and the state before each block |
| [`ssm_step`] | one | the state |
"""

from typing import Any

import torch
from torch import Tensor

from eigenhub.linalg.scan_associative import associative_ssm
from eigenhub.linalg.scan_checks import (
    check_choice,
    check_chunk_size,
    check_lengths,
    check_sequence,
    check_state,
    check_system,
)
from eigenhub.linalg.scan_fused import fused_ssm
from eigenhub.linalg.scan_reference import diagonal_ssm_reference, variable_ssm_reference
from eigenhub.linalg.scan_step import ssm_step
from eigenhub.linalg.scan_variable import reversed_deltas, variable_ssm


__all__ = [
    "SCAN_BACKENDS",
    "diagonal_ssm",
    "diagonal_ssm_reference",
    "reversed_deltas",
    "ssm_step",
    "variable_ssm",
    "variable_ssm_reference",
]

SCAN_BACKENDS = ("auto", "fused", "reference", "associative")


def diagonal_ssm(
    u: Tensor,
    lbar: Tensor,
    bbar: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    state_weight: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
    backend: str = "auto",
    chunk_size: int | None = None,
    return_states: bool = False,
) -> tuple[Tensor, ...]:
    r"""Run a diagonal state-space model over a batch of sequences.

    $$x_k = \bar\lambda \odot x_{k-1} + \bar B u_k, \qquad y_k = \mathrm{Re}\sum_p w_p C_{:p} x_{kp} + D \odot u_k.$$

    | backend | how | time per step | kept for the backward pass |
    | --- | --- | --- | --- |
    | `"fused"` | products and a chunked scan, block by block | $O(PH)$ | the input, the state before each chunk |
    | `"associative"` | torch's `associative_scan` | $O(PH)$ in $\log L$ rounds | states of all rounds |
    | `"reference"` | [`diagonal_ssm_reference`], a float64 loop | $O(PH)$, slow | all states |

    Everything is computed in float32, or in float64 for a float64 input, under autocast as well. Gradients reach all
    tensors but `state_weight` and `lengths`; second derivatives need another backend than `"fused"`.

    Args:
        u (`Tensor` of shape `(batch, length, features)`): input of any length, zero included, in any floating dtype.
        lbar (`Tensor` of shape `(states, 2)`): diagonal of the discrete state matrix. Beside a float32 input it may be
            float64, which makes its powers more exact.
        bbar (`Tensor` of shape `(states, features, 2)`): discrete input map.
        c (`Tensor` of shape `(features, states, 2)`): output map.
        d (`Tensor` of shape `(features,)`, *optional*): feedthrough; none if left out.
        initial_state (`Tensor` of shape `(batch, states, 2)`, *optional*): state before the first step, for `reverse`
            the one after the last; zero if left out.
        state_weight (`Tensor` of shape `(states,)`, *optional*): weight of each state in the output, 2 for one of a
            conjugate pair and 1 for a real state; one if left out.
        lengths (`Tensor` of shape `(batch,)`, *optional*): integers between 0 and `length`; the final state of a row
            is the one after so many steps, held over the pads to its right. All steps if left out.
        reverse (`bool`, *optional*, defaults to `False`): run from the last step to the first.
        backend (`str`, *optional*, defaults to `"auto"`): one of the above; `"auto"` is `"fused"`.
        chunk_size (`int`, *optional*): steps of a chunk of the fused backend; chosen by it if left out.
        return_states (`bool`, *optional*, defaults to `False`): also return the states of every step.

    Returns:
        `y (batch, length, features)` in the dtype of `u`, the final state `(batch, states, 2)` and, if asked for, the
        states `(batch, length, states, 2)`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.scan import diagonal_ssm
    >>> lbar, bbar, c = torch.tensor([[0.5, 0.0]]), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
    >>> y, final = diagonal_ssm(torch.ones(1, 3, 1), lbar, bbar, c)
    >>> y.flatten().tolist()
    [1.0, 1.5, 1.75]
    >>> more, _ = diagonal_ssm(torch.ones(1, 1, 1), lbar, bbar, c, initial_state=final)
    >>> more.item()
    1.875
    ```

    Smith, Warrington & Linderman, "Simplified State Space Layers for Sequence Modeling", ICLR 2023. They run a
    parallel prefix scan over all steps and keep its states; here only chunks go through one, and no states are kept.
    """
    batch, length = check_sequence(u)
    _, states = check_system(u, lbar, bbar, c, d, state_weight)
    check_state("initial_state", initial_state, batch, states)
    check_lengths(lengths, batch, reverse)
    check_choice("backend", backend, SCAN_BACKENDS)
    check_chunk_size(chunk_size)
    work = torch.promote_types(u.dtype, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        state = u.new_zeros(batch, states, 2, dtype=work) if initial_state is None else initial_state.to(work)
        weighted = c.to(work) if state_weight is None else c.to(work) * state_weight.to(work)[:, None]
        system = u, lbar, bbar.to(work), weighted, None if d is None else d.to(work), state, lengths, reverse
        if u.numel() == 0:
            found = u.clone(), state.clone(), state.new_zeros(batch, length, states, 2)
        elif backend == "reference":
            found = _reference(*system)
        elif backend == "associative":
            found = associative_ssm(*system)
        else:
            found = _fused(*system, chunk_size or 0, return_states)
    return found if return_states else found[:2]


def _fused(
    u: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor, d: Tensor | None, state: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Hand the complex maps over as real matrices: Re(c x) is the product of (Re c, -Im c) with (Re x, Im x)."""
    w_in = bbar.transpose(1, 2).flatten(0, 1)
    w_out = (c * c.new_tensor([1.0, -1.0])).flatten(1, 2)
    exact = lbar.to(torch.promote_types(lbar.dtype, torch.float32))
    return fused_ssm(u, exact, w_in, w_out, d, state, *options)[:3]


def _reference(
    u: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor, d: Tensor | None, state: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    lengths, reverse = options
    choices = {"initial_state": state, "lengths": lengths, "reverse": reverse, "return_states": True}
    y, final, states = diagonal_ssm_reference(u, lbar, bbar, c, d, **choices)
    return y.to(u.dtype), final.to(state.dtype), states.to(state.dtype)
