# SPDX-License-Identifier: Apache-2.0
"""The SenD script: the common matrix on the embedded facts, its arms, texts, resume, stopping, and configurations."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from eigenhub.embedded.fact_answers import answer_questions, count_verdicts, verdicts
from eigenhub.embedded.fact_tokenizer import fact_tokenizer
from eigenhub.training.send import SenDConfig, config
from tests.common.script_tester import Run, SlowScriptTester
from tests.scripts.loading import load_script
from tests.scripts.tiny_neox import save_tiny_neox
from tests.support.processes import ROOT


SCRIPT = ROOT / "scripts" / "send" / "train_send.py"
CONFIGS = sorted((SCRIPT.parent / "configs").glob("*.yaml"))
LOAD = """
import json
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = Path(sys.argv[1])
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
answer = model.generate(**tokenizer("Ada Brook lives in :", return_tensors="pt"), max_new_tokens=1, do_sample=False)
assert answer.shape == (1, 6)
settings = json.loads((folder / "send_config.json").read_text())
assert (settings["mode"], len(settings["dropped"])) == ("send", 3), settings
assert not any(name.split(".")[0] == "eigenhub" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPT.parent))  # its siblings, as when it is run
    yield load_script(SCRIPT)
    sys.path.remove(str(SCRIPT.parent))


def save_inputs(folder: Path) -> tuple[str, ...]:
    """An untrained model of the words of the facts, with three blocks of width 16, and the arguments that name it."""
    return ("--model", save_tiny_neox(folder, hidden_size=16, num_layers=3))


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_inputs(tmp_path_factory.mktemp("tiny-neox"))[-1]


