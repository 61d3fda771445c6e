# SPDX-License-Identifier: Apache-2.0
"""The optimizers on a tiny Llama, all of them in every cell: a cell is a yes only if each of them does it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.optim import AuON, AuONFactory, DCTAdamW, DCTAdamWFactory, HybridAuON, Trion, TrionFactory
from tests.capabilities import language
from tests.capabilities.cells import DoesNotApply, Failed, first_line
from tests.capabilities.compare import check_close, check_equal, check_falls, weights_of
from tests.capabilities.models import check_trainer_resumes
from tests.capabilities.strangers import Export
from tests.capabilities.training import ALL, BACKEND, TrainingProbes, clean_dynamo, counted_blocks
from tests.common.optimizer_training import make_trainer


#: class, factory, options
OPTIMIZERS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "DCTAdamW": (DCTAdamW, DCTAdamWFactory, {"lr": 5e-3, "rank": 0.5}),
    "Trion": (Trion, TrionFactory, {"lr": 1e-2, "rank": 4}),
    "AuON": (AuON, AuONFactory, {"lr": 1e-2}),
    "HybridAuON": (HybridAuON, AuONFactory, {"lr": 1e-2, "ns_steps": 2}),
}


class OptimizerProbes(TrainingProbes):
    slug = "dct"
    blocks = language.BLOCKS
    script_arguments = (
        *(
            "--max_length",
            "16",
            "--per_device_batch_size",
            "2",
            "--eval_tokens",
            "64",
            "--warmup",
            "0",
            "--rank",
            "0.25",
        ),
    )
    name = "DCTAdamW"

    def model(self) -> Any:
        return language.llama()

    def loss(self, model: nn.Module, rows: slice = ALL) -> Tensor:
        return language.language_loss(model, rows)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        _, factory, options = OPTIMIZERS[self.name]
        return factory()(model, **options, lr_aux=1e-3)

    def each(self) -> Iterator[str]:
        """Makes every optimizer the current one in turn."""
        for self.name in OPTIMIZERS:
            yield self.name

    def save_load(self, folder: Path) -> None:
        for name in self.each():
            model = self.model()
            optimizer = self.optimizer(model)
            self.train(model, optimizer=optimizer)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / name)
            saved = torch.load(folder / name, weights_only=True)
            fresh = self.model()
            fresh.load_state_dict(saved["model"])
            loaded = self.optimizer(fresh)
            loaded.load_state_dict(saved["optimizer"])
            self.train(model, optimizer=optimizer)
            self.train(fresh, optimizer=loaded)
            check_equal(weights_of(fresh), weights_of(model), f"{name} after loading")

    def export_to(self, folder: Path) -> Export:
        """What it trained is a stock model; one optimizer stands for all."""
        model = self.model()
        self.train(model)
        model.save_pretrained(folder / "model")
        asked = {"input_ids": language.TOKENS}
        return Export(folder / "model", "AutoModelForCausalLM", asked, language.logits(model))

    def bf16(self, folder: Path) -> None:
        for name in self.each():
            with named(name):
                super().bf16(folder)

    def gradient_checkpointing(self, folder: Path) -> None:
        for name in self.each():
            plain, model = self.model(), self.with_checkpointing(self.model())
            with counted_blocks(plain, self.blocks) as once, counted_blocks(model, self.blocks) as twice:
                self.train(plain)
                self.train(model)
            twice.check_twice(once)
            check_equal(weights_of(model), weights_of(plain), f"{name}: weights")

    def compile(self, folder: Path) -> str:
        """Steps on two linear layers: tracing takes a second for each parameter."""
        breaks = []
        for name in self.each():
            with clean_dynamo(), named(name):
                expected, _ = self.small_run(lambda step: step)
                found, count = self.small_run(lambda step: torch.compile(step, backend=BACKEND))
            check_close(found, expected, f"{name}: weights after compiled steps")
            breaks.append(f"{name} {count}")
        return f"the step, in parts; graph breaks: {', '.join(breaks)}"

    def small_run(self, wrap: Callable[[Any], Any]) -> tuple[dict[str, Tensor], int]:
        """Weights after two steps, and the graph breaks on the way."""
        kind, _, options = OPTIMIZERS[self.name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, x = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)), torch.randn(5, 8)
        optimizer = kind(model.parameters(), **options)
        optimizer.step = wrap(optimizer.step)
        torch._dynamo.utils.counters.clear()
        for _ in range(2):
            optimizer.zero_grad()
            (model(x) - 1).square().mean().backward()
            optimizer.step()
        return weights_of(model), sum(torch._dynamo.utils.counters["graph_break"].values())

    def weights(self) -> dict[str, Tensor]:
        model = self.model()
        self.train(model)
        return weights_of(model)

    def in_group(self, engine: str, folder: Path) -> dict[str, Tensor]:
        return self.of_each(lambda: super(OptimizerProbes, self).in_group(engine, folder))

    def reference(self, folder: Path) -> dict[str, Tensor]:
        return self.of_each(self.weights)

    def start(self, folder: Path) -> dict[str, Tensor]:
        return self.of_each(lambda: weights_of(self.model()))

    def of_each(self, get: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return {f"{name} {key}": tensor for name in self.each() for key, tensor in get().items()}

    def resume(self, folder: Path) -> None:
        for name, (_, factory, options) in OPTIMIZERS.items():
            with named(name):
                check_trainer_resumes(
                    lambda f, a=factory, o=options: make_trainer(f, a, o, torch.float32), folder / name
                )

    def quantized(self, folder: Path) -> str:
        for name in self.each():
            for kind, base in language.quantized_bases(folder).items():
                check_falls(self.train_adapter(language.with_lora(base)), f"{name}: the loss on a base of {kind}")
        return "LoRA on it, whose matrices get the rule of the optimizer"

    def peft(self, folder: Path) -> str:
        for name in self.each():
            model = language.with_lora(self.model())
            self.train_adapter(model)
            language.check_adapter_reloads(model, self.model(), folder / name)
        return "trains LoRA, whose matrices get its rule if they are given to it directly"

    def train_adapter(self, model: nn.Module) -> list[float]:
        """With the matrices of the adapter under the rule of the optimizer, which `build_param_groups` gives to AdamW."""
        kind, _, options = OPTIMIZERS[self.name]
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = kind(trained, **options | ({"rank": 2} if "rank" in options else {}))
        return self.train(model, optimizer=optimizer)

    def generate(self, folder: Path) -> None:
        raise DoesNotApply("an optimizer leaves no trace in the model that generates")

    def prepare_script(self, folder: Path) -> list[str]:
        (folder / "text.txt").write_text("def add(a, b):\n    return a + b\n\n\n" * 200)
        return ["--dataset", str(folder / "text.txt")]


@contextmanager
def named(name: str) -> Iterator[None]:
    """Puts the name of the optimizer before what went wrong."""
    try:
        yield
    except Exception as error:
        raise Failed(f"{name}: {first_line(error)}") from error


PROBES = OptimizerProbes
