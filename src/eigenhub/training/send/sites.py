# SPDX-License-Identifier: Apache-2.0
"""Where in a block indices are dropped."""

from torch import nn

from eigenhub.metrics.decoder_blocks import base_model_of


#: What architectures call the projection from the MLP back to the hidden state.
DOWN_PROJECTIONS = ("down_proj", "dense_4h_to_h", "fc2", "c_proj", "w2", "fc_out", "out_lin", "output.dense", "wo")


def down_projection(block: nn.Module, name: str | None = None) -> nn.Module:
    """The layer that takes the MLP's activations back to the hidden state; PEFT's wrapper if there is one.

    Args:
        block (`nn.Module`): a transformer block.
        name (`str`, *optional*): its dotted name inside of the block, where the search fails.
    """
    modules = dict(block.named_modules())
    if name is not None:
        if name not in modules:
            raise ValueError(f"`down_projection` must name a module of the block, got {name!r}")
        return modules[name]
    found = [
        module
        for path, module in modules.items()
        if "attn" not in path.lower()
        and "attention" not in path.lower()
        and any(path == known or path.endswith(f".{known}") for known in DOWN_PROJECTIONS)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} down projections found in {type(block).__name__}: give `down_projection`, its dotted name "
            "inside of the block"
        )
    return found[0]


def input_size(layer: nn.Module) -> int:
    """Input features of a linear layer, `Conv1D` of GPT-2 or PEFT wrapper.

    Args:
        layer (`nn.Module`): see [`down_projection`].
    """
    inner = layer.base_layer if hasattr(layer, "base_layer") else layer
    size = getattr(inner, "in_features", None) or getattr(inner, "nx", None)
    if not isinstance(size, int):
        raise ValueError(f"`down_projection` must be a linear layer, got {type(inner).__name__}")
    return size


def hidden_size(model: nn.Module) -> int:
    """Size of the hidden states.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
    """
    config = base_model_of(model).config
    return int(config.get_text_config(decoder=True).hidden_size)  # type: ignore[union-attr,operator]
