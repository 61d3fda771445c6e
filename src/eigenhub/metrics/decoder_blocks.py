# SPDX-License-Identifier: Apache-2.0
"""Where a transformer keeps its blocks, and what comes out of one."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def base_model_of(model: nn.Module) -> nn.Module:
    """The transformers model inside of a PEFT model, or the model itself.

    Args:
        model (`nn.Module`): any model.
    """
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def num_blocks(model: nn.Module) -> int:
    """Number of blocks that the configuration names.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
    """
    config: Any = base_model_of(model).config
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    count = getattr(text, "num_hidden_layers", None)
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"`model` must have a configuration with `num_hidden_layers`, got {type(config).__name__}")
    return count


def decoder_blocks(model: nn.Module, path: str | None = None) -> nn.ModuleList:
    """The list of transformer blocks, whatever the architecture calls it.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
        path (`str`, *optional*): dotted name of the list inside of the model, for architectures where the search fails.

    Raises:
        ValueError: there is no list as long as the configuration says, or several.
    """
    if path is not None:
        found = dict(model.named_modules()).get(path)
        if not isinstance(found, nn.ModuleList):
            raise ValueError(f"`path` must name a ModuleList of the model, got {path!r}: {type(found).__name__}")
        return found
    base, count = base_model_of(model), num_blocks(model)
    get_decoder = getattr(base, "get_decoder", None)
    root = get_decoder() if callable(get_decoder) else None
    root = root if isinstance(root, nn.Module) else base
    lists = [(name.count("."), m) for name, m in root.named_modules() if isinstance(m, nn.ModuleList)]
    lists = [(depth, m) for depth, m in lists if len(m) == count]
    # a list of as many experts, say, lies inside of a block
    top = [m for depth, m in lists if depth == min(depth for depth, _ in lists)]
    if len(top) != 1:
        raise ValueError(
            f"{len(top)} lists of {count} modules found in {type(base).__name__}: give the dotted name of its blocks"
        )
    return top[0]


def block_at(model: nn.Module, index: int, path: str | None = None) -> nn.Module:
    """One block; index -2 is the one whose output is `hidden_states[-2]`.

    A negative index counts the hidden states: the last of them is behind the final norm and belongs to no block, so
    -2 is the last block but one.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
        index (`int`): block from 0, or negative.
        path (`str`, *optional*): see [`decoder_blocks`].
    """
    blocks = decoder_blocks(model, path)
    if not -len(blocks) <= index < len(blocks):
        raise ValueError(f"`index` must be from {-len(blocks)} to {len(blocks) - 1}, got {index}")
    return blocks[index]


def map_hidden(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The output of a block with its hidden states changed; blocks return a tensor or a tuple that begins with it.

    Args:
        output (`Any`): what the block returned.
        function (`Callable`): from hidden states to hidden states.
    """
    if isinstance(output, tuple):
        return (function(output[0]), *output[1:])
    return function(output)
