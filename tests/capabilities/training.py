# SPDX-License-Identifier: Apache-2.0
"""Probes of whatever trains a `torch.nn.Module`: a model, a loss over some rows, an optimizer. The kinds build on this."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.capabilities.compare import check_close, check_equal, check_falls, check_near, weights_of
from tests.capabilities.group import train_prepared
from tests.capabilities.probes import Probes


ALL = slice(None)
STEPS = 3
#: Traces, and differentiates what was traced; inductor's C++ compiler would take half a minute for each method.
BACKEND = "aot_eager"


class TrainingProbes(Probes):
    """What is the same for every trained module.

    Attributes:
        blocks (`tuple[str, ...]`): classes of the modules that FSDP2 shards one by one.
        lr (`float`): step size of Adam.
    """

    blocks: ClassVar[tuple[str, ...]] = ()
    lr: ClassVar[float] = 1e-2

    def model(self) -> Any:
        """A fresh model in training mode, the same every time."""
        raise NotImplementedError

    def loss(self, model: nn.Module, rows: slice = ALL) -> Tensor:
        """The loss of some rows of one batch of four, a mean over rows."""
        raise NotImplementedError

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Adam, with an `eps` above the rounding of what two processes add up."""
        return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=self.lr, eps=1e-5)

    def after_backward(self, model: nn.Module) -> None:
        """What the method adds to the gradients."""

    def in_bf16(self, model: Any) -> Any:
        return model.to(torch.bfloat16)

    def with_checkpointing(self, model: Any) -> Any:
        model.activation_checkpointing_enable()
        if not model.is_gradient_checkpointing:
            raise AssertionError("the model does not say that checkpointing is on")
        return model

    def train(
        self,
        model: nn.Module,
        steps: int = STEPS,
        rows: slice = ALL,
        optimizer: Optimizer | None = None,
        backward: Callable[[Tensor], None] = torch.Tensor.backward,
    ) -> list[float]:
        """Some steps on the same batch; the losses."""
        optimizer = self.optimizer(model) if optimizer is None else optimizer
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self.loss(model, rows)
            backward(loss)
            self.after_backward(model)
            optimizer.step()
            losses.append(loss.item())
        return losses

    def gradients(self, model: nn.Module) -> dict[str, Tensor]:
        model.zero_grad()
        self.loss(model).backward()
        named = ((name.removeprefix("_orig_mod."), p.grad) for name, p in model.named_parameters())
        return {name: gradient.clone() for name, gradient in named if gradient is not None}

    # columns

    def bf16(self, folder: Path) -> str | None:
        expected = self.train(self.model(), steps=5)
        losses = self.train(self.in_bf16(self.model()), steps=5)
        check_falls(losses)
        check_near(losses, expected, 0.05, "the loss in bfloat16")
        return None

    def gradient_checkpointing(self, folder: Path) -> str | None:
        plain, model = self.model(), self.with_checkpointing(self.model())
        with counted_blocks(plain, self.blocks) as once, counted_blocks(model, self.blocks) as twice:
            check_equal(self.gradients(model), self.gradients(plain), "gradients")
        twice.check_twice(once)
        return None

    def compile(self, folder: Path) -> str | None:
        expected = self.gradients(self.model())
        with clean_dynamo():
            compiled, note = compiled_whole_or_in_parts(self.model(), self.loss)
            check_close(self.gradients(compiled), expected, "compiled gradient", atol=1e-5, rtol=1e-3)
        return note

    def ddp(self, folder: Path) -> str | None:
        return self.shared.group.check(self, "ddp")

    def fsdp2(self, folder: Path) -> str | None:
        return self.shared.group.check(self, "fsdp2")

    def in_group(self, engine: str, folder: Path) -> dict[str, Tensor]:
        """Weights after training in one of two processes, by the names of [`reference`]."""
        return train_prepared(self, engine)

    def reference(self, folder: Path) -> dict[str, Tensor]:
        """Weights after training in one process."""
        model = self.model()
        self.train(model)
        return weights_of(model)

    def start(self, folder: Path) -> dict[str, Tensor]:
        """Weights before training."""
        return weights_of(self.model())


@contextmanager
def clean_dynamo() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled_whole_or_in_parts(model: nn.Module, run: Callable[[Any], Any]) -> tuple[Any, str]:
    """The compiled model and a note: whether it is one graph, else how many graph breaks.

    Args:
        model (`nn.Module`): what to compile.
        run (`Callable`): calls the model once.
    """
    whole = torch.compile(model, fullgraph=True, backend=BACKEND)
    try:
        run(whole)
        return whole, "one graph"
    except torch._dynamo.exc.Unsupported:
        torch.compiler.reset()
        parts = torch.compile(model, backend=BACKEND)
        torch._dynamo.utils.counters.clear()
        run(parts)
        count = sum(torch._dynamo.utils.counters["graph_break"].values())
        return parts, f"{count} graph break{'s' * (count != 1)}"


@dataclass
class Count:
    """How often the blocks of a model computed something while gradients were recorded."""

    runs: int = 0

    def check_twice(self, plain: "Count") -> None:
        """Raise unless each block ran twice as often as without checkpointing, which only announced would save nothing."""
        if not plain.runs or self.runs != 2 * plain.runs:
            raise AssertionError(
                f"blocks ran {self.runs} times, {plain.runs} without checkpointing: not computed again"
            )


@contextmanager
def counted_blocks(model: nn.Module, blocks: Sequence[str]) -> Iterator[Count]:
    """Counts at the first part of each module of the classes named: transformers leaves their own hooks outside."""
    found = [module for module in model.modules() if type(module).__name__ in blocks]
    count = Count()

    def add(module: nn.Module, arguments: Any) -> None:
        count.runs += torch.is_grad_enabled()

    hooks = [next(module.children(), module).register_forward_pre_hook(add) for module in found]
    yield count
    for hook in hooks:
        hook.remove()
