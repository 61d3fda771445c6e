# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules that end on a share of the peak: warm-up, then linear, cosine or constant."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")


def lr_schedule(optimizer: Optimizer, shape: str, warmup: float, num_steps: int, floor: float = 0.0) -> LambdaLR:
    """
    A scheduler that multiplies the learning rate of every group by the same factor.

    Args:
        optimizer (`Optimizer`): its groups' learning rates are the peaks.
        shape (`str`): one of `"linear"`, `"cosine"`, `"constant"`, `"constant_with_warmup"`.
        warmup (`float`): steps of linear warm-up; below 1, their share of all steps.
        num_steps (`int`): optimizer steps of the whole run.
        floor (`float`, *optional*, defaults to 0.0): factor at the end of a linear or cosine schedule.
    """
    if shape not in SCHEDULES:
        raise ValueError(f"`shape` must be one of {', '.join(SCHEDULES)}; got {shape!r}")
    if not 0 <= floor <= 1:
        raise ValueError(f"`floor` must be in [0, 1], got {floor}")
    warmup_steps = math.ceil(warmup * num_steps) if warmup < 1 else int(warmup)

    def factor(step: int) -> float:
        if shape == "constant":
            return 1.0
        if step < warmup_steps:
            return step / warmup_steps
        if shape == "constant_with_warmup":
            return 1.0
        done = min(1.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
        left = 1 - done if shape == "linear" else (1 + math.cos(math.pi * done)) / 2
        return floor + (1 - floor) * left

    return LambdaLR(optimizer, factor)
