# SPDX-License-Identifier: Apache-2.0
"""The federated script: the common matrix on the embedded digits, its methods, tasks, privacy, and configurations."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from transformers import RobertaForSequenceClassification, ViTForImageClassification

from eigenhub.embedded.roberta import small_roberta_config
from eigenhub.embedded.roberta_tokenizer import train_roberta_tokenizer
from eigenhub.embedded.vit import small_vit_config
from tests.common.script_tester import Run, SlowScriptTester
from tests.scripts.loading import load_script
from tests.support.devices import require_package
from tests.support.processes import ROOT


SCRIPT = ROOT / "scripts" / "fedsvd" / "train_fedsvd.py"
CONFIGS = sorted((SCRIPT.parent / "configs").glob("*.yaml"))
LOAD = """
import sys
import torch
from peft import PeftModel
from transformers import ViTConfig, ViTForImageClassification

shape = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, image_size=8, patch_size=2)
base = ViTForImageClassification(ViTConfig(**shape, num_channels=1, num_labels=10))
model = PeftModel.from_pretrained(base, sys.argv[1])
config = model.peft_config["default"]
assert (config.peft_type.value, config.r, config.lora_alpha) == ("LORA", 4, 4.0), config
matrices = {name: value for name, value in model.state_dict().items() if "lora_A" in name}
assert len(matrices) == 6
for a in matrices.values():
    assert torch.allclose(a @ a.T, torch.eye(4), atol=1e-5), "rows of A are not orthonormal"
assert not any(name.split(".")[0] == "eigenhub" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPT.parent))  # its siblings, as when it is run
    yield load_script(SCRIPT)
    sys.path.remove(str(SCRIPT.parent))


