# SPDX-License-Identifier: Apache-2.0
"""The models that every tuner is tried on, and the small things that all tests of a tuner do with them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from tests.support.models import tiny_bert, tiny_gpt2, tiny_llama, tiny_vit


class TinyMlp(nn.Module):
    """Three layers, none of them from transformers; wide, tall and square weights among them."""

    def __init__(self) -> None:
        super().__init__()
        self.lin0 = nn.Linear(10, 20)
        self.lin1 = nn.Linear(20, 12)
        self.lin2 = nn.Linear(12, 12, bias=False)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin1(self.lin0(x).relu()).relu()
        return self.head(self.lin2(x))


def tiny_mlp(seed: int = 0) -> TinyMlp:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyMlp().eval()


def token_inputs() -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[5, 9, 23, 42, 8, 60], [7, 4, 31, 16, 50, 11]])}


def image_inputs() -> dict[str, Tensor]:
    return {"pixel_values": torch.linspace(-1, 1, 128).sin().view(2, 1, 8, 8)}


def vector_inputs() -> dict[str, Tensor]:
    return {"x": torch.linspace(-2, 3, 40).sin().view(4, 10)}


@dataclass(frozen=True)
class TunerCase:
    """One base model with what a tuner needs to know of it.

    Attributes:
        name (`str`): identifier in test names.
        model (`Callable[[], nn.Module]`): makes the base model, the same every time.
        inputs (`Callable[[], dict]`): arguments of one forward pass over at least two samples.
        targets (`list[str]`): modules to adapt.
        others (`list[str]`): other modules that a second adapter may adapt, disjoint from `targets`.
        head (`str`): a module to train in full (`modules_to_save`).
        layers (`str`, *optional*): name of the list of layers.
        auto_class (`str`, *optional*): PEFT's and transformers' auto class, without prefix; `None` outside transformers.
    """

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Tensor]]
    targets: list[str]
    others: list[str]
    head: str
    layers: str | None = None
    auto_class: str | None = None

    @property
    def is_language_model(self) -> bool:
        return self.auto_class == "ModelForCausalLM"


CASES = (
    TunerCase("mlp", tiny_mlp, vector_inputs, ["lin0", "lin1"], ["lin2"], "head"),
    TunerCase(
        "llama", tiny_llama, token_inputs, ["q_proj", "v_proj", "down_proj"], ["up_proj"], "lm_head", "layers",
        "ModelForCausalLM",
    ),
    TunerCase("gpt2", tiny_gpt2, token_inputs, ["c_attn", "c_fc"], ["c_proj"], "ln_f", "h", "ModelForCausalLM"),
    TunerCase(
        "bert", tiny_bert, token_inputs, ["query", "value"], ["key"], "classifier", "layer",
        "ModelForSequenceClassification",
    ),
    TunerCase(
        "vit", tiny_vit, image_inputs, ["q_proj", "fc1"], ["v_proj"], "classifier", "layers",
        "ModelForImageClassification",
    ),
)  # fmt: skip
LLAMA = CASES[1]


@torch.no_grad()
def outputs(model: nn.Module, case: TunerCase, **keywords: Any) -> Tensor:
    """What the model computes in eval mode, as one tensor; the mode is left as it was."""
    was_training = model.training
    model.eval()
    answer = model(**case.inputs(), **keywords)
    model.train(was_training)
    return answer if isinstance(answer, Tensor) else answer.logits


def loss_of(model: nn.Module, case: TunerCase) -> Tensor:
    """A differentiable scalar that depends on every output."""
    answer = model(**case.inputs())
    logits = answer if isinstance(answer, Tensor) else answer.logits
    weights = torch.linspace(0.5, 1.5, logits.numel()).view_as(logits)
    return (logits.float() * weights).square().mean()


def weights_of(base: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in base.state_dict().items()}


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equality to the bit, names included."""
    assert found.keys() == expected.keys()
    different = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
    assert not different, f"changed: {different}"


def adapter_parameters(model: nn.Module, prefix: str, adapter: str = "default") -> dict[str, nn.Parameter]:
    """Parameters of one adapter by name, trained and frozen ones."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if f".{prefix}" in name and adapter in name.split(f".{prefix}")[1].split(".")
    }


@torch.no_grad()
def disturb(parameters: dict[str, nn.Parameter], size: float = 0.1, seed: int = 0) -> None:
    """Adds noise to those parameters that are trained, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    assert trained, "there is nothing to train"
    for parameter in trained:
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_((size * noise).to(parameter.dtype))


def move(model: PeftModel, prefix: str, adapter: str = "default", size: float = 0.1, seed: int = 0) -> None:
    """Stand-in for training: activates the adapter and adds noise to what would be trained of it."""
    model.set_adapter(adapter)
    disturb(adapter_parameters(model, prefix, adapter), size, seed)
