# SPDX-License-Identifier: Apache-2.0
"""Checks of the options of a parameter group, with the offending value and the allowed ones in the message."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from eigenhub.linalg.dct import TRANSFORMS
from eigenhub.optim.adamw import STATE_DTYPES
from eigenhub.optim.basis import BASES
from eigenhub.optim.layout import PROJECTIONS


MATRIX = "matrix"
ADAMW = "adamw"
ALGORITHMS = (MATRIX, ADAMW)
NS_DTYPES = ("float32", "bfloat16", "float16", "float64")


def check_choice(group: Mapping[str, Any], name: str, allowed: tuple[Any, ...]) -> None:
    """Raise `ValueError` unless `group[name]` is one of `allowed`."""
    if group[name] not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(map(str, allowed))}, got {group[name]!r}")


def check_range(
    group: Mapping[str, Any], name: str, low: float, high: float = math.inf, open_end: bool = False
) -> None:
    """Raise `ValueError` unless `low <= group[name] <= high` (`< high` with `open_end`)."""
    value = _number(group[name])
    if not (low <= value < high if open_end else low <= value <= high):  # also if it is not a number
        brackets = f"[{low}, {high}{')' if open_end or high == math.inf else ']'}"
        raise ValueError(f"`{name}` must lie in {brackets}, got {group[name]!r}")


def check_flags(group: Mapping[str, Any], *names: str) -> None:
    """Raise `ValueError` unless each of these options is `True` or `False`: any string would count as true."""
    for name in names:
        if not isinstance(group[name], bool):
            raise ValueError(f"`{name}` must be True or False, got {group[name]!r}")


def check_count(group: Mapping[str, Any], name: str, low: int) -> None:
    """Raise `ValueError` unless `group[name]` is an integer of at least `low`."""
    value = group[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"`{name}` must be an integer of at least {low}, got {value!r}")


def check_rank(group: Mapping[str, Any]) -> None:
    """Raise unless the rank is `None`, a positive integer or a fraction of the width in (0, 1]."""
    rank = group["rank"]
    whole = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1
    part = isinstance(rank, float) and 0 < rank <= 1
    if rank is not None and not whole and not part:
        raise ValueError(
            f"`rank` must be None (AdamW), an integer of at least 1 or a fraction in (0, 1], got {rank!r}"
        )


def check_adamw(group: Mapping[str, Any]) -> None:
    """The options that every group has, because any parameter of it may fall back to AdamW."""
    check_choice(group, "algorithm", ALGORITHMS)
    check_range(group, "lr", 0.0)
    check_range(group, "weight_decay", 0.0)
    check_range(group, "eps", 0.0)
    betas = group["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2 or not all(0 <= _number(beta) < 1 for beta in betas):
        raise ValueError(f"`betas` must be two numbers in [0, 1), got {betas!r}")
    check_choice(group, "state_dtype", (None, *STATE_DTYPES))
    check_choice(group, "foreach", (None, True, False))
    check_flags(group, "maximize")
    if group["memory_budget"] is not None:
        check_count(group, "memory_budget", 1)


def check_subspace(group: Mapping[str, Any]) -> None:
    """The options of a projected group."""
    check_rank(group)
    check_choice(group, "basis", BASES)
    check_choice(group, "score_norm", (1, 2))
    check_choice(group, "transform", TRANSFORMS)
    check_choice(group, "project", PROJECTIONS)


def check_orthogonalised(group: Mapping[str, Any], least_steps: int) -> None:
    """The options of a momentum that goes through Newton-Schulz iterations."""
    check_range(group, "momentum", 0.0, 1.0, open_end=True)  # at 1 the buffer would never move
    check_count(group, "ns_steps", least_steps)
    check_choice(group, "ns_dtype", (None, *NS_DTYPES))
    check_flags(group, "transposed")


def dtype_name(dtype: torch.dtype | str | None) -> str | None:
    """`torch.float32` or `"float32"` as `"float32"`, which a saved state or a JSON file can hold."""
    return str(dtype).removeprefix("torch.") if dtype is not None else None


def _number(value: Any) -> float:
    """`value` as a float, NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
