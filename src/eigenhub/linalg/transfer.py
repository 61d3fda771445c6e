# SPDX-License-Identifier: Apache-2.0
"""Transfer functions of state space systems, dense and diagonal, and how far the initialisations are from HiPPO."""

import math

import torch
from torch import Tensor

from eigenhub.linalg.legs import legs_frequencies, legs_state_response, phi


def transfer_function(a: Tensor, b: Tensor, c: Tensor | None, s: Tensor) -> Tensor:
    r"""$G(s) = C (sI - A)^{-1} B$ at every point of `s`.

    Args:
        a (`Tensor` of shape `(n, n)` or `(n,)`): a dense state matrix, or the eigenvalues of a diagonal one.
        b (`Tensor` of shape `(n,)` or `(n, inputs)`): input matrix.
        c (`Tensor` of shape `(n,)` or `(outputs, n)`, or `None`): output matrix; `None` returns the states.
        s (`Tensor` of shape `(...)`): points of the complex plane, for example `1j * frequencies`.

    Returns:
        `Tensor` of shape `(..., outputs, inputs)`, complex128, without the axes that `b` or `c` do not have.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.hippo import hippo_legs, transfer_function
    >>> a, b, _ = hippo_legs(4)
    >>> transfer_function(a, b, None, torch.tensor(0.0))[0]  # the mean of the past
    tensor(1.+0.j, dtype=torch.complex128)
    ```
    """
    a, b, s = (x.to(device="cpu", dtype=torch.complex128) for x in (a, b, s))
    n = a.shape[-1]
    _check_system(a, b, c)
    columns = b.reshape(n, -1)
    if a.ndim == 1:
        states = columns / (s[..., None] - a)[..., None]
    else:
        eye = torch.eye(n, dtype=a.dtype, device="cpu")
        states = torch.linalg.solve(s[..., None, None] * eye - a, columns.expand(*s.shape, -1, -1))
    if b.ndim == 1:
        states = states[..., 0]
    if c is None:
        return states
    c = c.to(device="cpu", dtype=torch.complex128)
    return torch.tensordot(c, states, dims=([-1], [s.ndim])).movedim(0, s.ndim) if c.ndim == 2 else _dot(c, states, s)


def _dot(c: Tensor, states: Tensor, s: Tensor) -> Tensor:
    return torch.tensordot(states, c, dims=([s.ndim], [0]))


def _check_system(a: Tensor, b: Tensor, c: Tensor | None) -> None:
    n = a.shape[-1]
    if a.ndim not in (1, 2) or a.shape[0] != n:
        raise ValueError(f"`a` must have shape (n, n) or (n,), got {tuple(a.shape)}")
    if b.ndim not in (1, 2) or b.shape[0] != n:
        raise ValueError(f"`b` must have shape ({n},) or ({n}, inputs), got {tuple(b.shape)}")
    if c is not None and (c.ndim not in (1, 2) or c.shape[-1] != n):
        raise ValueError(f"`c` must have shape ({n},) or (outputs, {n}), got {tuple(c.shape)}")


def eigenvector_condition(v: Tensor) -> Tensor:
    r"""$\kappa_2$ of `v` with columns scaled to unit norm: the ratio of its extreme singular values.

    Args:
        v (`Tensor` of shape `(..., n, n)`): eigenvectors as columns, real or complex.

    Returns:
        `Tensor` of shape `(...)`, infinite for a singular `v`.
    """
    s = torch.linalg.svdvals(v / torch.linalg.vector_norm(v, dim=-2, keepdim=True))
    return s[..., 0] / s[..., -1]


