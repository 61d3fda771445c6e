# SPDX-License-Identifier: Apache-2.0
"""The system that a layer starts from: eigenvalues, and the change of basis that diagonalises its state matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eigenhub.linalg.hippo import (
    PTDResult,
    conjugate_half,
    hippo_legs,
    legs_normal_diagonalize,
    ptd_diagonalize,
    s4d_init,
)


@dataclass(frozen=True)
class InitialSystem:
    r"""A real state matrix $V \,\mathrm{diag}(\lambda)\, V^{-1}$ of order n, of which k states are kept.

    Args:
        eigenvalues (`Tensor` of shape `(k,)`): eigenvalues kept, complex128.
        v (`Tensor` of shape `(n, k)`): their eigenvectors as columns: an output map C becomes C V.
        v_inverse (`Tensor` of shape `(k, n)`): rows of the inverse: an input map B becomes V⁻¹ B.
        weight (`Tensor` of shape `(k,)`): 2 for a state that stands for a conjugate pair, else 1.
        b (`Tensor` of shape `(n,)`, *optional*): input column of HiPPO, where there is one.
    """

    eigenvalues: Tensor
    v: Tensor
    v_inverse: Tensor
    weight: Tensor
    b: Tensor | None


def solve_perturbation(n: int, recipe: Mapping[str, Any], matrix: list | None) -> PTDResult:
    """Run the solver, or take its result from its own cache.

    Args:
        n (`int`): order of the state matrix.
        recipe (`Mapping[str, Any]`): keywords of [`~eigenhub.linalg.hippo.ptd_diagonalize`]; `None` stands for its default.
        matrix (`list`, *optional*): the perturbation itself, for `method="given"`.
    """
    keywords = {name: value for name, value in recipe.items() if value is not None}
    if matrix is not None:
        given = torch.tensor(matrix, dtype=torch.float64, device="cpu")
        keywords["perturbation"] = torch.view_as_complex(given) if given.ndim == 3 else given
    return ptd_diagonalize(n, **keywords)


def perturbed_system(result: PTDResult, n: int, half: bool, b_scale: float) -> InitialSystem:
    """HiPPO-LegS, perturbed and diagonalised.

    Args:
        result (`PTDResult`): what the solver found.
        n (`int`): order of the state matrix.
        half (`bool`): keep one state of each conjugate pair.
        b_scale (`float`): factor on the input column.
    """
    if half:
        kept, weight = conjugate_half(result)
    else:
        kept, weight = torch.arange(n), torch.ones(n, dtype=torch.float64)
    _, b, _ = hippo_legs(n)
    scale = b_scale * result.info["input_scale"]
    return InitialSystem(result.lambda_[kept], result.V[:, kept], result.Vinv[kept], weight, scale * b)


def legs_system(n: int, half: bool, b_scale: float) -> InitialSystem:
    """The normal part of HiPPO-LegS, as in S5 and S4D-LegS.

    Args:
        n (`int`): order of the state matrix.
        half (`bool`): keep one state of each conjugate pair.
        b_scale (`float`): factor on the input column; 0.5 is what the theory asks for.
    """
    values, v = legs_normal_diagonalize(n)
    kept = torch.arange(n - n // 2 if half else n)
    weight = torch.where(values[kept].imag < 0, 2.0, 1.0).double() if half else torch.ones(n, dtype=torch.float64)
    _, b, _ = hippo_legs(n)
    return InitialSystem(values[kept], v[:, kept], v.mH[kept], weight, b_scale * b)


def formula_system(name: str, n: int, half: bool) -> InitialSystem:
    """Eigenvalues by formula, as those of a real matrix with 2 x 2 blocks on its diagonal.

    Args:
        name (`str`): formula, see [`~eigenhub.linalg.hippo.s4d_init`].
        n (`int`): order of the state matrix, even.
        half (`bool`): keep one state of each conjugate pair, a pair of equal real eigenvalues included.
    """
    draw = torch.Generator().manual_seed(int(torch.randint(2**31, ()))) if "random" in name else None
    lower = s4d_init(name, n, draw).conj()
    pairs = n // 2
    # a block [[a, -b], [b, a]] has the eigenvectors (1, ±i) / √2 for a ∓ ib
    v = torch.zeros(n, n, dtype=torch.complex128)
    index = torch.arange(pairs)
    v[2 * index, index] = v[2 * index, pairs + index] = 0.5**0.5
    v[2 * index + 1, index] = 1j * 0.5**0.5
    v[2 * index + 1, pairs + index] = -1j * 0.5**0.5
    values = torch.cat([lower, lower.conj()])
    kept = torch.arange(pairs if half else n)
    weight = torch.full((len(kept),), 2.0 if half else 1.0, dtype=torch.float64)
    return InitialSystem(values[kept], v[:, kept], v.mH[kept], weight, None)
