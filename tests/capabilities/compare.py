# SPDX-License-Identifier: Apache-2.0
"""Comparisons that say what differs in one line, for a table."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


Named = Mapping[str, Tensor]


def whole(tensor: Tensor) -> Tensor:
    """A DTensor gathered, any other tensor as it is; detached."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters."""
    return {name: whole(p).clone() for name, p in model.named_parameters()}


def check_equal(found: Named, expected: Named, what: str) -> None:
    """Equality to the bit, names included."""
    check_close(found, expected, what, atol=0.0, rtol=0.0)


def check_close(found: Named, expected: Named, what: str, atol: float = 2e-4, rtol: float = 1e-3) -> None:
    """Raise `AssertionError` with the largest difference unless |found - expected| <= atol + rtol |expected|."""
    if not expected or found.keys() != expected.keys():
        raise AssertionError(f"{what}: {len(found)} tensors where {len(expected)} were expected, or other names")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise AssertionError(f"{what}: {name} has shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}")
        gap = (found[name].double() - tensor.double()).abs()
        if not bool((gap <= atol + rtol * tensor.double().abs()).all()):
            raise AssertionError(f"{what}: {name} differs by {float(gap.max()):.1e}")


def check_moved(found: Named, start: Named, least: float = 1e-3) -> None:
    """Raise unless training has moved something by `least`: equal weights that never moved prove nothing."""
    moved = max(float((found[name].double() - tensor.double()).abs().max()) for name, tensor in start.items())
    if not moved >= least:
        raise AssertionError(f"training moved no weight by more than {moved:.1e}")


def check_differs(found: Tensor, other: Tensor, what: str) -> None:
    """Raise where two tensors are equal that must not be."""
    if torch.equal(found, other):
        raise AssertionError(what)


def check_falls(losses: Sequence[float], what: str = "the loss") -> None:
    """Raise unless all losses are finite and the last is below the first."""
    if not all(map(_finite, losses)) or not losses[-1] < losses[0]:
        shown = ", ".join(f"{loss:.4f}" for loss in losses)
        raise AssertionError(f"{what} does not fall: {shown}")


def check_near(found: Sequence[float], expected: Sequence[float], share: float, what: str) -> None:
    """Raise where a loss lies further than `share` from its counterpart."""
    for step, (a, b) in enumerate(zip(found, expected, strict=True)):
        if not abs(a - b) <= share * abs(b):
            raise AssertionError(f"{what}: {a:.4f} in step {step}, {b:.4f} in float32")


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
