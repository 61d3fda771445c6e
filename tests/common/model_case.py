# SPDX-License-Identifier: Apache-2.0
"""One model under test: how to build it, what to feed it, what to look at. Everything else of the model tester uses this."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from tests.support.models import build


Inputs = dict[str, Tensor]


class ModelCase:
    """Class attributes describe the model.

    Attributes:
        model_class (`type[PreTrainedModel]`): class of the model.
        config (`dict`): settings of a tiny one, quick to run, with two layers at least.
        bad_configs (`list[tuple[dict, str]]`): settings that must be refused, and a part of the message.
        output (`str`, *optional*, defaults to `"logits"`): field of the output to compare.
        auto_class (`str`, *optional*): Auto class that leads to the model; `None` if there is none.
        exported_as (`str`, *optional*): Auto class that leads to an export; `auto_class` by default.
        float32_names (`tuple[str, ...]`): last parts of the names of tensors that stay in float32.
        tolerance (`float`, *optional*, defaults to 1e-5): largest difference where rounding may differ.
    """

    model_class: ClassVar[type[PreTrainedModel]]
    config: ClassVar[dict[str, Any]]
    bad_configs: ClassVar[list[tuple[dict[str, Any], str]]] = []
    output: ClassVar[str] = "logits"
    auto_class: ClassVar[str | None] = None
    exported_as: ClassVar[str | None] = None
    float32_names: ClassVar[tuple[str, ...]] = ()
    tolerance: ClassVar[float] = 1e-5

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        """Arguments of a forward pass, labels included: the same every time, and row by row the same for any batch.

        Args:
            batch (`int`, *optional*, defaults to 2): number of samples.
        """
        raise NotImplementedError

    @classmethod
    def questions(cls, batch: int = 2) -> Inputs:
        """[`inputs`] without labels."""
        return {name: tensor for name, tensor in cls.inputs(batch).items() if name != "labels"}

    @classmethod
    def make_config(cls, **overrides: Any) -> PreTrainedConfig:
        return cls.model_class.config_class(**(cls.config | overrides))

    @classmethod
    def model(cls, seed: int = 0, **overrides: Any) -> Any:
        """A model in eval mode, the same every time."""
        return build(cls.model_class, cls.make_config(**overrides), seed)

    @classmethod
    @torch.no_grad()
    def answer(cls, model: Any, inputs: Inputs | None = None, **keywords: Any) -> Tensor:
        """What the model computes, as one tensor."""
        return getattr(model(**(cls.questions() if inputs is None else inputs), **keywords), cls.output)

    @classmethod
    def loss(cls, model: Any, inputs: Inputs) -> Tensor:
        """What training makes smaller: the model's own loss. A network that trains against another overrides this.

        Args:
            model (`PreTrainedModel`): the model.
            inputs (`dict[str, Tensor]`): of [`inputs`].
        """
        return model(**inputs).loss

    @classmethod
    def gradients(cls, model: Any) -> dict[str, Tensor]:
        """Gradients of the loss by name."""
        model.zero_grad()
        cls.loss(model, cls.inputs()).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def tensors_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, those that no checkpoint holds included."""
    return dict([*model.named_parameters(), *model.named_buffers()])


def assert_equal_tensors(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    """Equality of every parameter and buffer, to the bit and with dtype."""
    ours, theirs = tensors_of(found), tensors_of(expected)
    assert ours.keys() == theirs.keys()
    wrong = [n for n, t in theirs.items() if ours[n].dtype != t.dtype or not torch.equal(ours[n], t)]
    assert not wrong, f"different: {wrong}"
