# SPDX-License-Identifier: Apache-2.0
"""The running average of a generator, whose images are better than those of any single step."""

import copy
from typing import TypeVar

import torch
from torch import nn


M = TypeVar("M", bound=nn.Module)


def average_decay(batch: int, half_life_kimg: float = 10.0, seen: float | None = None, rampup: float = 0.0) -> float:
    r"""The factor $2^{-\text{batch} / \text{half-life}}$ by which a step shrinks the past, whatever the size of the batch.

    Args:
        batch (`int`): images that a step shows the discriminator, over all processes.
        half_life_kimg (`float`, *optional*, defaults to 10.0): half-life in thousands of images; 0 keeps no past.
        seen (`float`, *optional*): images shown so far, for `rampup`.
        rampup (`float`, *optional*, defaults to 0.0): the half-life is at most this share of `seen`; 0 for no such bound.

    Example:

    ```python
    >>> from eigenhub.models.stylegan2.averaging import average_decay
    >>> average_decay(batch=32, half_life_kimg=0.032)
    0.5
    ```

    Departure: the official code of the projector takes the factor of a batch of 32 whatever the batch is.
    """
    if batch < 1:
        raise ValueError(f"`batch` must be at least 1, got {batch}")
    for name, value in (("half_life_kimg", half_life_kimg), ("rampup", rampup)):
        if not value >= 0:
            raise ValueError(f"`{name}` must be at least 0, got {value}")
    if rampup and seen is None:
        raise ValueError("`rampup` needs `seen`, the number of images shown so far")
    images = half_life_kimg * 1000
    if rampup and seen is not None:
        images = min(images, seen * rampup)
    return 0.5 ** (batch / images) if images > 0 else 0.0


def averaged_copy(model: M) -> M:
    """A copy to be moved by [`update_average`]: in evaluation mode, its parameters without gradients.

    Args:
        model (`nn.Module`): a generator.
    """
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    r"""$\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta$ for parameters; buffers are taken over.

    Of a projector the *vectors of its reflections* are averaged. Any such vectors make exactly orthonormal frames, while the
    average of orthonormal frames is not orthonormal. The signs and the gain are buffers; both models must have started from
    the same projectors.

    Args:
        average (`nn.Module`): from [`averaged_copy`].
        model (`nn.Module`): the model that is trained.
        decay (`float`): $d$, from 0 to 1, for example from [`average_decay`].
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"`decay` must be in [0, 1], got {decay}")
    ours, theirs = (dict(m.named_parameters()) for m in (average, model))
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"`average` and `model` differ in parameters: {', '.join(sorted(ours.keys() ^ theirs.keys()))}"
        )
    for name, parameter in ours.items():
        parameter.lerp_(theirs[name].to(parameter.dtype), 1 - decay)
    for kept, current in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(current)
