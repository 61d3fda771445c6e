# SPDX-License-Identifier: Apache-2.0
"""The scans by their definition, one step after the other in complex float64: what everything is tested against."""

import torch
from torch import Tensor

from eigenhub.linalg.discretization import discretize


def as_complex(pairs: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Complex numbers from pairs of real ones in the last dimension.

    Args:
        pairs (`Tensor` of shape `(..., 2)`): real and imaginary parts.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float64`): dtype of the parts of the result.
    """
    return torch.view_as_complex(pairs.to(dtype).contiguous())


def diagonal_ssm_reference(
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
    return_states: bool = False,
) -> tuple[Tensor, ...]:
    r"""[`diagonal_ssm`] by its definition, a loop over the steps in float64, differentiable.

    $$x_k = \bar\lambda \odot x_{k-1} + \bar B u_k, \qquad y_k = \mathrm{Re}\sum_p w_p C_{:p} x_{kp} + D \odot u_k.$$

    Args:
        u (`Tensor` of shape `(batch, length, features)`): input.
        lbar (`Tensor` of shape `(states, 2)`): diagonal of the discrete state matrix.
        bbar (`Tensor` of shape `(states, features, 2)`): discrete input map.
        c (`Tensor` of shape `(features, states, 2)`): output map.
        d (`Tensor` of shape `(features,)`, *optional*): feedthrough; none if left out.
        initial_state (`Tensor` of shape `(batch, states, 2)`, *optional*): state before the first step; zero if left
            out.
        state_weight (`Tensor` of shape `(states,)`, *optional*): weight of each state in the output; one if left out.
        lengths (`Tensor` of shape `(batch,)`, *optional*): steps after which the final state is taken.
        reverse (`bool`, *optional*, defaults to `False`): run from the last step to the first.
        return_states (`bool`, *optional*, defaults to `False`): also return the states of every step.

    Returns:
        `y (batch, length, features)`, the final state `(batch, states, 2)` and, if asked for, the states
        `(batch, length, states, 2)`, all in float64.
    """
    u, length = u.double(), u.shape[1]
    drive = torch.einsum("blh,ph->blp", u.to(torch.complex128), as_complex(bbar))
    steps = [drive[:, k] for k in range(length)]
    diagonal = as_complex(lbar).expand(length, -1)
    states, final = scan_reference(diagonal, steps, _initial(u, lbar, initial_state), lengths, reverse)
    y = output_map(states, u, c, d, state_weight)
    final_pairs = torch.view_as_real(final)
    return (y, final_pairs, torch.view_as_real(states)) if return_states else (y, final_pairs)


def variable_ssm_reference(
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
    r"""[`variable_ssm`] by its definition, a loop over the steps in float64, differentiable.

    Args:
        u (`Tensor` of shape `(batch, length, features)`): input.
        deltas (`Tensor` of shape `(batch, length)`): time that each step takes, in units of `step`.
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
        As [`diagonal_ssm_reference`].
    """
    u, values = u.double(), eigenvalues.double()
    elapsed = deltas.double()[..., None] * step.double()
    real, imag, gain_re, gain_im = discretize(values[:, 0], values[:, 1], elapsed, method)
    diagonal, gain = torch.complex(real, imag), torch.complex(gain_re, gain_im)
    drive = gain * torch.einsum("blh,ph->blp", u.to(torch.complex128), as_complex(b))
    state = _initial(u, eigenvalues, initial_state)
    states, final = scan_reference(diagonal.transpose(0, 1), list(drive.unbind(1)), state, None, reverse)
    y = output_map(states, u, c, d, state_weight)
    final_pairs = torch.view_as_real(final)
    return (y, final_pairs, torch.view_as_real(states)) if return_states else (y, final_pairs)


def scan_reference(
    diagonals: Tensor, drives: list[Tensor], state: Tensor, lengths: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """All states and the final one of `x_k = diagonals[k] * x_{k-1} + drives[k]`.

    Args:
        diagonals (`Tensor` of shape `(length, ..., states)`): complex, one per step, broadcast against the state.
        drives (`list[Tensor]` of shape `(batch, states)`): complex, one per step.
        state (`Tensor` of shape `(batch, states)`): complex, before the first step.
        lengths (`Tensor` of shape `(batch,)`, *optional*): steps after which the final state is taken; all if left
            out.
        reverse (`bool`, *optional*, defaults to `False`): run from the last step to the first.
    """
    length = len(drives)
    states: list[Tensor] = [state] * length
    final = state
    for k in reversed(range(length)) if reverse else range(length):
        state = diagonals[k] * state + drives[k]
        states[k] = state
        final = state if lengths is None else torch.where((k < lengths)[:, None], state, final)
    stacked = torch.stack(states, dim=1) if states else state.new_zeros(state.shape[0], 0, state.shape[1])
    return stacked, final


def output_map(states: Tensor, u: Tensor, c: Tensor, d: Tensor | None, weight: Tensor | None) -> Tensor:
    """`Re(states @ (weight * c).T) + d * u` in float64.

    Args:
        states (`Tensor` of shape `(batch, length, states)`): complex.
        u (`Tensor` of shape `(batch, length, features)`): input.
        c (`Tensor` of shape `(features, states, 2)`): output map.
        d (`Tensor` of shape `(features,)` or `None`): feedthrough.
        weight (`Tensor` of shape `(states,)` or `None`): conjugate weight.
    """
    weighted = as_complex(c) if weight is None else as_complex(c) * weight.double()
    y = torch.einsum("blp,hp->blh", states, weighted).real
    return y if d is None else y + d.double() * u


def _initial(u: Tensor, lbar: Tensor, initial_state: Tensor | None) -> Tensor:
    if initial_state is None:
        return torch.zeros(u.shape[0], lbar.shape[0], dtype=torch.complex128, device=u.device)
    return as_complex(initial_state)
