# SPDX-License-Identifier: Apache-2.0
"""Settings survive a folder and the Hub; bytes are counted and foretold."""

import json

import pytest
import torch
from torch import nn

from eigenhub.optim import (
    AuON,
    DCTAdamW,
    HybridAuON,
    OptimizerConfig,
    Trion,
    basis_bytes,
    memory_report,
    state_numbers,
)
from eigenhub.optim.bases import get_basis
from tests.common.optimizer_tester import make_parameters, run_steps
from tests.support.hub_server import run_client


OPTIONS = {"lr": 0.01, "rank": 2, "betas": (0.9, 0.95), "lr_aux": 1e-3, "exclude": ["head"]}


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [("dct_adamw", OPTIONS, DCTAdamW), ("trion", OPTIONS, Trion), ("auon", {"gamma": 1.0}, AuON),
     ("hybrid_auon", {"ns_steps": 2}, HybridAuON)],
)  # fmt: skip
def test_settings_are_saved_loaded_and_built(tmp_path, name, options, kind):
    config = OptimizerConfig(name, options)
    path = config.save_pretrained(tmp_path / "run")
    assert path.name == "optimizer_config.json" and json.loads(path.read_text())["optimizer"] == name
    assert OptimizerConfig.from_pretrained(tmp_path / "run") == OptimizerConfig.from_pretrained(path) == config
    assert type(config.build(nn.Linear(4, 4))) is kind


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match="`optimizer` must be one of dct_adamw, trion, auon, hybrid_auon, got 'sgd'"):
        OptimizerConfig("sgd")
    for bad in ({"lr": torch.tensor(1.0)}, {"lr": float("nan")}):
        with pytest.raises(ValueError, match="plain numbers, strings and lists"):
            OptimizerConfig("trion", bad)
    (tmp_path / "optimizer_config.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no optimizer settings"):
        OptimizerConfig.from_pretrained(tmp_path)


@pytest.mark.hub
def test_settings_travel_over_the_hub(hub_server, client_dir):
    code = """
import json
from eigenhub.optim import OptimizerConfig
config = OptimizerConfig("trion", {"lr": 0.01, "rank": 2})
config.save_pretrained("run", push_to_hub=True, repo_id="tester/optimizer-settings")
print(json.dumps(OptimizerConfig.from_pretrained("tester/optimizer-settings") == config))
"""
    assert run_client(code, hub_server, client_dir, block=()).result is True


STATES = [
    (lambda p: DCTAdamW(p, rank=3), {"step": 4 * 2, "exp_avg": 4 * 36, "exp_avg_sq": 4 * 36, "indices": 8 * 3}),
    (lambda p: Trion(p, rank=3), {"momentum_buffer": 4 * 40, "indices": 8 * 3}),
    (lambda p: AuON(p), {"momentum_buffer": 4 * 40}),
]


@pytest.mark.parametrize("build", [build for build, _ in STATES])
def test_the_report_counts_every_byte(build):
    parameters = make_parameters([(12, 8), (8, 20), (3, 6, 4), (5,)])
    optimizer = build([{"params": parameters[:2]}, {"params": parameters[2:], "algorithm": "adamw"}])
    assert memory_report(optimizer).total == 0
    run_steps(optimizer, parameters, range(1))
    report = memory_report(optimizer)
    real = [[t.numel() * t.element_size() for t in optimizer.state[p].values()] for p in parameters]
    assert report.total == sum(map(sum, real)) == sum(report.by_key.values())
    assert report.by_group == (sum(map(sum, real[:2])), sum(map(sum, real[2:]))) and report.parameters == 4


@pytest.mark.parametrize(
    ("name", "build"),
    [("dct_adamw", lambda p: DCTAdamW(p, rank=3)), ("trion", lambda p: Trion(p, rank=3)), ("auon", AuON),
     ("adamw", torch.optim.AdamW), ("muon", torch.optim.Muon)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(12, 8), (8, 20), (9, 9)])
def test_the_formulas_are_the_real_state(name, build, shape):
    (parameter,) = make_parameters([shape])
    optimizer = build([parameter])
    run_steps(optimizer, [parameter], range(1))
    numbers = sum(t.numel() for key, t in optimizer.state[parameter].items() if key != "step")
    assert numbers == state_numbers(name, shape, 3)


@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
def test_error_feedback_costs_what_it_says(kind):
    (parameter,) = make_parameters([(64, 512)])
    optimizer = DCTAdamW([parameter], rank=8, error_feedback=kind, project="right")
    run_steps(optimizer, [parameter], range(1))
    used = memory_report(optimizer).by_key
    size = sum(bytes_ for key, bytes_ in used.items() if key.startswith("error_feedback"))
    assert size == {"fp32": 4 * 64 * 512, "bf16": 2 * 64 * 512, "int8": 64 * 512 + 2 * 4 * 64 * 2}[kind]


def llama(hidden, intermediate, layers, vocabulary=32000):
    matrices = layers * ([(hidden, hidden)] * 4 + [(intermediate, hidden)] * 2 + [(hidden, intermediate)])
    return matrices, [(vocabulary, hidden)] * 2 + [(hidden,)] * (2 * layers + 1)


@pytest.mark.parametrize(
    ("sizes", "rank", "expected"),
    [
        ((1024, 2736, 24), 256, {"adamw": 2.74, "muon": 1.62, "galore": 1.22, "ldadam": 2.51, "apollo": 1.05,
                                 "dion": 1.78, "trion": 1.62, "dct_adamw": 1.06}),
        ((2048, 5461, 24), 512, {"adamw": 9.98, "muon": 5.48, "galore": 3.88, "dion": 6.13, "dct_adamw": 3.24}),
    ],
)  # fmt: skip
def test_totals_of_published_models(sizes, rank, expected):
    """GiB in float32 with everything else in AdamW, and one stored basis matrix for DCT-AdamW."""
    matrices, others = llama(*sizes)
    for name, size in expected.items():
        numbers = sum(state_numbers(name, s, rank) for s in matrices) + sum(state_numbers("adamw", s) for s in others)
        numbers += sizes[0] ** 2 if name == "dct_adamw" else 0
        assert 4 * numbers / 2**30 == pytest.approx(size, abs=0.01), name


def test_unusual_shapes_and_names():
    assert state_numbers("dct_adamw", (5,), 2) == 10 and state_numbers("dct_adamw", (6, 4)) == 48
    assert state_numbers("dct_adamw", (3, 6, 4), 2) == 3 * state_numbers("dct_adamw", (6, 4), 2)
    assert state_numbers("galore", (6, 4), 100) == state_numbers("galore", (6, 4), 4)
    with pytest.raises(ValueError, match="`optimizer` must be one of adamw, muon"):
        state_numbers("soap", (2, 2))


def test_bytes_of_the_basis():
    get_basis.cache_clear()
    parameters = make_parameters([(100, 72), (72, 90)])
    run_steps(DCTAdamW(parameters, rank=4), parameters, range(1))
    cpu = torch.device("cpu")
    assert basis_bytes([72, 72], "dct2", torch.float32, cpu, "auto") == 4 * 72 * 72
    assert basis_bytes([72], "dct2", torch.float32, cpu, "fft") == 0
