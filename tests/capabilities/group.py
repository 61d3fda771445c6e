# SPDX-License-Identifier: Apache-2.0
"""Two gloo processes, started once, in which every method trains under DDP and under FSDP2 as accelerate sets them up."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from tests.capabilities.cells import PATIENCE, Failed, first_line
from tests.capabilities.compare import check_close, check_moved, weights_of
from tests.support.distributed import run_function


if TYPE_CHECKING:
    from tests.capabilities.training import TrainingProbes

ENGINES = ("ddp", "fsdp2")
PROCESSES = 2


class TrainedInGroup(Protocol):
    """Probes that can train in one of two processes."""

    slug: ClassVar[str]

    def in_group(self, engine: str, folder: Path) -> dict[str, Tensor]:
        """Weights after training in one of two processes, by the names of [`reference`]."""

    def reference(self, folder: Path) -> dict[str, Tensor]:
        """Weights after training in one process."""

    def start(self, folder: Path) -> dict[str, Tensor]:
        """Weights before training."""


class Group:
    """What the two processes found, by method and engine; they start when the first is asked for.

    Args:
        slugs (`Sequence[str]`): methods that train in the processes.
        folder (`Path`): where the processes leave their weights.
    """

    def __init__(self, slugs: Sequence[str], folder: Path) -> None:
        self.slugs, self.folder = list(slugs), folder
        self.errors: dict[str, str] | None = None

    def check(self, probes: TrainedInGroup, engine: str) -> None:
        """Raise unless both processes ended where one process ends."""
        if self.errors is None:
            self.errors = self._train()
        if message := self.errors.get(f"{probes.slug} {engine}"):
            raise Failed(message)
        place = self.folder / f"{probes.slug} {engine} alone"
        expected = probes.reference(place / "run")
        check_moved(expected, probes.start(place / "start"))
        for rank in range(PROCESSES):
            found = torch.load(self.folder / f"{probes.slug} {engine} {rank}.pt", weights_only=True)
            check_close(found, expected, f"process {rank} against one process")

    def _train(self) -> dict[str, str]:
        """All methods in one group; if that breaks down, each in a group of its own, so that one cannot hide the others."""
        try:
            return self._spawn(self.slugs)
        except AssertionError:
            return {k: v for slug in self.slugs for k, v in self._alone(slug).items()}

    def _alone(self, slug: str) -> dict[str, str]:
        try:
            return self._spawn([slug])
        except AssertionError as error:
            last = str(error).strip().splitlines()[-1]
            return {f"{slug} {engine}": f"the processes broke down: {last}" for engine in ENGINES}

    def _spawn(self, slugs: Sequence[str]) -> dict[str, str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        first, second = run_function(
            train_all, nproc=PROCESSES, timeout=PATIENCE, slugs=list(slugs), folder=str(self.folder)
        )
        return second | first


def train_all(slugs: list[str], folder: str) -> dict[str, str]:
    """Runs in every process: weights go into files, errors come back by method and engine."""
    from tests.capabilities.probes import probes_of
    from tests.common.callback_tester import allow_fsdp_on_cpus

    allow_fsdp_on_cpus()
    errors = {}
    rank = torch.distributed.get_rank()
    for name in (f"{slug} {engine}" for slug in slugs for engine in ENGINES):
        slug, engine = name.split()
        forget_accelerator()
        try:
            torch.save(probes_of(slug).in_group(engine, Path(folder) / name), Path(folder) / f"{name} {rank}.pt")
        except Exception as error:
            errors[name] = first_line(error)
    return errors


def forget_accelerator() -> None:
    """Accelerate keeps the engine of a process for ever; the next training is under another one."""
    from accelerate.state import AcceleratorState, GradientState

    for name in [name for name in os.environ if name.startswith(("ACCELERATE_USE_FSDP", "FSDP_"))]:
        del os.environ[name]
    AcceleratorState._reset_state(reset_partial_state=False)
    GradientState._reset_state()


def make_accelerator(engine: str, blocks: Sequence[str]) -> Any:
    """Accelerate with DDP, or with FSDP2 that shards modules of the classes `blocks` one by one."""
    from accelerate import Accelerator, FullyShardedDataParallelPlugin

    if engine == "ddp":
        return Accelerator()
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=list(blocks)
    )
    return Accelerator(fsdp_plugin=plugin)


def train_prepared(probes: "TrainingProbes", engine: str) -> dict[str, Tensor]:
    """Weights after training on this process's half of the rows."""
    accelerator = make_accelerator(engine, probes.blocks)
    model = probes.model()
    model, optimizer = accelerator.prepare(model, probes.optimizer(model))
    check_engine(model, engine)
    first = 2 * torch.distributed.get_rank()
    probes.train(model, rows=slice(first, first + 2), optimizer=optimizer, backward=accelerator.backward)
    return {name.removeprefix("module."): tensor for name, tensor in weights_of(model).items()}


def check_engine(model: nn.Module, engine: str) -> None:
    """Raise unless the model is really wrapped or sharded."""
    sharded = [hasattr(p, "full_tensor") for p in model.parameters()]
    if engine == "fsdp2" and not all(sharded):
        raise AssertionError(f"only {sum(sharded)} of {len(sharded)} parameters are sharded")
    if engine == "ddp" and not isinstance(model, nn.parallel.DistributedDataParallel):
        raise AssertionError(f"the model is a {type(model).__name__}, not under DDP")
