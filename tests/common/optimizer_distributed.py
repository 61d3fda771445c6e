# SPDX-License-Identifier: Apache-2.0
"""An optimizer on two CPU processes equals itself on one: split tensors, DDP, FSDP2, ZeRO-1, distributed checkpoints.

The functions here run in every process (`tests.support.distributed.run_function`); each computes what one process would
do by itself and returns the largest differences. [`OptimizerDistributedTester`] asserts on them.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.common.optimizer_tester import give_gradients, gradients, make_parameters
from tests.support.distributed import run_function


#: Uneven over two processes, down to no row or no matrix of a stack on the second one.
SPLIT_SHAPES = ((13, 8), (8, 21), (9, 9), (3, 6, 4), (1, 7, 4), (1, 5), (7,))
STEPS = 4


class Net(nn.Module):
    """Linear layers of uneven sizes, an embedding, a norm and a stack of matrices."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 12)
        self.up = nn.Linear(12, 25)
        self.down = nn.Linear(25, 9)
        self.norm = nn.LayerNorm(9)
        self.stack = nn.Parameter(torch.randn(3, 9, 5) / 3)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.norm(self.down(self.up(self.embed(ids)).relu()))
        return torch.einsum("bd,edf->bef", hidden, self.stack).square().mean()


def make(optimizer: str, parameters: Any, options: Mapping[str, Any]) -> Any:
    module, name = optimizer.split(":")
    return getattr(importlib.import_module(module), name)(parameters, **options)


def difference(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    whole = [a.full_tensor() if hasattr(a, "full_tensor") else a for a in actual]
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in zip(whole, expected, strict=True))


def split_differences(optimizer: str, variants: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Bare DTensors under every split, against plain tensors; state is compared as well."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard

    line, grid = init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (2, 1))
    splits = {
        "rows": (line, [Shard(0)]),
        "columns": (line, [Shard(1)]),
        "copies": (line, [Replicate()]),
        "hybrid": (grid, [Replicate(), Shard(0)]),
    }
    found = {}
    for name, options in variants.items():
        expected = make_parameters(SPLIT_SHAPES)
        plain = make(optimizer, expected, options)
        for step in range(STEPS):
            give_gradients(expected, step)
            plain.step()
        for split, (mesh, placements) in splits.items():
            parameters = train_split(optimizer, options, mesh, placements)
            found[f"{name} {split}"] = difference(parameters[0], expected)
            states = [parameters[1].state[p] for p in parameters[0]]
            for actual, wanted in zip(states, (plain.state[p] for p in expected), strict=True):
                assert actual.keys() == wanted.keys()
                for key in actual:
                    assert tuple(actual[key].shape) == tuple(wanted[key].shape), (name, split, key)
    return found


def train_split(optimizer: str, options: Mapping[str, Any], mesh: Any, placements: list[Any]) -> tuple[list[Any], Any]:
    from torch.distributed.tensor import Shard, distribute_tensor

    def split(tensor: Tensor) -> Any:
        # A vector has no second dimension to be split along.
        own = [Shard(0) if p.is_shard() and p.dim >= tensor.ndim else p for p in placements]
        return distribute_tensor(tensor, mesh, own)

    parameters = [nn.Parameter(split(p.detach())) for p in make_parameters(SPLIT_SHAPES)]
    instance = make(optimizer, parameters, options)
    for step in range(STEPS):
        for parameter, gradient in zip(parameters, gradients(step, SPLIT_SHAPES), strict=True):
            parameter.grad = split(gradient.float())
        instance.step()
    return parameters, instance


def batch(step: int, part: bool) -> Tensor:
    ids = torch.randint(11, (8,), generator=torch.Generator().manual_seed(step))
    return ids.chunk(2)[dist.get_rank()] if part else ids


def train(model: nn.Module, instance: Any, steps: range, part: bool) -> None:
    for step in steps:
        instance.zero_grad()
        model(batch(step, part)).backward()
        instance.step()


def module_differences(optimizer: str, options: dict[str, Any]) -> dict[str, float]:
    """A model under DDP, FSDP2 and ZeRO-1 on halves of each batch, against one process on whole batches."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.nn.parallel import DistributedDataParallel

    expected = Net()
    train(expected, make(optimizer, expected.parameters(), options), range(STEPS), part=False)
    wanted = list(expected.parameters())

    ddp = DistributedDataParallel(Net())
    train(ddp, make(optimizer, ddp.parameters(), options), range(STEPS), part=True)
    sharded = fully_shard(Net())
    train(sharded, make(optimizer, sharded.parameters(), options), range(STEPS), part=True)
    zero = DistributedDataParallel(Net())
    module, name = optimizer.split(":")
    own = getattr(importlib.import_module(module), name)
    train(zero, ZeroRedundancyOptimizer(zero.parameters(), optimizer_class=own, **options), range(STEPS), part=True)
    models = {"ddp": ddp, "fsdp2": sharded, "zero": zero}
    return {name: difference(list(model.parameters()), wanted) for name, model in models.items()}


def fsdp1_message(optimizer: str, options: dict[str, Any], use_orig_params: bool) -> str:
    """What a step says when FSDP1 has flattened the model."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(Net(), use_orig_params=use_orig_params, device_id=torch.device("cpu"))
    instance = make(optimizer, model.parameters(), options)
    model(batch(0, part=True)).backward()
    message = "stepped"
    try:
        instance.step()
    except RuntimeError as error:
        message = str(error)
    dist.barrier()  # a process that leaves first would abort the other one in its teardown
    return message


