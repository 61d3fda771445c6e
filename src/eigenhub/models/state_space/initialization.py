# SPDX-License-Identifier: Apache-2.0
"""Starting values in flax's conventions, skipping what a checkpoint has already filled."""

import torch
from torch import Tensor
from transformers import initialization as init


# standard deviation of a standard normal cut off at two standard deviations
TRUNCATED_STD = 0.87962566103423978


def truncated_normal(shape: tuple[int, ...], std: float) -> Tensor:
    """Normal numbers cut off at two standard deviations and rescaled to the standard deviation asked for, in float64.

    Args:
        shape (`tuple[int, ...]`): shape.
        std (`float`): standard deviation of the result.
    """
    values = torch.empty(shape, dtype=torch.float64)
    return torch.nn.init.trunc_normal_(values, std=1.0, a=-2.0, b=2.0) * (std / TRUNCATED_STD)


def log_uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Logarithms of numbers that are uniform on a logarithmic scale, in float64.

    Args:
        shape (`tuple[int, ...]`): shape.
        low (`float`): smallest number.
        high (`float`): largest number.
    """
    start, end = torch.tensor([low, high], dtype=torch.float64).log()
    return start + (end - start) * torch.rand(shape, dtype=torch.float64)


def lecun_linear(weight: Tensor, bias: Tensor | None, fan_in: int) -> None:
    """LeCun's truncated normal weights and zero bias, as flax's `Dense` starts.

    Args:
        weight (`Tensor`): weight, filled in place.
        bias (`Tensor`, *optional*): bias, filled in place.
        fan_in (`int`): number of inputs of each output.
    """
    with torch.device("cpu"):
        init.copy_(weight, truncated_normal(tuple(weight.shape), fan_in**-0.5))
    if bias is not None:
        init.zeros_(bias)
