# SPDX-License-Identifier: Apache-2.0
"""The app of `scripts/fedsvd/flower_app`, run in this process."""

import json
import sys
import tomllib

import pytest
import torch


pytest.importorskip("flwr")

from datasets import Dataset
from flwr.app import Context, RecordDict
from peft import PeftModel
from transformers import AutoModelForImageClassification, BertForSequenceClassification

from eigenhub.embedded.digits import load_digits
from eigenhub.embedded.vit import pretrained_vit_folder
from eigenhub.federated.flower import InProcessGrid
from tests.house.sources import ROOT
from tests.support.data import TEXTS
from tests.support.models import tiny_bert, tiny_tokenizer


APP = ROOT / "scripts" / "fedsvd" / "flower_app"


@pytest.fixture
def app(monkeypatch):
    """Its modules, which no other test shall see."""
    monkeypatch.syspath_prepend(str(APP))
    from fedsvd_app import client_app, server_app, task

    yield client_app, server_app, task
    for name in [name for name in sys.modules if name.split(".")[0] == "fedsvd_app"]:
        del sys.modules[name]


def run_config(**options):
    declared = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert set(options) <= set(declared)
    return declared | options


def play(app, run, nodes):
    client_app, server_app, _ = app
    context = Context(1, 1, {}, RecordDict(), run)
    with InProcessGrid(client_app.app, nodes, run) as grid:
        server_app.app(grid, context)


def test_the_components_are_there(app):
    table = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    for component, module in zip(("clientapp", "serverapp"), app[:2], strict=True):
        name, _, attribute = table["components"][component].partition(":")
        assert (module.__name__, attribute) == (name, "app")
    assert table["publisher"]


def test_the_digits_are_learnt_and_stock_peft_loads_the_result(app, tmp_path):
    run = run_config(**{"num-rounds": 6, "output-dir": str(tmp_path)})
    play(app, run, 2)
    history = json.loads((tmp_path / "history.json").read_text())
    accuracies = [record["eval_accuracy"] for record in history["server"].values()]
    assert accuracies[0] < 0.3 and accuracies[-1] > accuracies[0] + 0.2
    assert [record["failures"] for record in history["rounds"]] == [{}] * 6
    base = AutoModelForImageClassification.from_pretrained(pretrained_vit_folder())
    model = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    rows = load_digits()["test"]
    with torch.no_grad():
        predicted = model(pixel_values=rows[:]["pixel_values"]).logits.argmax(-1)
    assert (predicted == rows[:]["labels"]).float().mean().item() == pytest.approx(accuracies[-1], abs=2e-3)


def test_any_text_classifier_on_files_of_ones_own(app, tmp_path):
    tiny_bert(num_labels=2, initializer_range=0.5).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    for name in ("ulm", "bern", "common"):
        (tmp_path / name).mkdir()
        rows = [{"sentence": text, "label": index % 2, "id": index} for index, text in enumerate([*TEXTS] * 3)]
        for split in ("train", "validation"):
            Dataset.from_list(rows).to_json(tmp_path / name / f"{split}.jsonl")
    run = run_config(
        **{
            "model": str(tmp_path / "model"),
            "target-modules": "query,value",
            "dataset": str(tmp_path / "common"),
            "num-rounds": 2,
            "local-steps": 2,
            "batch-size": 4,
            "output-dir": str(tmp_path / "out"),
        }
    )
    play(app, run, [{"client-id": name, "data-path": str(tmp_path / name)} for name in ("ulm", "bern")])
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [record["failures"] for record in history["rounds"]] == [{}, {}]
    assert all("eval_accuracy" in record for record in history["rounds"])
    base = BertForSequenceClassification.from_pretrained(tmp_path / "model")
    PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")


def test_clients_share_no_rows_and_hold_some_out(app):
    task = app[2]
    parts = [task.client_data(run_config(), {"partition-id": i, "num-partitions": 3}) for i in range(3)]
    assert sum(len(part["train"]) + len(part["test"]) for part in parts) == len(load_digits()["train"])
    assert all(0.15 < len(part["test"]) / (len(part["train"]) + len(part["test"])) < 0.25 for part in parts)
    with pytest.raises(ValueError, match="needs `data-path`, or `partition-id` and `num-partitions`"):
        task.client_data(run_config(), {})


def test_privacy_is_a_matter_of_the_run_configuration(app):
    task = app[2]
    assert task.federation_of(run_config()).dp is None
    config = task.federation_of(run_config(**{"dp-epsilon": 6.0}))
    assert (config.dp.target_epsilon, config.dp.target_delta, config.weighting) == (6.0, 1e-5, "uniform")
