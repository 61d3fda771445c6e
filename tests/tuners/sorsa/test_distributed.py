# SPDX-License-Identifier: Apache-2.0
"""Two CPU processes: the penalty's strength and the parameters are those of one process."""

import os
import tempfile

import pytest
import torch
from torch import nn

from eigenhub.tuners.sorsa import SorsaTrainer, apply_regularizer, orthonormality_penalty, sorsa_param_groups
from eigenhub.tuners.sorsa.routes import add_penalty_gradient
from tests.support.devices import require_deepspeed
from tests.support.distributed import run_function
from tests.support.models import tiny_llama
from tests.tuners.sorsa.helpers import IDS, adapted_llama
from tests.tuners.sorsa.trainers import factors, train, trainer


pytestmark = pytest.mark.slow  # each test starts two processes: about 15 seconds


def assert_same(found: dict, expected: dict) -> None:
    assert found["penalty"] == pytest.approx(expected["penalty"], rel=1e-4)
    assert found["factors"] == pytest.approx(expected["factors"], rel=2e-5, abs=2e-5)


# ---------------------------------------------------------------- data parallel
def data_parallel(routes: list[str], accumulations: list[int]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return {
            f"{route} {accumulation}": train(route, folder, accumulation, processes=2)
            for route in routes
            for accumulation in accumulations
        }


def test_data_parallel_table(tmp_path):
    """Both routes, with and without accumulation: one end, on every rank."""
    expected, without = train("callback", tmp_path), train("none", tmp_path)
    assert without["penalty"] > 1.05 * expected["penalty"]
    ranks = run_function(data_parallel, 2, routes=["callback", "broadcast", "trainer", "none"], accumulations=[1, 4])
    for found in ranks:
        for name, end in found.items():
            assert_same(end, without if name.startswith("none") else expected)
    assert ranks[0] == ranks[1], "the ranks have drifted apart"


# ---------------------------------------------------------------- FSDP2
def model_for_shards(half_base: bool) -> nn.Module:
    base = tiny_llama().bfloat16() if half_base else tiny_llama()
    return adapted_llama(moved=True, base=base, reg_weight=2.0).train()


def sharded_steps(route: str, half_base: bool = False) -> dict:
    """Three SGD steps of a `fully_shard`ed model on this rank's half of the batch."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = model_for_shards(half_base)
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.get_base_model().model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD(sorsa_param_groups(model, 0.05))
    rank = torch.distributed.get_rank()
    for _ in range(3):
        loss = model(input_ids=IDS[rank : rank + 1], labels=IDS[rank : rank + 1]).loss
        if route == "loss":
            loss = loss + orthonormality_penalty(model, weighted=True)
        loss.backward()
        if route == "gradient":
            apply_regularizer(model)
        if route == "broadcast":
            add_penalty_gradient(model, broadcast=True)
        optimizer.step()
        optimizer.zero_grad()
    report = model.base_model.orthonormality()
    return {
        "penalty": float(whole(orthonormality_penalty(model))),
        "factors": factors(model),
        "sharded": sum(hasattr(p, "device_mesh") for p in model.parameters()),
        "defects": sorted(report.values()),
    }


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def one_process(half_base: bool = False, steps: int = 3) -> dict:
    model = model_for_shards(half_base)
    optimizer = torch.optim.SGD(sorsa_param_groups(model, 0.05))
    for _ in range(steps):
        model(input_ids=IDS, labels=IDS).loss.backward()
        apply_regularizer(model)
        optimizer.step()
        optimizer.zero_grad()
    defects = sorted(model.base_model.orthonormality().values())
    return {"penalty": orthonormality_penalty(model).item(), "factors": factors(model), "defects": defects}


@pytest.mark.parametrize("route", ["gradient", "broadcast", "loss"])
def test_fsdp2(route):
    expected = one_process()
    for found in run_function(sharded_steps, 2, route=route):
        assert found["sharded"] > 20
        assert_same(found, expected)
        assert found["defects"] == pytest.approx(expected["defects"], rel=1e-4)


def test_fsdp2_with_a_half_precision_base():
    expected = one_process(half_base=True)
    for found in run_function(sharded_steps, 2, route="gradient", half_base=True):
        assert found["penalty"] == pytest.approx(expected["penalty"], rel=1e-3)
        assert found["factors"] == pytest.approx(expected["factors"], rel=2e-3, abs=2e-3)


# ---------------------------------------------------------------- DeepSpeed
def zero(stage: int, accumulation: int) -> dict:
    from deepspeed.runtime.zero import GatheredParameters

    config = {
        "zero_optimization": {"stage": stage},
        "train_micro_batch_size_per_gpu": 4 // accumulation,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 1.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    del os.environ["ACCELERATE_USE_CPU"]  # it turns DeepSpeed off; without a GPU the device is the CPU anyway
    with tempfile.TemporaryDirectory() as folder:
        model = adapted_llama(moved=True, reg_weight=2.0)
        run = trainer(
            model, folder, SorsaTrainer, per_device_train_batch_size=4 // accumulation,
            gradient_accumulation_steps=accumulation, deepspeed=config, use_cpu=False,
            max_grad_norm=1.0,
        )  # fmt: skip
        run.train()
        try:
            apply_regularizer(run.model_wrapped)
            refused = ""
        except RuntimeError as error:
            refused = str(error)
        penalty = orthonormality_penalty(model).item()
        defects = model.base_model.orthonormality()
        parameters = [p for name, p in sorted(model.named_parameters()) if p.requires_grad]
        with GatheredParameters(parameters, enabled=stage == 3):
            found = factors(model)
    return {"penalty": penalty, "factors": found, "refused": refused, "defects": len(defects)}


@require_deepspeed
@pytest.mark.parametrize(("stage", "accumulation"), [(0, 2), (2, 2), (3, 1), (3, 2)])
def test_deepspeed_loss_route(stage, accumulation, tmp_path):
    # Without a GPU accelerate counts one process under DeepSpeed: both ranks of the engine see the same four rows.
    expected = train("trainer", tmp_path, processes=2, max_grad_norm=1.0)
    for found in run_function(zero, 2, stage=stage, accumulation=accumulation):
        assert "DeepSpeed" in found["refused"] and found["defects"] == 8
        assert_same(found, expected)


def partitioned_start() -> dict:
    """A base partitioned by ZeRO-3 before the adapter is added: the weight is gathered for its decomposition."""
    import deepspeed
    from peft import get_peft_model
    from transformers.integrations import HfDeepSpeedConfig

    from eigenhub.tuners.sorsa import SorsaConfig
    from tests.tuners.sorsa.helpers import layers_of, random_weight

    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    known = HfDeepSpeedConfig(config)  # what tells PEFT and transformers of ZeRO-3; alive as long as it is needed
    with deepspeed.zero.Init(config_dict_or_path=known.config):
        base = nn.ModuleDict({"linear": nn.Linear(12, 9, bias=False)})
    weight = random_weight(9, 12, torch.float32)
    with deepspeed.zero.GatheredParameters(base["linear"].weight, modifier_rank=0):
        if torch.distributed.get_rank() == 0:
            base["linear"].weight.data.copy_(weight)
    assert base["linear"].weight.numel() == 0
    model = get_peft_model(base, SorsaConfig(r=3, target_modules=["linear"]))
    values = torch.linalg.svdvals(weight)[:3]
    (layer,) = layers_of(model)
    return {
        "error": (layer.sorsa_S["default"] - values).abs().max().item(),
        "shape": list(layer.sorsa_U["default"].shape),
    }


@require_deepspeed
def test_deepspeed_partitioned_base():
    for found in run_function(partitioned_start, 2):
        assert found["error"] < 1e-5 and found["shape"] == [9, 3]
