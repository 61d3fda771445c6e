# SPDX-License-Identifier: Apache-2.0
"""The initial factors of one weight: from its SVD, or from a cache of SVDs."""

import hashlib
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from eigenhub.linalg import truncated_svd
from eigenhub.tuners.sorsa.config import SorsaConfig


class Factors(NamedTuple):
    """Truncated SVD of a weight `(m, n)`: `u (m, r)`, `s (r,)`, `v (r, n)`."""

    u: Tensor
    s: Tensor
    v: Tensor


def check_rank(name: str, rank: int, shape: tuple[int, int]) -> None:
    """Raise `ValueError` where a module is too small for the rank."""
    if rank > min(shape):
        raise ValueError(
            f"`r`={rank} exceeds the limit {min(shape)} of module {name!r} with weight shape {shape}: lower `r`, give the "
            "module its own entry in `rank_pattern`, or add it to `exclude_modules`"
        )


def factors_from_svd(name: str, weight: Tensor, rank: int, config: SorsaConfig, driver: str | None = None) -> Factors:
    """Leading triple of `weight`, in float32 or better, by the configured driver.

    Args:
        name (`str`): module name, for messages and for the seed of the randomized driver.
        weight (`Tensor` of shape `(m, n)`): dense weight in `(out, in)` layout.
        rank (`int`): number of triplets.
        config (`SorsaConfig`): gives the driver and its settings.
        driver (`str`, *optional*): overrides the configured driver.

    Raises:
        ValueError: the rank is out of range or the weight is not finite; the message names the module.
    """
    check_rank(name, rank, (weight.shape[0], weight.shape[1]))
    if not torch.isfinite(weight).all():
        raise ValueError(
            f"the weight of module {name!r} has entries that are NaN or infinite: repair the base model first"
        )
    generator = torch.Generator().manual_seed(_module_seed(config.seed, name))
    factors = Factors(
        *truncated_svd(
            weight,
            rank,
            driver=driver or config.svd_driver,
            niter=config.svd_niter,
            oversample=config.svd_oversample,
            generator=generator,
        )
    )
    warn_if_deficient(name, factors.s, weight.shape)
    return factors


def _module_seed(seed: int, name: str) -> int:
    """A seed per module, the same in every process (Python's own `hash` is salted)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little") >> 1


def warn_if_deficient(name: str, s: Tensor, shape: torch.Size) -> None:
    """Say so where the leading block has directions that the weight does not use."""
    tolerance = s[0] * max(shape) * torch.finfo(s.dtype).eps
    missing = int((s <= tolerance).sum())
    if missing:
        warnings.warn(
            f"the weight of module {name!r} has numerical rank {len(s) - missing} < r={len(s)}: {missing} singular values "
            "start at zero; their vectors get a gradient only once the value has moved",
            stacklevel=2,
        )


# Rounding to half precision moves sum and norm of a weight by about 1e-3 of the norm, 4-bit quantisation by about a tenth;
# another model moves the sum by the order of the norm itself.
DENSE_TOLERANCE, QUANTIZED_TOLERANCE = 0.02, 0.5


def fingerprint(weight: Tensor, quantized: bool = False) -> list[float]:
    """Sum, Frobenius norm and relative tolerance of a weight, enough to notice another base model."""
    total = weight.sum(dtype=torch.float64).item()
    norm = torch.linalg.vector_norm(weight, dtype=torch.float64).item()
    return [total, norm, QUANTIZED_TOLERANCE if quantized else DENSE_TOLERANCE]


def check_factors(name: str, u: Tensor, s: Tensor, v: Tensor) -> None:
    """Raise `ValueError` unless three tensors of a file can be factors `(m, r)`, `(r,)` and `(r, n)` of one weight."""
    fit = (u.ndim, s.ndim, v.ndim) == (2, 1, 2) and u.shape[1] == len(s) == len(v)
    if not (fit and all(factor.is_floating_point() for factor in (u, s, v))):
        found = ", ".join(f"{tuple(factor.shape)} of {factor.dtype}" for factor in (u, s, v))
        raise ValueError(f"factors of {name!r} do not belong together: {found}")


def check_fingerprint(name: str, expected: list[float], weight: Tensor, quantized: bool) -> None:
    """Compare a base weight with the one that an adapter was trained on, either of which may be quantised.

    Raises:
        ValueError: the weight is not the recorded one.
    """
    found = fingerprint(weight, quantized)
    tolerance = max(expected[2], found[2]) * max(expected[1], 1e-12)
    if abs(found[0] - expected[0]) > tolerance or abs(found[1] - expected[1]) > tolerance:
        raise ValueError(
            f"the base weight of module {name!r} is not the one this SORSA adapter was trained on: sum and norm are "
            f"{found[0]:.6g} and {found[1]:.6g}, the adapter recorded {expected[0]:.6g} and {expected[1]:.6g}. Load the base "
            "model the adapter names (unmerged), or set `base_fingerprint=None` in its configuration to go on regardless"
        )
