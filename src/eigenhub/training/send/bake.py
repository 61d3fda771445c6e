# SPDX-License-Identifier: Apache-2.0
"""A mask written into the weights, as the authors' code has it."""

from collections.abc import Sequence

import torch
from torch import nn

from eigenhub.metrics.decoder_blocks import block_at
from eigenhub.training.send.sites import down_projection, input_size


@torch.no_grad()
def bake(
    model: nn.Module,
    indices: Sequence[int],
    layer: int = -2,
    rescale: bool = False,
    blocks: str | None = None,
    name: str | None = None,
) -> None:
    """Writes a mask of site `"mlp"` into the down projection, in place: its columns at the indices become zero.

    The model then gives without SenD what it gives with `mask_in_eval=True`. Further training moves the zeros again.

    Args:
        model (`nn.Module`): a transformers model; adapters must be merged.
        indices (`Sequence[int]`): dropped MLP activations.
        layer (`int`, *optional*, defaults to -2): block.
        rescale (`bool`, *optional*, defaults to `False`): as in the settings.
        blocks (`str`, *optional*): dotted name of the list of blocks, where the search fails.
        name (`str`, *optional*): name of the down projection inside of the block, where the search fails.
    """
    down = down_projection(block_at(model, layer, blocks), name)
    if hasattr(down, "base_layer"):
        raise ValueError("`model` must have no adapter on its down projection: merge it first")
    size = input_size(down)
    chosen = [int(index) for index in indices]
    if any(not 0 <= index < size for index in chosen) or len(set(chosen)) >= size:
        raise ValueError(f"`indices` must be from 0 to {size - 1} and leave one, got {chosen}")
    weight: torch.Tensor = down.weight  # type: ignore[assignment]
    columns = weight if hasattr(down, "nx") else weight.mT  # [inputs, outputs]; Conv1D stores it that way
    columns[chosen] = 0.0
    if rescale:
        columns.mul_(size / (size - len(set(chosen))))
