# SPDX-License-Identifier: Apache-2.0
"""Bytes of optimizer state: counted from the tensors, and foretold from shapes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from eigenhub.optim.bases import get_basis
from eigenhub.optim.sharding import local_part


PROJECTED = ("dct_adamw", "trion", "galore", "ldadam", "apollo", "dion")
OPTIMIZERS = ("adamw", "muon", "auon", *PROJECTED)


@dataclass(frozen=True)
class MemoryReport:
    """Bytes of optimizer state on this process.

    Args:
        by_key (`dict[str, int]`): bytes by name of the state.
        by_group (`tuple[int, ...]`): bytes by parameter group.
        parameters (`int`): number of parameters that have state.
    """

    by_key: dict[str, int]
    by_group: tuple[int, ...]
    parameters: int

    @property
    def total(self) -> int:
        """All bytes of state."""
        return sum(self.by_group)


def memory_report(optimizer: Optimizer) -> MemoryReport:
    """Count the bytes of an optimizer's state, of any optimizer.

    State appears with the first step. Of a split tensor the part on this process is counted.

    Args:
        optimizer (`Optimizer`): the optimizer.
    """
    by_key: dict[str, int] = {}
    by_group = []
    parameters = 0
    for group in optimizer.param_groups:
        size = 0
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            parameters += bool(state)
            for key, value in state.items():
                if torch.is_tensor(value):
                    own = local_part(value)
                    by_key[key] = by_key.get(key, 0) + own.numel() * own.element_size()
                    size += own.numel() * own.element_size()
        by_group.append(size)
    return MemoryReport(by_key, tuple(by_group), parameters)


def basis_bytes(widths: Iterable[int], basis: str, dtype: torch.dtype, device: torch.device, transform: str) -> int:
    """Bytes of the shared matrices that have been made for these widths; 0 with `transform="fft"`.

    Args:
        widths (`Iterable[int]`): widths of the projected matrices.
        basis (`str`): kind of basis.
        dtype (`torch.dtype`): float32, or float64 for float64 parameters.
        device (`torch.device`): where the parameters lie.
        transform (`str`): the optimizer's option.
    """
    return sum(get_basis(basis, n, dtype, device, transform).nbytes for n in set(widths))


def state_numbers(optimizer: str, shape: Sequence[int], rank: int | None = None) -> int:
    """How many numbers an optimizer keeps for one parameter, as in published comparisons.

    With N the longer and n the shorter side of a matrix and r the rank: AdamW 2Nn; Muon and AuON Nn; GaLore 2Nr + nr;
    LDAdam 2Nr + 2nr + Nn (its error buffer lies in the gradient); APOLLO 2Nr; Dion Nn + nr; Trion Nn + r; DCT-AdamW
    2Nr + r, the r being indices. Step counts are left out. Vectors, and a `rank` of `None`, count as AdamW.

    Args:
        optimizer (`str`): `"adamw"`, `"muon"`, `"auon"`, `"galore"`, `"ldadam"`, `"apollo"`, `"dion"`, `"trion"` or
            `"dct_adamw"`.
        shape (`Sequence[int]`): shape of the parameter; three dimensions are a stack of matrices.
        rank (`int`, *optional*): rank of the projected ones, clamped to n.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"`optimizer` must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
    entries = torch.Size(shape).numel()
    if len(shape) not in (2, 3) or optimizer == "adamw" or (optimizer in PROJECTED and rank is None):
        return 2 * entries
    if optimizer in ("muon", "auon"):
        return entries
    short, long = sorted(shape[-2:])
    r = min(rank or short, short)
    per_matrix = {
        "galore": 2 * long * r + short * r,
        "ldadam": 2 * long * r + 2 * short * r + short * long,
        "apollo": 2 * long * r,
        "dion": short * long + short * r,
        "trion": short * long + r,
        "dct_adamw": 2 * long * r + r,
    }[optimizer]
    return per_matrix * (entries // (short * long) if entries else 0)