def checkpoint_difference(optimizer: str, options: dict[str, Any], folder: str) -> float:
    """Save a distributed checkpoint after two steps, load it into a fresh model, and finish the run."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.fsdp import fully_shard

    def build() -> tuple[nn.Module, Any]:
        model = fully_shard(Net())
        return model, make(optimizer, model.parameters(), options)

    model, instance = build()
    train(model, instance, range(2), part=True)
    weights, state = get_state_dict(model, instance)
    dcp.save({"model": weights, "optim": state}, checkpoint_id=folder)
    train(model, instance, range(2, STEPS), part=True)

    fresh, resumed = build()
    weights, state = get_state_dict(fresh, resumed)
    dcp.load({"model": weights, "optim": state}, checkpoint_id=folder)
    set_state_dict(fresh, resumed, model_state_dict=weights, optim_state_dict=state)
    train(fresh, resumed, range(2, STEPS), part=True)
    return max(difference([a], [b.full_tensor()]) for a, b in zip(fresh.parameters(), model.parameters(), strict=True))


def finish_on_one_process(optimizer: str, options: dict[str, Any], folder: Path) -> float:
    """Load the checkpoint of two processes into one, finish the run, compare with a run that never stopped."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    whole, loaded = Net(), Net()
    train(whole, make(optimizer, whole.parameters(), options), range(STEPS), part=False)
    instance = make(optimizer, loaded.parameters(), options)
    weights, state = get_state_dict(loaded, instance)
    dcp.load({"model": weights, "optim": state}, checkpoint_id=str(folder), no_dist=True)
    set_state_dict(loaded, instance, model_state_dict=weights, optim_state_dict=state)
    train(loaded, instance, range(2, STEPS), part=False)
    return difference(list(loaded.parameters()), list(whole.parameters()))


def all_differences(
    optimizer: str, options: dict[str, Any], variants: dict[str, dict[str, Any]], folder: str
) -> dict[str, Any]:
    """Everything in one group of processes, which takes longer to start than to compute."""
    return {
        "split": split_differences(optimizer, variants),
        "module": module_differences(optimizer, options),
        "checkpoint": checkpoint_difference(optimizer, options, folder),
    }


class OptimizerDistributedTester:
    """Subclass and fill in; `optimizer` is `"module:class"`."""

    optimizer: ClassVar[str]
    options: ClassVar[dict[str, Any]]
    #: Options beside `options`, by name, for bare split tensors.
    variants: ClassVar[dict[str, dict[str, Any]]] = {"plain": {}}
    tolerance: ClassVar[float] = 2e-5

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("checkpoint") / "dcp"

    @pytest.fixture(scope="class")
    def ranks(self, folder: Path) -> list[dict[str, Any]]:
        """What each of two processes has found."""
        keywords = {"optimizer": self.optimizer, "options": self.options, "folder": str(folder)}
        variants = {name: self.options | extra for name, extra in self.variants.items()}
        return run_function(all_differences, nproc=2, variants=variants, **keywords)

    def test_split_tensors_equal_whole_ones(self, ranks: list[dict[str, Any]]) -> None:
        for rank in ranks:
            assert len(rank["split"]) == 4 * len(self.variants)
            assert {case: value for case, value in rank["split"].items() if not value < self.tolerance} == {}

    @pytest.mark.parametrize("engine", ["ddp", "fsdp2", "zero"])
    def test_engines_equal_one_process(self, ranks: list[dict[str, Any]], engine: str) -> None:
        assert all(rank["module"][engine] < self.tolerance for rank in ranks), ranks

    def test_a_distributed_checkpoint_resumes_to_the_bit(self, ranks: list[dict[str, Any]]) -> None:
        assert [rank["checkpoint"] for rank in ranks] == [0.0, 0.0]

    def test_a_distributed_checkpoint_resumes_on_one_process(self, ranks: list[dict[str, Any]], folder: Path) -> None:
        assert finish_on_one_process(self.optimizer, self.options, folder) < self.tolerance

    @pytest.mark.slow
    @pytest.mark.parametrize("use_orig_params", [True, False])
    def test_fsdp1_raises(self, use_orig_params: bool) -> None:
        keywords = {"optimizer": self.optimizer, "options": self.options, "use_orig_params": use_orig_params}
        assert all("FSDP2" in message for message in run_function(fsdp1_message, nproc=2, **keywords))