class TestFedSvdScript(SlowScriptTester):
    """A step of its metrics is a round; the fixture is slow, options and help are not."""

    slug = "fedsvd"
    script = "train_fedsvd.py"
    arguments = (
        *("--rank", "4", "--init_A", "orthonormal", "--fraction", "1", "--local_steps", "2", "--clients", "3"),
        *("--per_device_batch_size", "16", "--lr", "0.5", "--eval_batch_size", "300", "--eval_every", "5"),
    )
    bad_flags = (
        (("--fraction", "0"), r"--fraction must be in \(0, 1\], got 0.0"),
        (("--dropout", "1"), r"--dropout must be in \[0, 1\), got 1.0"),
        (("--lr", "0"), "--lr must be positive, got 0.0"),
        (("--local_epochs", "1"), "--local_steps and --local_epochs exclude each other"),
        (("--downlink", "rotation", "--method", "fedavg"), "--downlink rotation needs --method fedsvd, ffa, ffa_orth"),
        (("--partition", "natural_id"), "--partition natural_id and --client_column go together"),
        (("--client_ranks", "2", "4"), "--client_ranks must be 3, one per client, or NAME=RANK; got 2"),
        (("--client_ranks", "2", "4", "9"), r"the rank of client_2 must be in \[1, 4\], got '9'"),
        (("--min_clients", "4"), "--min_clients is 4, but only 3 of 3 clients train in a round"),
        (("--personalized_steps", "3"), "--personalized_steps needs --client_eval_share"),
        (("--epsilon", "3"), "--epsilon is for --dp, without which nothing is private"),
        (("--dp",), "--checkpoint_every must be 1 under --dp, got 6"),
        (("--dp", "--delta", "1"), r"--delta must be in \(0, 1\), got 1.0"),
        (("--dp", "--client_eval_share", "0.1"), "--client_eval_share under --dp needs --private_metrics"),
        (("--task", "sentences"), "--task sentences needs --dataset"),
        (("--task", "sentences", "--dataset", "./no.tsv"), "no such data file or folder: ./no.tsv"),
        (("--task", "causal_lm", "--dataset", "./no.jsonl"), "no such data file or folder: ./no.jsonl"),
        (("--task", "causal_lm", "--partition", "shard"), "--partition shard needs --label_column"),
        (("--dataset", "a/b"), "--task digits brings its own data, got --dataset a/b"),
        (("--model", "./nothing"), "--model: no such folder: ./nothing"),
        (("--load_in_4bit",), "--load_in_4bit is for --task causal_lm with a --model"),
        (("--push_to_hub",), "--push_to_hub needs --hub_model_id"),
        (("--resume", "./nothing"), "--resume: ./nothing is not a complete round"),
        (("--method", "magic"), "invalid choice: 'magic'"),
    )
    load_code = LOAD

    def test_summary_and_metrics(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert (summary["num_processes"], summary["rounds"], summary["clients"]) == (straight.nproc, 20, 3)
        assert summary["final_loss"] == straight.losses[-1]
        assert summary["evaluation"]["test"]["eval_accuracy"] == straight.metrics[-1]["eval_accuracy"]
        assert summary["download_bytes"] == 2 * summary["upload_bytes"] == 2 * 6 * 64 * 4 * 4
        assert sum("eval_loss" in row for row in straight.metrics) == 4

    def test_card_shows_what_was_measured_and_its_command(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        card = (straight.folder / "README.md").read_text()
        assert f"{summary['evaluation']['test']['eval_accuracy']:.4f}".rstrip("0") in card
        assert summary["settings"]["command"] in card and str(straight.folder) not in card


def test_choices_are_those_of_the_package(script: ModuleType) -> None:
    import fedsvd_options as options

    from eigenhub.federated import dp_config, partition
    from eigenhub.federated.config import CHOICES
    from eigenhub.federated.recipes import RECIPES
    from eigenhub.linalg.lowrank import SIGN_RULES

    assert tuple(RECIPES) == options.METHODS == CHOICES["method"]
    assert options.B_ONLY == tuple(name for name, recipe in RECIPES.items() if recipe.trains == ("B",))
    assert options.MOVE_BASE == tuple(name for name, recipe in RECIPES.items() if recipe.moves_base)
    assert options.SIGN_RULES == SIGN_RULES
    assert (options.ACCOUNTANTS, options.GRAD_SAMPLE_MODES) == (dp_config.ACCOUNTANTS, dp_config.GRAD_SAMPLE_MODES)
    assert all(callable(getattr(partition, name)) for name in options.PARTITIONS)
    parser = script.make_parser("")
    options.add_federation_options(parser)
    given = {action.dest: action.choices for action in parser._actions if action.choices}
    assert {name: tuple(given[name]) for name in given} == {name: CHOICES[name] for name in given}
    assert set(given) == set(CHOICES) - {"method"}


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained classifier of digits with one layer of width 16."""
    config = small_vit_config()
    config.update({"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16})
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-vit")
    ViTForImageClassification(config).save_pretrained(folder)
    return str(folder)


def tiny_run(script: ModuleType, folder: Path, model: str, *flags: str) -> tuple[Any, dict]:
    shape = ["--r", "2", "--rounds", "2", "--clients", "3", "--local_steps", "2", "--per_device_batch_size", "8"]
    few = ["--eval_samples", "40", "--eval_batch_size", "40", "--seed", "0"]
    return script.main([*shape, *few, "--model", model, "--output_dir", str(folder), *flags])


@pytest.mark.parametrize("method", ["fedsvd", "ffa", "ffa_orth", "fedavg", "fedex", "flexlora", "flora", "rolora"])
def test_methods_train_and_save(script: ModuleType, tiny_vit: str, tmp_path: Path, method: str) -> None:
    flags = ("--method", method, "--aggregation_error", "--client_eval_share", "0.2", "--client_eval_every", "1")
    trainer, summary = tiny_run(script, tmp_path, tiny_vit, *flags)
    assert (summary["method"], summary["rounds"], summary["failed_replies"]) == (method, 2, 0)
    both = method not in ("fedsvd", "ffa", "ffa_orth", "rolora")
    assert summary["upload_bytes"] == (2 if both else 1) * 2 * 16 * 2 * 4
    assert load_file(tmp_path / "adapter_model.safetensors")
    assert (tmp_path / "README.md").is_file() and (tmp_path / "fedsvd_config.json").is_file()
    first, last = Run(tmp_path, 1).metrics
    assert (first["step"], last["step"]) == (1, 2) and set(first["held_out"]["clients"]) == set(trainer.clients)
    # clients share A in the first round of all methods that freeze it, and in the second unless A was trained then
    assert (first["aggregation_error"] > 1e-6) == both
    assert len(last["singular_values"]) == 2 and last["singular_values"] == sorted(last["singular_values"])[::-1]


def test_singular_values_are_those_of_the_products(script: ModuleType) -> None:
    from fedsvd_report import spectrum

    from eigenhub.federated import AggregateResult

    a, b = torch.randn(3, 7, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    found = spectrum(AggregateResult({"q.lora_A.weight": a, "q.lora_B.weight": b}))["singular_values"]
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), torch.linalg.svdvals(b @ a)[:3])


def test_resume_from_a_round_gives_the_same_to_the_bit(script: ModuleType, tiny_vit: str, tmp_path: Path) -> None:
    flags = ("--rounds", "3", "--keep_checkpoints", "3", "--dropout", "0.1")
    tiny_run(script, tmp_path / "straight", tiny_vit, *flags)
    first = tmp_path / "straight" / "checkpoints" / "round_0001"
    _, summary = tiny_run(script, tmp_path / "resumed", tiny_vit, *flags, "--resume", str(first))
    names = ("adapter_model.safetensors",)
    for name in names:
        straight, resumed = (load_file(tmp_path / run / name) for run in ("straight", "resumed"))
        assert all(straight[key].equal(resumed[key]) for key in straight)
    rows = [Run(tmp_path / run, 1).metrics for run in ("straight", "resumed")]
    assert [row["loss"] for row in rows[0][1:]] == [row["loss"] for row in rows[1]]
    assert summary["rounds"] == 3


def test_a_finished_run_is_not_overwritten(
    script: ModuleType, tiny_vit: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tiny_run(script, tmp_path, tiny_vit)
    kept = load_file(tmp_path / "adapter_model.safetensors")
    for flags, said in (
        ((), "holds rounds of a run: pass --resume auto or another --output_dir"),
        (("--resume", "auto", "--lr", "0.1"), "was written by another run (lr: 0.5 there, 0.1 here)"),
    ):
        with pytest.raises(SystemExit):
            tiny_run(script, tmp_path, tiny_vit, *flags)
        assert said in capsys.readouterr().err
    _, summary = tiny_run(script, tmp_path, tiny_vit, "--resume", "auto")
    assert "resumed after round 2 (step 2 of the metrics)" in capsys.readouterr().out
    again = load_file(tmp_path / "adapter_model.safetensors")
    assert all(again[key].equal(kept[key]) for key in kept) and summary["rounds"] == 2


def test_downlink_and_precision_reach_the_package(script: ModuleType, tiny_vit: str, tmp_path: Path) -> None:
    flags = ("--downlink", "rotation", "--weighting", "uniform", "--refactor_every", "2", "--rslora", "--train_head")
    trainer, _ = tiny_run(script, tmp_path, tiny_vit, *flags)
    config = json.loads((tmp_path / "fedsvd_config.json").read_text())
    assert {name: config[name] for name in ("downlink", "weighting", "refactor_every", "train_head")} == {
        "downlink": "rotation",
        "weighting": "uniform",
        "refactor_every": 2,
        "train_head": True,
    }
    assert json.loads((tmp_path / "adapter_config.json").read_text())["use_rslora"] is True
    assert any("classifier" in key for key in trainer.server.upload_keys)


def test_clients_of_several_ranks(script: ModuleType, tiny_vit: str, tmp_path: Path) -> None:
    _, summary = tiny_run(script, tmp_path, tiny_vit, "--client_ranks", "1", "2", "1", "--fraction", "1")
    assert summary["upload_bytes"] == pytest.approx((1 + 2 + 1) / 3 * 2 * 16 * 4)


def test_a_missed_quorum_stops_the_run(
    script: ModuleType, tiny_vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from eigenhub.federated import trainer as module

    run_client = module.run_client

    def failing(model: Any, state: Any, factors: Any, rows: Any, job: Any, *rest: Any) -> Any:
        if (job.client_id, job.round) == ("client_1", 2):
            raise ValueError("the line is dead")
        return run_client(model, state, factors, rows, job, *rest)

    monkeypatch.setattr(module, "run_client", failing)
    flags = ("--fraction", "1", "--min_clients", "3", "--rounds", "3")
    with pytest.raises(SystemExit, match="stopped: round 2: 2 usable replies.*client_1.*go on with --resume auto"):
        tiny_run(script, tmp_path, tiny_vit, *flags)
    assert "client client_1 failed: ValueError: the line is dead" in capsys.readouterr().out
    monkeypatch.undo()
    assert tiny_run(script, tmp_path, tiny_vit, *flags, "--resume", "auto")[1]["rounds"] == 3


@require_package("opacus")
@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_privacy(script: ModuleType, tiny_vit: str, tmp_path: Path, capsys: pytest.CaptureFixture, mode: str) -> None:
    private = ("--dp", "--epsilon", "8", "--delta", "1e-3", "--accountant", "rdp", "--grad_sample_mode", mode)
    _, summary = tiny_run(script, tmp_path, tiny_vit, *private, "--physical_batch_size", "16")
    assert 0 < summary["epsilon"] <= 8 and summary["final_loss"] is None
    rows = Run(tmp_path, 1).metrics
    assert all("loss" not in row and "eval_accuracy" in row for row in rows)
    assert rows[0]["epsilon"] <= rows[1]["epsilon"] == summary["epsilon"]
    assert "epsilon = " in summary["claim"] and summary["claim"] in capsys.readouterr().out
    ledger = json.loads((tmp_path / "privacy_ledger.json").read_text())
    assert ledger["claim"] == summary["claim"] and ledger["claim"] in (tmp_path / "README.md").read_text()
    config = json.loads((tmp_path / "fedsvd_config.json").read_text())
    assert (config["weighting"], config["client_sampling"]) == ("uniform", "balanced")
    measured = yaml.safe_load((tmp_path / "results.yaml").read_text())["measured"][0]
    assert f"epsilon {summary['epsilon']:.3g} at delta 0.001" in measured["setting"]


def test_privacy_needs_a_base_that_has_not_seen_the_clients(script: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "train.tsv"
    table.write_text("good\t1\nbad\t0\n")
    args = ["--task", "sentences", "--dataset", str(table), "--column_names", "sentence", "label"]
    assert script.parse_args([*args, "--dp"]).public_share == 0.5
    assert script.parse_args([*args, "--model", "FacebookAI/roberta-base"]).public_share == 0
    with pytest.raises(SystemExit):
        script.parse_args([*args, "--dp", "--public_share", "0"])


def test_digits_of_pretraining_clients_and_test_are_disjoint(script: ModuleType) -> None:
    from fedsvd_digits import federated_digits

    parts = {name: federated_digits(name)[:]["pixel_values"].flatten(1) for name in ("pretraining", "clients", "test")}
    assert {name: len(rows) for name, rows in parts.items()} == {"pretraining": 600, "clients": 900, "test": 297}
    for first, second in (("pretraining", "clients"), ("pretraining", "test"), ("clients", "test")):
        assert torch.cdist(parts[first], parts[second]).min() > 0


def partition_arguments(**given: Any) -> Namespace:
    settings = {"clients": 4, "seed": 0, "dirichlet_alpha": 0.5, "min_client_size": 2, "shards_per_client": 2}
    return Namespace(**settings | {"client_column": None, "client_eval_share": 0.25, "public_share": 0.5} | given)


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shard", "natural_id"])
def test_rows_are_dealt_once(script: ModuleType, partition: str) -> None:
    from fedsvd_clients import deal, hold_out, set_public_aside

    count = 120
    owners = [f"writer {row % 5}" for row in range(count)]
    rows = Dataset.from_dict({"row": range(count), "labels": [row % 3 for row in range(count)], "owner": owners})
    args = partition_arguments(partition=partition, client_column="owner" if partition == "natural_id" else None)
    public, private = set_public_aside(args, rows)
    dealt = deal(args, private, "labels")
    kept, held_out = hold_out(args, dealt)
    assert len(public) == len(private) == 60
    assert list(dealt) == list(kept) == list(held_out) and len(dealt) == (5 if partition == "natural_id" else 4)
    numbers = [row for part in (public, *kept.values(), *held_out.values()) for row in part["row"][:]]
    assert sorted(numbers) == list(range(count))
    assert all(len(held_out[name]) == round(0.25 * len(dealt[name])) for name in dealt)
    if partition == "natural_id":
        assert all(set(part["owner"][:]) == {name} for name, part in kept.items())


@pytest.fixture(scope="module")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny-roberta")
    tokenizer = train_roberta_tokenizer(["good and better", "bad and worse"] * 8, 300, 64)
    torch.manual_seed(0)
    RobertaForSequenceClassification(small_roberta_config(tokenizer, 16, 1)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_tables(folder: Path, kind: str) -> tuple[str, ...]:
    """Forty training sentences of two classes and four writers, eight sentences to test on."""
    for split, count in (("train", 40), ("dev", 8)):
        rows = [(f'"a {["bad", "good"][i % 2]} film', ["worse", "better"][i % 2], f"w{i % 4}") for i in range(count)]
        if kind == "tsv":
            text = "".join("\t".join(row) + "\n" for row in rows)
        elif kind == "csv":
            quoted = (('"' + row[0].replace('"', '""') + '"', *row[1:]) for row in rows)
            text = "sentence,label,writer\n" + "".join(",".join(row) + "\n" for row in quoted)
        else:
            names = ("sentence", "label", "writer")
            text = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
        (folder / f"{split}.{kind}").write_text(text)
    return ("--column_names", "sentence", "label", "writer") if kind == "tsv" else ()


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
def test_sentences_from_tables(script: ModuleType, tiny_roberta: str, tmp_path: Path, kind: str) -> None:
    flags = (*write_tables(tmp_path, kind), "--task", "sentences", "--dataset", str(tmp_path), "--eval_splits", "dev")
    owners = ("--partition", "natural_id", "--client_column", "writer")
    trainer, summary = tiny_run(script, tmp_path / "out", tiny_roberta, *flags, *owners)
    assert trainer.clients == ["w0", "w1", "w2", "w3"] and trainer.model.config.id2label == {0: "better", 1: "worse"}
    assert set(summary["evaluation"]["dev"]) == {"eval_loss", "eval_accuracy"}
    state = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert any("classifier" in name for name in state), "the random head must travel with the adapter"
    text = trainer.processing_class.decode(trainer.client_datasets["w0"][0]["input_ids"], skip_special_tokens=True)
    assert text.strip().strip('"') == "a bad film"
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_what_is_wrong_with_tables_is_said(script: ModuleType, tiny_roberta: str, tmp_path: Path) -> None:
    names = write_tables(tmp_path, "tsv")
    flags = (*names, "--task", "sentences", "--dataset", str(tmp_path))
    for more, said in (
        (("--eval_splits", "nothing"), "has no table 'nothing'; there are: dev, train"),
        (("--sentence_columns", "text"), "no column 'text'; its columns are sentence, label, writer"),
        (("--partition", "natural_id", "--client_column", "who"), "no column 'who'"),
    ):
        with pytest.raises(ValueError, match=said):
            tiny_run(script, tmp_path / "out", tiny_roberta, *flags, *more)
    (tmp_path / "odd.tsv").write_text("a film\tunheard\tw0\n")
    with pytest.raises(ValueError, match="class 'unheard' does not occur in training; known are better, worse"):
        tiny_run(script, tmp_path / "out", tiny_roberta, *flags, "--eval_splits", "odd")


def test_instructions_with_inputs(script: ModuleType) -> None:
    from fedsvd_language import with_inputs

    rows = Dataset.from_dict({"do": ["sum", "greet"], "with": ["1 2", ""], "out": ["3", "hello"]})
    joined = with_inputs(Namespace(prompt_column="do", input_column="with"), rows)
    assert joined["do"][:] == ["sum\n\n1 2", "greet"]
    with pytest.raises(ValueError, match="no column 'else'; its columns are do, with, out"):
        with_inputs(Namespace(prompt_column="do", input_column="else"), rows)


@pytest.mark.slow
def test_causal_language_model(script: ModuleType, tmp_path: Path) -> None:
    """The loss is on responses alone, and falls."""
    config = SCRIPT.parent / "configs" / "arithmetic.yaml"
    flags = ["--rounds", "6", "--eval_samples", "40", "--output_dir", str(tmp_path)]
    trainer, summary = script.main(["--config", str(config), *flags])
    losses = [row["eval_loss"] for row in Run(tmp_path, 1).metrics]
    assert losses[-1] < 0.8 * losses[0]
    row = trainer.client_datasets[trainer.clients[0]][0]
    learned = [label for label in row["labels"] if label != -100]
    assert 0 < len(learned) < len(row["input_ids"]) and row["labels"][0] == -100
    assert trainer.processing_class.decode(learned).rstrip().endswith("<|end|>")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    assert list(summary["evaluation"]["test"]) == ["eval_loss"]


@pytest.mark.slow
def test_embedded_model_knows_turned_digits_only(script: ModuleType) -> None:
    from fedsvd_digits import federated_digits, turned_vit_folder

    model = ViTForImageClassification.from_pretrained(turned_vit_folder()).eval()
    right = []
    for turns in (1, 0):
        rows = federated_digits("test", turns)[:]
        with torch.no_grad():
            found = model(pixel_values=rows["pixel_values"]).logits.argmax(-1)
        right.append((found == rows["labels"]).float().mean().item())
    assert right[0] > 0.9 and right[1] < 0.3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid(script: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("fedsvd_checks._check_table", lambda source: None)  # data need not be here
    args = script.parse_args(["--config", str(path)])
    assert args.output_dir.parts[0] == "runs" and args.output_dir.name.startswith("fedsvd-")
    written = yaml.safe_load(path.read_text())
    text = {name for name, value in written.items() if isinstance(value, str)}  # YAML reads 1e-5 as text
    assert {name: getattr(args, name) for name in written.keys() - text} == {
        name: value for name, value in written.items() if name not in text
    }


@pytest.mark.parametrize("task", ["sst2", "mnli", "qnli", "qqp", "snli"])
def test_published_runs_have_the_published_settings(script: ModuleType, task: str) -> None:
    from fedsvd_setup import federated_config

    configs = SCRIPT.parent / "configs"
    plain = script.parse_args(["--config", str(configs / f"{task}.yaml")])
    assert (plain.model, plain.max_length, plain.target_modules) == (
        "FacebookAI/roberta-large",
        128,
        ["query", "value"],
    )
    assert (plain.r, plain.alpha, plain.dropout, plain.optimizer, plain.lr) == (8, 8.0, 0.05, "sgd", 0.5)
    assert plain.per_device_batch_size * plain.gradient_accumulation_steps == 128
    assert (plain.weight_decay, plain.max_grad_norm, plain.lr_scheduler) == (0.0, 1.0, "constant")
    assert (plain.clients, plain.partition, plain.dirichlet_alpha) == (6, "dirichlet", 0.5)
    config = federated_config(plain)
    assert (config.num_rounds, config.local_steps, config.client_fraction, config.train_head) == (100, 10, 0.5, False)
    assert (config.init_A, config.refactor_every, config.refactor_warmup, config.dp) == ("keep", 1, 0, None)
    # the same without a file: the tasks know their recipe
    bare = script.parse_args(["--task", task])
    same = ("lr", "optimizer", "clients", "fraction", "rounds", "per_device_batch_size", "dataset", "model", "dropout")
    assert all(getattr(bare, name) == getattr(plain, name) for name in same)


@require_package("opacus")
@pytest.mark.parametrize("task", ["sst2", "mnli", "qnli", "qqp", "snli"])
def test_published_budgets(script: ModuleType, task: str) -> None:
    from fedsvd_setup import federated_config

    args = script.parse_args(["--config", str(SCRIPT.parent / "configs" / f"{task}_dp.yaml")])
    dp = federated_config(args).dp
    assert (dp.target_epsilon, dp.target_delta, dp.max_grad_norm, dp.accountant) == (6.0, 1e-5, 2.0, "prv")
    assert args.per_device_batch_size * args.gradient_accumulation_steps == 128


def test_pushing(script: ModuleType, tiny_vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple] = []
    monkeypatch.setattr("eigenhub.training.publish.create_repo", lambda repo_id: done.append(("made", repo_id)))
    monkeypatch.setattr("eigenhub.training.publish.push_folder", lambda *given, also: done.append((*given, also)))
    tiny_run(script, tmp_path, tiny_vit, "--push_to_hub", "--hub_model_id", "me/adapter", "--rounds", "1")
    assert done == [("made", "me/adapter"), (tmp_path, "me/adapter", script.PUSHED)]
    assert "privacy_ledger.json" in script.PUSHED


@pytest.mark.parametrize("engine", ["FSDP", "DEEPSPEED"])
def test_engines_that_shard_are_refused(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, engine: str
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(SystemExit):
        script.parse_args([])
    assert f"{engine} keeps shards, which the server cannot average" in capsys.readouterr().err


def test_header_names_the_dependencies() -> None:
    for path in (SCRIPT, SCRIPT.with_name("demo.py")):
        lines = path.read_text().splitlines()
        block = lines[lines.index("# /// script") + 1 : lines.index("# ///")]
        assert any(line.startswith('# dependencies = ["eigenhub[') for line in block)
