# SPDX-License-Identifier: Apache-2.0
"""The parts of the FedSVD benchmarks that their conclusions rest on, on a task of a handful of rows."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.testing import assert_close
from transformers import ViTConfig, ViTForImageClassification

from eigenhub.federated import FedSVDConfig
from eigenhub.federated.sampling import sample_clients
from tests.support.devices import require_package
from tests.support.processes import ROOT


METHODS = ("fedsvd", "ffa", "ffa_orth", "fedavg", "fedex", "flexlora", "flora", "rolora")


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def tiny_model(seed: int) -> PeftModel:
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=3,
    )
    lora = LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    return get_peft_model(ViTForImageClassification(config), lora)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch):
    from support import fedsvd_tasks

    generator = torch.Generator().manual_seed(0)

    def rows(number: int) -> list[dict]:
        labels = torch.randint(0, 3, (number,), generator=generator)
        images = torch.randn(number, 1, 8, 8, generator=generator) + labels[:, None, None, None]
        return [{"pixel_values": x, "labels": y} for x, y in zip(images, labels, strict=True)]

    clients = {f"client{number}": rows(10 + number % 2) for number in range(6)}
    made = fedsvd_tasks.FederatedTask(clients, {"test": rows(30), "dev": rows(20)}, tiny_model, 4, False, 1e-2)
    for name in ("digits", "sentences", "frozen head"):
        monkeypatch.setitem(fedsvd_tasks.TASKS, name, lambda seed: made)
    monkeypatch.setattr(fedsvd_tasks, "digits_task", lambda seed: made)
    return made


def test_a_run_is_the_same_run_again(task) -> None:
    from support.fedsvd_runs import federated_run

    settings = {"task": "digits", "method": "fedsvd", "lr": 0.5, "rounds": 2, "seed": 3, "eval_every": 1}
    first, again = (federated_run(**settings) for _ in range(2))
    assert {key: first[key] for key in ("accuracy", "dev")} == {key: again[key] for key in ("accuracy", "dev")}
    assert set(first["accuracy"]) == {"1", "2"} and first["epsilon"] is None
    assert 0 < first["dev"] <= 100 and first["upload_bytes"] == 2 * 3 * 2 * 16 * 4 * 4  # rounds, clients, layers, B


@require_package("opacus")
def test_a_private_run_spends_its_budget(task) -> None:
    from support.fedsvd_runs import federated_run

    found = federated_run(task="digits", method="ffa", lr=0.5, rounds=2, seed=0, dp_clip=2.0, eval_every=2)
    assert 5 < found["epsilon"] <= 6


def test_fedavg_is_inexact_and_fedsvd_is_ffa_orth_under_sgd_alone(task) -> None:
    from support.fedsvd_findings import aggregation_errors, product_differences

    assert (
        max(aggregation_errors("fedsvd", 2)["errors"]) < 1e-7 < 1e-3 < max(aggregation_errors("fedavg", 2)["errors"])
    )
    sgd = product_differences("ffa_orth", "sgd", 0.5, "float64", 3)["differences"]
    adam = product_differences("ffa_orth", "adamw_torch", 1e-2, "float64", 3)["differences"]
    kaiming = product_differences("ffa", "sgd", 0.5, "float64", 2)["differences"]
    assert len(sgd) == 3 and max(sgd) < 1e-10
    assert max(adam[:2]) < 1e-10 < 1e-2 < adam[2]  # the bases part at the end of the second round
    assert kaiming[0] < 1e-10 < 1e-2 < kaiming[1]


def test_the_loop_by_hand_ends_where_the_engine_does(task, tmp_path: Path) -> None:
    from support.fedsvd_bare import bare_rounds
    from support.fedsvd_runs import CLIP, LOCAL_STEPS, new_trainer, quiet

    with quiet():
        trainer = new_trainer(task, "ffa", 0.3, 3, 1, str(tmp_path), eval_every=3)
        trainer.train()
    chosen = [sample_clients(trainer.clients, number, trainer.config) for number in (1, 2, 3)]
    by_hand = bare_rounds(task, tiny_model(1), chosen, LOCAL_STEPS, 0.3, CLIP, 1)
    assert by_hand and max(float(tensor.abs().max()) for tensor in by_hand.values()) > 0
    for name, tensor in by_hand.items():
        assert_close(tensor, trainer.server.state[name.replace(".default.", ".")], rtol=1e-4, atol=1e-6)


def test_initial_condition_is_that_of_pefts_distribution() -> None:
    from support.fedsvd_findings import initial_condition

    found = initial_condition(4000, 2)  # rows of length 1/sqrt(3), nearly orthogonal
    assert found["smallest"] < 1 / math.sqrt(3) < found["largest"]
    assert 1 <= min(found["kappa"]) and max(found["kappa"]) < 1.2
    assert initial_condition(64, 16)["largest"] > found["largest"]


def test_rates_are_chosen_on_dev_and_reported_on_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fedsvd_methods

    asked = []

    def run(cache: Path, **task: object) -> dict:
        asked.append((task["method"], task["lr"], task["seed"]))
        best = task["lr"] == 0.2
        return {"accuracy": {"6": 0.0, "12": 60.0 if best else 90.0}, "dev": 80.0 if best else 70.0}

    monkeypatch.setattr(fedsvd_methods, "one_run", run)
    table = fedsvd_methods.sentences("sentences", (0, 1, 2), True, tmp_path)
    assert list(table) == ["no privacy", "epsilon 6"] and list(table["epsilon 6"]) == list(METHODS)
    entry = table["no privacy"]["fedavg"]
    assert entry["lr"] == 0.2 and fedsvd_methods.finals(entry) == [60.0] * 3
    assert {lr for _, lr, seed in asked if seed} == {0.2}, "other seeds run at the chosen rate only"


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_those_of_the_package(method: str) -> None:
    import fedsvd_methods

    assert method in fedsvd_methods.METHODS and FedSVDConfig(method=method)


def test_rows_and_figures_of_a_table() -> None:
    from fedsvd_methods import claims, table_rows
    from support.fedsvd_card import card_figures

    def of(*finals: float) -> dict:
        return {"lr": 0.5, "runs": [{"accuracy": {"5": 10.0, "20": value}} for value in finals]}

    names = ("fedsvd", "ffa", "ffa_orth", "fedavg")
    modes = {
        "no privacy": dict.fromkeys((*names, "ffa, lr x 3"), of(50, 60)),
        "epsilon 6": dict.fromkeys((*names, "ffa, lr x 3, C / sqrt 3"), of(30, 40)),
        "AdamW": dict.fromkeys(("fedsvd", "ffa_orth"), of(20, 30)),
    }
    modes["no privacy"]["ffa"] = of(45, 58)
    rows = table_rows("digits", modes)
    assert rows[1]["what"] == "digits, no privacy: ffa" and rows[1]["value"] == 51.5 and rows[1]["range"] == [45, 58]
    assert rows[0]["setting"] == "lr 0.5, 20 rounds; 10.0 after 5"
    less = claims(modes, modes, modes)[0]
    assert (less["what"], less["seeds"]) == ("digits, no privacy: ffa less fedsvd", [-5, -2])
    figures = card_figures({"digits": modes, "frozen head": {"no privacy": modes["no privacy"]}}, [0, 1], "command")
    assert len({figure.id for figure in figures}) == len(figures) == len(rows) + 5
    control = next(figure for figure in figures if figure.id == "digits-dp-ffa-lr-x-3-C-over-sqrt-3")
    assert (control.value, control.task) == (35.0, "image-classification")


@pytest.mark.slow
def test_many_clients_need_no_memory_of_their_own() -> None:
    script = ROOT / "benchmarks" / "support" / "fedsvd_memory.py"
    done = subprocess.run([sys.executable, script, "40", "2", "2"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["rounds"]) == 2 and found["peak"] >= max(found["rounds"]) - 1 > 50


def test_ways_to_refactor_agree_on_a_small_layer() -> None:
    import fedsvd

    b, a = fedsvd.factors(24, 20, 3)
    for way in (fedsvd.dense_svd, fedsvd.truncated):
        assert fedsvd.product_error(b, a, *way(b, a, 3)) < 1e-5
    assert fedsvd.product_error(b, a, b, 2 * a) == pytest.approx(1.0)
    up, rotation = fedsvd.bytes_sent()
    assert up["value"] == 0.5
    assert rotation["value"] == pytest.approx(
        (1024 * 8 * 4 + 64 * 8) / (2 * 1024 * 8 * 4)
    )  # the rotation goes in float64


def test_comparison_of_times_stops_where_results_differ() -> None:
    from support.fedsvd_engine import _check_same

    state, found = {"q.lora_B.weight": torch.ones(2)}, {"q.lora_B.default.weight": torch.ones(2)}
    _check_same(state, found)
    with pytest.raises(RuntimeError, match="different values of q.lora_B"):
        _check_same(state, {"q.lora_B.default.weight": torch.zeros(2) + 2})