class TestSenDScript(SlowScriptTester):
    """Its masks change at the steps 8 and 16; the fixture is slow, options and help are not."""

    slug = "send"
    script = "train_send.py"
    arguments = (
        *("--lr", "1e-2", "--per_device_batch_size", "32", "--eval_samples", "60", "--max_new_tokens", "2"),
        *("--track_steps", "4", "--window", "2", "--refresh_every", "2"),
    )
    bad_flags = (
        (("--arm", "magic"), "invalid choice: 'magic'"),
        (("--rho", "0.9"), "--rho must be above 0 and below 0.9, got 0.9"),
        (("--model", "./nothing"), "--model: no such folder: ./nothing"),
    )
    load_code = LOAD

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def with_model(cls, tiny_model: str) -> None:
        cls.arguments = (*TestSenDScript.arguments, "--model", tiny_model)

    def test_summary_and_evaluations(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert (summary["arm"], summary["num_processes"], summary["steps"]) == ("send", straight.nproc, 20)
        assert summary["final_loss"] == straight.losses[-1]
        assert [refresh["step"] for refresh in summary["refreshes"]] == [8, 16]
        rows = evaluations(straight.folder)
        assert rows[-1]["step"] == 20 and all(row["right"] + row["wrong"] + row["refused"] == 60 for row in rows)

    def test_card_shows_what_was_measured_and_its_command(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        card = (straight.folder / "README.md").read_text()
        assert summary["settings"]["command"] in card and str(straight.folder) not in card


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--window", "1"), "--window must be at least 2, got 1"),
        (("--refresh_every", "0"), "--refresh_every must be at least 1, got 0"),
        (("--track_fraction", "0"), "--track_fraction must be above 0 and below 1, got 0.0"),
        (("--track_fraction", "0.6"), "--track_fraction must be at most 0.5 for the embedded facts, got 0.6"),
        (("--ema_decay", "1"), "--ema_decay must be above 0 and below 1, got 1.0"),
        (("--index_space", "hidden"), "--index_space hidden is for --site mlp, got --site hidden"),
        (("--stop_loss", "1"), "--stop_loss and --stop_score go together"),
        (("--stop_loss", "1", "--stop_score", "0"), "--stop_score needs --score_prompts"),
        (("--num_samples", "1"), "--num_samples must be at least 2, got 1"),
        (("--temperature", "0"), "--temperature must be above 0, where all answers are the same, got 0.0"),
        (("--freeze_layers", "-1"), "--freeze_layers must be at least 0, got -1"),
        (("--lora_dropout", "1"), r"--lora_dropout must be in \[0, 1\), got 1.0"),
        (("--model", "embedded", "--dataset", "a/b"), "--model embedded knows the words of the embedded facts only"),
        (("--dataset", "./no.jsonl"), "no such data file or folder: ./no.jsonl"),
        (("--eval_split", "test"), "the facts bring their own questions"),
        (
            ("--model", "c/d", "--dataset", "a/b", "--test_fraction", "0.95"),
            "--test_fraction must be above 0 and leave rows",
        ),
        (("--push_to_hub",), "--push_to_hub needs --hub_model_id"),
        (("--resume", "./nothing"), "--resume: nothing is not a complete checkpoint"),
    ],
)
def test_what_cannot_run_is_said(
    script: ModuleType, capsys: pytest.CaptureFixture, flags: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.parse_args([*flags])
    assert re.search(said, capsys.readouterr().err)


def test_deepspeed_is_refused(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(SystemExit):
        script.parse_args([])
    assert "DEEPSPEED takes one accelerator" in capsys.readouterr().err


def evaluations(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def tiny_run(script: ModuleType, folder: Path, model: str, *flags: str) -> tuple[Any, dict]:
    """Six steps of which three are an epoch; the mask changes at steps 2, 4 and 6."""
    shape = ["--max_samples", "48", "--per_device_batch_size", "16", "--max_steps", "6", "--lr", "1e-2"]
    protocol = ["--track_steps", "1", "--window", "2", "--refresh_every", "2"]
    few = [
        "--eval_samples",
        "30",
        "--eval_batch_size",
        "30",
        "--max_new_tokens",
        "2",
        "--num_samples",
        "2",
        "--seed",
        "0",
    ]
    return script.main([*shape, *protocol, *few, "--model", model, "--output_dir", str(folder), *flags])


def same_weights(first: Path, second: Path, name: str = "model.safetensors") -> bool:
    one, other = load_file(first / name), load_file(second / name)
    return one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one)


@pytest.fixture(scope="module")
def off(script: ModuleType, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that only tracks."""
    folder = tmp_path_factory.mktemp("off")
    tiny_run(script, folder, tiny_model, "--arm", "off", "--checkpoint_every", "3", "--keep_checkpoints", "4")
    return folder


@pytest.mark.parametrize(
    "arm", ["send", "ema", *(pytest.param(arm, marks=pytest.mark.slow) for arm in ("random", "dropout"))]
)
def test_arms_train_on_the_same_rows_and_end_elsewhere(
    script: ModuleType, tiny_model: str, off: Path, tmp_path: Path, arm: str
) -> None:
    trainer, summary = tiny_run(script, tmp_path, tiny_model, "--arm", arm)
    plain = json.loads((off / "summary.json").read_text())
    assert (summary["arm"], summary["rows"], summary["steps"]) == (arm, plain["rows"], 6)
    assert not same_weights(tmp_path, off)
    assert [refresh["step"] for refresh in summary["refreshes"]] == ([2, 4, 6] if arm in ("send", "random") else [])
    dropped = 3 if arm in ("send", "random") else 0  # of 16 indices
    assert all(len(refresh["dropped"]) == dropped for refresh in summary["refreshes"])
    first, same = Run(tmp_path, 1).losses[0], Run(off, 1).losses[0]
    assert (first == same) == (arm != "dropout")  # nothing is dropped in the first step
    assert json.loads((tmp_path / "send_config.json").read_text())["mode"] == arm


def test_the_last_evaluation_is_that_of_the_saved_model(off: Path) -> None:
    """Counted again from the saved folder, and the flips from the letters."""

    from eigenhub.embedded.facts import load_facts

    model, tokenizer = AutoModelForCausalLM.from_pretrained(off), AutoTokenizer.from_pretrained(off)
    test = load_facts()["test"]
    chosen = test.select(torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:30].tolist())
    found = verdicts(answer_questions(model, tokenizer, chosen["prompt"], max_new_tokens=2), chosen["answer"])
    first, last = evaluations(off)
    assert {name: last[name] for name in ("right", "wrong", "refused", "hallucination")} == count_verdicts(found)
    assert last["verdicts"] == "".join({"right": "+", "wrong": "-", "refused": "?"}[entry] for entry in found)
    changed = [(a == "+") != (b == "+") for a, b in zip(first["verdicts"], last["verdicts"], strict=True)]
    assert last["flip"] == sum(changed) / 30 and "flip" not in first
    assert (first["step"], last["step"]) == (3, 6)


@pytest.mark.parametrize("arm", ["send", pytest.param("ema", marks=pytest.mark.slow)])
def test_resume_at_the_end_of_an_epoch_gives_the_same_to_the_bit(
    script: ModuleType, tiny_model: str, tmp_path: Path, arm: str
) -> None:
    flags = ("--arm", arm, "--score_prompts", "2", "--mask_in_eval")
    tiny_run(script, tmp_path / "straight", tiny_model, *flags, "--checkpoint_every", "3")
    first = tmp_path / "straight" / "checkpoints" / "checkpoint-3"
    tiny_run(script, tmp_path / "resumed", tiny_model, *flags, "--resume", str(first))
    for name in ("model.safetensors", "send_state.safetensors"):
        assert same_weights(tmp_path / "straight", tmp_path / "resumed", name)
    assert evaluations(tmp_path / "straight") == evaluations(tmp_path / "resumed")
    rows = [Run(tmp_path / run, 1).metrics for run in ("straight", "resumed")]
    assert rows[0][3:] == rows[1]


def test_checkpoints_are_kept_and_torn_ones_passed_over(
    script: ModuleType, tiny_model: str, off: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(off, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-3", "checkpoint-6"]
    flags = ("--arm", "off", "--checkpoint_every", "3", "--keep_checkpoints", "1")
    with pytest.raises(SystemExit):
        tiny_run(script, tmp_path, tiny_model, *flags)
    assert "holds checkpoints: pass --resume auto or another --output_dir" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tiny_run(script, tmp_path, tiny_model, *flags, "--resume", "auto", "--lr", "0.1")
    assert "was written by another run (lr: 0.01 there, 0.1 here)" in capsys.readouterr().err
    (folder / "checkpoint-6" / "optimizer.pt").write_bytes(b"cut short")
    tiny_run(script, tmp_path, tiny_model, *flags, "--resume", "auto")
    assert "resumed after step 3 from" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["checkpoint-6"]
    assert same_weights(tmp_path, off)


def test_an_adapter_over_frozen_blocks(script: ModuleType, tiny_model: str, tmp_path: Path) -> None:
    trainer, summary = tiny_run(script, tmp_path, tiny_model, "--tuning", "lora", "--r", "2", "--freeze_layers", "1")
    adapter = load_file(tmp_path / "adapter_model.safetensors")
    moved = {
        int(name.split("layers.")[1].split(".")[0]) for name in adapter if "lora_B" in name and adapter[name].any()
    }
    assert moved == {1, 2} and not (tmp_path / "model.safetensors").exists()
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name and "layers.0." not in name for name in trained)
    assert summary["trainable_parameters"] == sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)


def test_too_many_frozen_blocks(script: ModuleType, tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--freeze_layers must be below 3, the blocks of the model, got 3"):
        tiny_run(script, tmp_path, tiny_model, "--freeze_layers", "3")


def test_stopping_needs_both_figures(script: ModuleType, tiny_model: str, tmp_path: Path) -> None:
    flags = ("--score_prompts", "2", "--stop_loss", "100", "--stop_score")
    assert tiny_run(script, tmp_path / "low", tiny_model, *flags, "-1000", "--max_steps", "3")[1]["steps"] == 3
    # the loss of a step is logged after its checkpoint, so the rule first sees one in the second step
    assert tiny_run(script, tmp_path / "high", tiny_model, *flags, "1000")[1]["steps"] == 2


def test_scores_of_the_facts(script: ModuleType, tiny_model: str, tmp_path: Path) -> None:
    from send_detectors import DETECTORS

    _, summary = tiny_run(script, tmp_path, tiny_model, "--score_prompts", "6", "--num_samples", "3")
    assert set(summary["evaluation"]["scores"]) == set(DETECTORS)
    assert all(set(row["auroc"]) <= set(DETECTORS) for row in evaluations(tmp_path))


def test_detectors(script: ModuleType) -> None:
    from send_detectors import DETECTORS, auroc_of, means_of, prr_of

    scores = [dict.fromkeys(DETECTORS, value) for value in (0.1, 0.9, 0.5)]
    assert means_of(scores) == pytest.approx(dict.fromkeys(DETECTORS, 0.5))
    assert (
        auroc_of(scores, [False, True, True]) == prr_of(scores, [False, True, True]) == dict.fromkeys(DETECTORS, 1.0)
    )
    assert auroc_of(scores, [True, False, True])["eigenscore"] == 0.0
    assert auroc_of(scores, [True] * 3) == prr_of(scores, [False] * 3) == {}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "people.jsonl"
    people = ("Ada Brook", "Bruno Hill", "Clara Stone")
    rows = [
        {"question": f"{p} lives in : {v}", "number": str(i)}
        for i in range(20)
        for p, v in zip(people, "abc", strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_texts(script: ModuleType, tiny_model: str, texts: Path, tmp_path: Path) -> None:
    """80/10/10 of the first rows, one row per text, scores of the first halves."""
    flags = ("--dataset", str(texts), "--text_column", "question", "--max_samples", "50", "--score_prompts", "2")
    _, summary = tiny_run(script, tmp_path, tiny_model, *flags)
    assert summary["rows"] == {"train": 40, "track": 5, "test": 5}
    figures = yaml.safe_load((tmp_path / "results.yaml").read_text())["measured"]
    assert [figure["metric"] for figure in figures] == ["perplexity"]
    assert figures[0]["value"] == round(summary["evaluation"]["perplexity"], 4)
    assert figures[0]["dataset"] == {"id": "people", "name": "people", "split": "train, a part held out"}
    assert set(summary["evaluation"]["scores"]) and "auroc" not in summary["evaluation"]


def test_parts_of_the_rows_are_apart(script: ModuleType) -> None:
    from datasets import Dataset
    from send_tasks import split_rows

    rows = Dataset.from_dict({"n": list(range(300))})
    train, track, test = (set(part["n"]) for part in split_rows(rows, 0.1, 0.1, seed=0))
    assert (len(train), len(track), len(test)) == (240, 30, 30) and len(train | track | test) == 300
    again, other = (split_rows(rows, 0.1, 0.1, seed=seed)[1]["n"][:] for seed in (0, 1))
    assert set(again) == track and set(other) != track
    with pytest.raises(ValueError, match="2 rows are too few to track 1 and hold out 1 of them"):
        split_rows(rows.take(2), 0.1, 0.1, seed=0)


def test_text_rows(script: ModuleType) -> None:
    from send_tasks import text_row

    tokenizer = fact_tokenizer()
    short, cut = (text_row(tokenizer, "Ada Brook lives in :", length)["input_ids"] for length in (9, 3))
    assert short == [*tokenizer("Ada Brook lives in :")["input_ids"], tokenizer.eos_token_id]
    assert cut == short[:3]


def test_prompts_with_responses_and_a_held_out_file(script: ModuleType, tiny_model: str, tmp_path: Path) -> None:
    for name, count in (("train", 40), ("test", 7)):
        rows = [{"question": f"Ada Brook lives in {n}", "answer": "Cairo"} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--dataset", str(tmp_path / "train.jsonl"), "--eval_dataset", str(tmp_path / "test.jsonl"))
    more = ("--eval_split", "train", "--prompt_template", "{prompt} :", "--score_prompts", "2")
    trainer, summary = tiny_run(script, tmp_path / "run", tiny_model, *flags, *more)
    assert summary["rows"] == {"train": 36, "track": 4, "test": 7}
    labels = trainer.train_dataset[0]["labels"]
    assert labels == [-100] * 6 + fact_tokenizer()("Cairo")["input_ids"] + [fact_tokenizer().eos_token_id]


def test_choices_and_defaults_are_those_of_the_package(script: ModuleType) -> None:
    import send_options as options

    assert options.ARMS == config.MODES and options.SITES == config.SITES
    assert (options.AGGREGATES, options.INDEX_SPACES) == (config.AGGREGATES, config.INDEX_SPACES)
    known = {field.name: field.default for field in fields(SenDConfig)}
    args = script.parse_args([])
    own = {"mode", "seed", "track_strategy", "track_fraction"}
    assert set(options.SEND_FIELDS) | own == set(known)
    differing = {name for name in (*options.SEND_FIELDS, "track_fraction") if getattr(args, name) != known[name]}
    assert differing == {"track_batch_size"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid(
    script: ModuleType, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from send_setup import send_config

    monkeypatch.chdir(tmp_path)
    if (dataset := yaml.safe_load(path.read_text()).get("dataset", "")).endswith(".jsonl"):
        Path(dataset).touch()  # a file of the user's own
    args = script.parse_args(["--config", str(path), "--output_dir", str(tmp_path)])
    assert send_config(args).mode == "send" and args.resume is None
    assert args.command.startswith("accelerate launch scripts/send/train_send.py --")