def lowrank_gain(n: int, w: Tensor, tau: float = 1.0, scaled: bool = True) -> Tensor:
    r"""$|G_\tau / G_\mathrm{HiPPO}|$ at $iw$, for the state matrix $A + \tau P P^\top$; the same for every output.

    The ratio is $2 / (2 - \tau + \tau \phi_n)$ with the input $B$, and $1 / (1 + \rho \phi_n)$, $\rho = \tau/(2 - \tau)$,
    with the input scaled by $1 - \tau/2$. `tau=1` is S4D-LegS: near the largest eigenfrequency its gain is $2n^2/\pi^2$.

    Args:
        n (`int`): order, at least 1.
        w (`Tensor` of shape `(...)`): angular frequencies.
        tau (`float`, *optional*, defaults to 1.0): size of the perturbation, between 0 (HiPPO) and 1 (S4D-LegS).
        scaled (`bool`, *optional*, defaults to `True`): whether the input is scaled by $1 - \tau/2$.

    Returns:
        `Tensor` of shape `(...)`, float64.
    """
    check_tau(tau)
    ratio = 2 / (2 - tau + tau * phi(n, 1j * w.double()))
    return ratio.abs() * ((1 - tau / 2) if scaled else 1.0)


def check_tau(tau: float) -> None:
    """Raise `ValueError` unless `tau` is between 0 and 1.

    Args:
        tau (`float`): size of a perturbation along P Pᵀ.
    """
    if not 0 <= tau <= 1:
        raise ValueError(f"`tau` must be between 0 and 1, got {tau!r}")


def gain_peaks(n: int, count: int = 3) -> tuple[Tensor, Tensor]:
    r"""The highest resonances of S4D-LegS over HiPPO: where $|G_\mathrm{Diag}/G_\mathrm{HiPPO}| = 1/|1 + \phi_n(iw)|$ peaks.

    Args:
        n (`int`): order, at least 2.
        count (`int`, *optional*, defaults to 3): number of peaks, at most `n // 2`.

    Returns:
        `frequencies (count,)` and `gains (count,)`, float64, by descending frequency.
    """
    if not 1 <= count <= n // 2:
        raise ValueError(f"`count` must be between 1 and {n // 2} for n = {n}, got {count!r}")
    w = legs_frequencies(n)[:count]
    low, high = w - 1, w + 1  # the poles lie 1/2 to the left of the axis
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        inner, outer = high - golden * (high - low), low + golden * (high - low)
        left = lowrank_gain(n, inner) > lowrank_gain(n, outer)
        low, high = torch.where(left, low, inner), torch.where(left, outer, high)
    peak = (low + high) / 2
    return peak, lowrank_gain(n, peak)


def relative_gain(values: Tensor, v: Tensor, vinv: Tensor) -> Tensor:
    r"""$\max_w \lVert (iw - M)^{-1} B \rVert / \lVert (iw - A)^{-1} B \rVert$ for $M = V \,\mathrm{diag}(\lambda)\, V^{-1}$.

    Searched on 1025 frequencies from 0 to three times the largest and around every eigenvalue.

    Args:
        values (`Tensor` of shape `(n,)`): eigenvalues $\lambda$ of M.
        v (`Tensor` of shape `(n, n)`): eigenvectors of M as columns.
        vinv (`Tensor` of shape `(n, n)`): inverse of `v`.

    Returns:
        `Tensor` without dimensions, float64.
    """
    n = len(values)
    around = values.imag[:, None] + values.real[:, None] * torch.linspace(-1, 1, 5, dtype=torch.float64, device="cpu")
    top = math.log10(3 * values.imag.abs().max().item() + 3)
    spread = torch.logspace(-2, top, 512, dtype=torch.float64, device="cpu")
    w = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), spread, -spread, around.flatten()])
    b = (2 * torch.arange(n, dtype=torch.float64, device="cpu") + 1).sqrt().to(v.dtype)
    states = ((vinv @ b) / (1j * w[:, None] - values)) @ v.mT
    exact = legs_state_response(n, 1j * w)
    return (torch.linalg.vector_norm(states, dim=1) / torch.linalg.vector_norm(exact, dim=1)).max()
