# SPDX-License-Identifier: Apache-2.0
"""Properties that hold for every input: few fixed examples by default, many with `-m slow`."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st


FEW, MANY = 6, 300
SEEDS = st.integers(0, 2**16)
FLOATS = st.sampled_from([torch.float32, torch.float64])
HALVES = st.sampled_from([torch.float16, torch.bfloat16])


def check(statement: Callable[..., None], strategies: dict[str, Any], examples: int) -> None:
    """Runs a statement on examples that are the same every time.

    Args:
        statement (`Callable`): raises if it does not hold.
        strategies (`dict[str, SearchStrategy]`): of its arguments.
        examples (`int`): how many.
    """
    profile = settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    profile(given(**strategies)(statement))()


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random numbers in memory that is not contiguous."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 2, dtype=torch.float64, generator=generator).to(dtype)[..., 0]


def tolerance(dtype: torch.dtype, size: int, factor: float = 50.0) -> float:
    """Rounding that grows with the size."""
    return factor * torch.finfo(dtype).eps * max(size, 1)


def assert_near(found: torch.Tensor, expected: torch.Tensor, atol: float) -> None:
    """Equal shapes, and numbers within an absolute distance."""
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=atol)
