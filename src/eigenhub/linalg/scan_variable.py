# SPDX-License-Identifier: Apache-2.0
"""The diagonal scan whose steps take different times: irregularly sampled sequences."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from eigenhub.linalg.discretization import check_method, discretize
from eigenhub.linalg.powers import wide_dtype
from eigenhub.linalg.scan_affine import affine_scan
from eigenhub.linalg.scan_checks import check_sequence, check_shape, check_state, check_system


# Real numbers in the states of one block: its tables, a few dozen such tensors in float64, stay below 100 MB.
BLOCK = 2**18


def variable_ssm(
    u: Tensor,
    deltas: Tensor,
    eigenvalues: Tensor,
    step: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    *,
    method: str = "zoh",
    initial_state: Tensor | None = None,
    state_weight: Tensor | None = None,
    reverse: bool = False,
    return_states: bool = False,
) -> tuple[Tensor, ...]:
    r"""Run a diagonal state-space model over sequences whose steps take different times.

    $$x_k = \bar\lambda_k \odot x_{k-1} + g_k \odot (B u_k), \qquad \bar\lambda_k = e^{\lambda\Delta_k},\quad
    g_k = (\bar\lambda_k - 1)/\lambda,\quad \Delta_k = \delta_k \cdot \mathrm{step}.$$

    A step of $\delta_k = 0$ holds the state: to the last bit on a CPU, up to rounding elsewhere. Memory is
    O(batch x length x (features + states)), never the matrices $\bar B_k$ of each step, and less of it is kept: the
    backward pass makes the diagonals and states of one block of steps at a time again. Computed in float32, or in
    float64 for a float64 input, the exponents always in float64.

    Args:
        u (`Tensor` of shape `(batch, length, features)`): input of any length, zero included, in any floating dtype.
        deltas (`Tensor` of shape `(batch, length)`): time that each step takes, in units of `step`, not negative; used
            as given in either direction: [`reversed_deltas`] turns gaps before a step into gaps after it.
        eigenvalues (`Tensor` of shape `(states, 2)`): diagonal of the continuous state matrix.
        step (`Tensor` of shape `(states,)`): time scale of each state.
        b (`Tensor` of shape `(states, features, 2)`): continuous input map.
        c (`Tensor` of shape `(features, states, 2)`): output map.
        d (`Tensor` of shape `(features,)`, *optional*): feedthrough; none if left out.
        method (`str`, *optional*, defaults to `"zoh"`): rule of discretisation, `"zoh"` or `"bilinear"`.
        initial_state (`Tensor` of shape `(batch, states, 2)`, *optional*): state before the first step; zero if left
            out.
        state_weight (`Tensor` of shape `(states,)`, *optional*): weight of each state in the output; one if left out.
        reverse (`bool`, *optional*, defaults to `False`): run from the last step to the first.
        return_states (`bool`, *optional*, defaults to `False`): also return the states of every step.

    Returns:
        `y (batch, length, features)` in the dtype of `u`, the final state `(batch, states, 2)` and, if asked for, the
        states `(batch, length, states, 2)`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.scan import variable_ssm
    >>> eigenvalues, step = torch.tensor([[-1.0, 0.0]]), torch.tensor([1.0])
    >>> b = c = torch.tensor([[[1.0, 0.0]]])
    >>> u, deltas = torch.tensor([[[1.0], [5.0], [0.0]]]), torch.tensor([[1.0, 0.0, 1.0]])
    >>> y, _ = variable_ssm(u, deltas, eigenvalues, step, b, c)  # 1 - 1/e, held, and decayed by 1/e
    >>> [round(value, 4) for value in y.flatten().tolist()]
    [0.6321, 0.6321, 0.2325]
    ```

    Smith, Warrington & Linderman, "Simplified State Space Layers for Sequence Modeling", ICLR 2023, on irregularly
    sampled sequences. There every step has its own $\bar B_k$; here $\bar B_k u_k = g_k \odot (B u_k)$.
    """
    batch, length = check_sequence(u)
    _, states = check_system(u, eigenvalues, b, c, d, state_weight, ("eigenvalues", "b"))
    check_shape("deltas", deltas, (batch, length), "(batch, length)")
    check_shape("step", step, (states,), "(states,)")
    check_state("initial_state", initial_state, batch, states)
    check_method(method)
    work = torch.promote_types(u.dtype, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        state = u.new_zeros(batch, states, 2, dtype=work) if initial_state is None else initial_state.to(work)
        weighted = c.to(work) if state_weight is None else c.to(work) * state_weight.to(work)[:, None]
        if u.numel() == 0:
            found = u.clone(), state.clone(), state.new_zeros(batch, length, states, 2)
            return found if return_states else found[:2]
        system = eigenvalues, step, b.to(work), weighted, None if d is None else d.to(work), method
        return _by_blocks(u, deltas, state, system, reverse, return_states)


def _by_blocks(
    u: Tensor, deltas: Tensor, state: Tensor, system: tuple, reverse: bool, return_states: bool
) -> tuple[Tensor, ...]:
    """Blocks of steps one after the other; only their inputs and the state between them outlive them."""
    span = max(1, BLOCK // state.numel())
    starts = range(0, u.shape[1], span)
    ys, kept = [u[:, :0]], [state.new_empty(len(u), 0, *state.shape[1:])]
    for start in reversed(starts) if reverse else starts:
        part = slice(start, start + span)
        arguments = u[:, part], deltas[:, part], state, *system, reverse
        if torch.is_grad_enabled():
            y, state, states = checkpoint(_block, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            y, state, states = _block(*arguments)
        ys.append(y)
        kept.append(states if return_states else kept[0])
    order = slice(None, None, -1 if reverse else 1)
    y = torch.cat(ys[order], dim=1)
    return (y, state, torch.cat(kept[order], dim=1)) if return_states else (y, state)


def _block(
    u: Tensor,
    deltas: Tensor,
    state: Tensor,
    eigenvalues: Tensor,
    step: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    method: str,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    source = u.to(b.dtype)
    a, gain = _discrete(deltas, eigenvalues, step, method, b.dtype)
    drive_re, drive_im = source @ b[..., 0].mT, source @ b[..., 1].mT
    gain_re, gain_im = gain.unbind(-1)
    drive = torch.stack([gain_re * drive_re - gain_im * drive_im, gain_re * drive_im + gain_im * drive_re], dim=-1)
    states = affine_scan(a, drive, state, reverse)
    x_re, x_im = states.unbind(-1)
    y = x_re @ c[..., 0].mT - x_im @ c[..., 1].mT
    y = y if d is None else y + d * source
    return y.to(u.dtype), states[:, 0 if reverse else -1], states


def _discrete(
    deltas: Tensor, eigenvalues: Tensor, step: Tensor, method: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Diagonal and gain of every step as pairs. In float64: a phase of hundreds of radians loses digits in float32."""
    wide = wide_dtype(dtype, deltas.device)
    values, elapsed = eigenvalues.to(wide), deltas.to(wide)[..., None] * step.to(wide)
    real, imag, gain_re, gain_im = discretize(values[:, 0], values[:, 1], elapsed, method)
    return torch.stack([real, imag], dim=-1).to(dtype), torch.stack([gain_re, gain_im], dim=-1).to(dtype)


def reversed_deltas(deltas: Tensor, mask: Tensor | None = None) -> Tensor:
    """Gaps after each step from gaps before it, for a scan from the right; the last gap is one, as in the S5 code.

    Args:
        deltas (`Tensor` of shape `(batch, length)`): gap before each step.
        mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real steps. The last real step before pads
            gets one, pads get zero, so that they hold the state.

    Returns:
        `Tensor` of shape `(batch, length)`.
    """
    after = torch.cat([deltas[:, 1:], torch.ones_like(deltas[:, :1])], dim=1)
    if mask is None:
        return after
    real = mask.bool()
    next_real = torch.cat([real[:, 1:], torch.zeros_like(real[:, :1])], dim=1)
    return torch.where(next_real, after, torch.ones_like(after)) * real
