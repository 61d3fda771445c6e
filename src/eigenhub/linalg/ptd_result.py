# SPDX-License-Identifier: Apache-2.0
r"""A perturbed HiPPO-LegS matrix in its eigenbasis, $A + E = V \Lambda V^{-1}$, and how good that basis is."""

from typing import NamedTuple

import torch
from torch import Tensor

from eigenhub.linalg.legs import hippo_legs
from eigenhub.linalg.transfer import eigenvector_condition, relative_gain


# An eigenvector matrix that does not reproduce A + E to this is of no use.
BACKWARD_LIMIT = 1e-8


class PTDResult(NamedTuple):
    r"""What [`~eigenhub.linalg.ptd.ptd_diagonalize`] returns.

    Args:
        lambda_ (`Tensor` of shape `(n,)`): eigenvalues, complex128, by ascending imaginary part, then real part. For a real E
            they are closed under conjugation.
        V (`Tensor` of shape `(n, n)`): eigenvectors of unit norm as columns, complex128, with $P^\top v$ real and positive.
        Vinv (`Tensor` of shape `(n, n)`): the inverse of `V`. The input map in this basis is
            `info["input_scale"] * Vinv @ B`, the output map `C @ V`.
        E (`Tensor` of shape `(n, n)`): the perturbation, float64 or complex128.
        info (`dict[str, float]`): `kappa` ($\kappa_2$ of V), `rel_spectral` and `rel_frobenius` (size of E over that of A),
            `max_re` (largest real part of an eigenvalue), `backward_error` ($\lVert V\Lambda V^{-1} - A - E\rVert_2 / \lVert A
            \rVert_2$), `max_gain` (largest ratio of the states to those of HiPPO over all frequencies, for the scaled
            input) and `input_scale` ($1 - \tau/2$ for `"lowrank"`, else 1).
    """

    lambda_: Tensor
    V: Tensor
    Vinv: Tensor
    E: Tensor
    info: dict[str, float]


def diagonalize(n: int, e: Tensor, input_scale: float = 1.0) -> PTDResult:
    """Diagonalise HiPPO-LegS plus a perturbation.

    Args:
        n (`int`): order.
        e (`Tensor` of shape `(n, n)`): perturbation, float64 or complex128.
        input_scale (`float`, *optional*, defaults to 1.0): what the input map is to be multiplied by.

    Raises:
        ValueError: an eigenvalue is not stable, or the eigenvectors cannot be inverted in float64.
    """
    a, _, p = hippo_legs(n)
    values, v = torch.linalg.eig(a + e)  # of a real matrix: exactly conjugate pairs
    keys = list(zip(values.imag.tolist(), values.real.tolist(), strict=True))
    order = sorted(range(n), key=keys.__getitem__)
    values, v = values[order], v[:, order]
    seen = p.to(v.dtype) @ v
    v = v * torch.where(seen.abs() > 0, seen.conj() / seen.abs(), 1.0)
    if torch.linalg.matrix_rank(v) < n:
        raise ValueError(f"the eigenvectors of the perturbed matrix are not independent for n = {n}; take a larger E")
    vinv = torch.linalg.inv(v)
    norm_2, norm_f = torch.linalg.matrix_norm(a, 2), torch.linalg.matrix_norm(a)
    info = {
        "kappa": eigenvector_condition(v),
        "rel_spectral": torch.linalg.matrix_norm(e, 2) / norm_2,
        "rel_frobenius": torch.linalg.matrix_norm(e) / norm_f,
        "max_re": values.real.max(),
        "backward_error": torch.linalg.matrix_norm((v * values) @ vinv - a - e, 2) / norm_2,
        "max_gain": input_scale * relative_gain(values, v, vinv),
    }
    figures = {name: value.item() for name, value in info.items()} | {"input_scale": input_scale}
    _check_quality(figures)
    return PTDResult(values, v, vinv, e, figures)


def _check_quality(info: dict[str, float]) -> None:
    if not info["backward_error"] < BACKWARD_LIMIT:
        raise ValueError(
            f"the perturbed matrix cannot be diagonalised in float64 (condition number {info['kappa']:.1e}, backward error "
            f"{info['backward_error']:.1e}); take a larger perturbation"
        )
    if not info["max_re"] < 0:
        raise ValueError(
            f"the perturbation leaves an unstable eigenvalue with real part {info['max_re']:.3g}; all must be negative"
        )


def conjugate_half(result: PTDResult) -> tuple[Tensor, Tensor]:
    r"""One eigenvalue of every conjugate pair, with the weights that make up for the others.

    For a real output map C, $\mathrm{Re} \sum_k w_k (CV)_k x_k$ over these indices equals the sum over all n.

    Args:
        result (`PTDResult`): of a real perturbation.

    Returns:
        `indices` int64 of the eigenvalues with negative imaginary part (the half that S5 keeps) and of the real ones, and
        `weights` float64: 2 for one of a pair, 1 for a real eigenvalue.

    Example:

    ```python
    >>> from eigenhub.linalg.hippo import conjugate_half, ptd_diagonalize
    >>> indices, weights = conjugate_half(ptd_diagonalize(7, "lowrank"))
    >>> len(indices), weights.sum().item()
    (4, 7.0)
    ```
    """
    if result.E.is_complex():
        raise ValueError("a complex perturbation has no conjugate pairs: keep all eigenvalues")
    imag = result.lambda_.imag
    indices = torch.nonzero(imag <= 0)[:, 0]
    return indices, torch.where(imag[indices] < 0, 2.0, 1.0).double()
