# SPDX-License-Identifier: Apache-2.0
"""The SORSA script: the common matrix on the embedded digits, its own options, its configurations, text and its resume."""

import json
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.common.script_tester import Run, ScriptTester
from tests.launch_matrix.launches import launch_engine
from tests.scripts.loading import load_script
from tests.support.data import shared_data
from tests.support.devices import require_deepspeed, require_shared_data
from tests.support.distributed import cpu_environment, run_script
from tests.support.processes import ROOT, child_environment
from tests.support.processes import run as run_command


SCRIPT = ROOT / "scripts" / "sorsa" / "train_sorsa.py"
CONFIGS = sorted((SCRIPT.parent / "configs").glob("*.yaml"))
LOAD_DIGITS = """
import sys
import eigenhub.auto
from peft import PeftModel
from transformers import AutoModelForImageClassification
from eigenhub.embedded.vit import pretrained_vit_folder

base = AutoModelForImageClassification.from_pretrained(pretrained_vit_folder())
model = PeftModel.from_pretrained(base, sys.argv[1])
config = model.peft_config["default"]
assert (config.peft_type.value, config.r, config.reg_weight) == ("SORSA", 4, 1.0), config
assert any(".sorsa_S.default" in name for name, _ in model.named_parameters())
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


class TestSorsaScript(ScriptTester):
    slug = "sorsa"
    script = "train_sorsa.py"
    arguments = (
        *("--task", "digits", "--rank", "4", "--lr", "3e-3", "--reg_weight", "1", "--dropout", "0.1"),
        *("--per_device_batch_size", "16", "--gradient_accumulation_steps", "2"),
    )
    bad_flags = (
        (("--r", "0"), "at least 1"),
        (("--gamma", "4e-4"), "--gamma and --reg_weight exclude each other"),
        (("--gamma_official_accum",), "--gamma_official_accum needs --gamma"),
        (("--dropout", "1"), r"--dropout must be in \[0, 1\), got 1.0"),
        (("--alpha", "0"), "--alpha must be positive"),
        (("--model", "./no_such_folder"), "--model: no such folder: ./no_such_folder"),
        (("--svd_cache", "no.safetensors"), "--svd_cache: no such file: no.safetensors"),
        (("--dataset", "openai/gsm8k"), "--task digits brings its own data"),
        (("--task", "causal_lm", "--dataset", "./no.jsonl"), "no such data file or folder: ./no.jsonl"),
        (("--method", "adalora", "--resume", "auto"), "adalora cannot resume"),
        (("--method", "magic"), "invalid choice: 'magic'"),
    )
    load_code = LOAD_DIGITS

    def test_metrics_and_summary(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert summary["num_processes"] == straight.nproc
        assert summary["steps"] == self.max_steps
        assert summary["final_loss"] == straight.losses[-1]
        assert summary["penalty"] == straight.metrics[-1]["penalty"]
        assert 0 < summary["penalty"] < 0.1 and summary["condition_number"] > 1
        assert 0.2 < summary["accuracy"] <= 1
        assert summary["settings"]["r"] == 4
        rates = [row["lr"] for row in straight.metrics]
        assert rates[0] == 0 and max(rates) == 3e-3 and 0 < rates[-1] < 1e-4

    def test_card_shows_the_measured_accuracy_and_its_command(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        card = (straight.folder / "README.md").read_text()
        assert f"{summary['accuracy']:.3f}"[:4] in card
        assert summary["settings"]["command"] in card
        assert str(straight.folder) not in card


def tiny_run(script: ModuleType, folder: Path, *flags: str) -> tuple[Any, dict]:
    shape = ["--max_steps", "4", "--per_device_batch_size", "8", "--rank", "4"]
    return script.main([*shape, "--output_dir", str(folder), *flags])


@pytest.mark.parametrize("method", ["lora", "pissa", "dora", "adalora", "full"])
def test_baselines_train_and_save(script: ModuleType, tmp_path: Path, method: str) -> None:
    flags = ["--max_steps", "24", "--per_device_batch_size", "32", "--method", method, "--lr", "1e-2"]
    _, summary = tiny_run(script, tmp_path, *flags)
    assert (summary["method"], summary["steps"]) == (method, 24)
    losses = Run(tmp_path, 1).losses
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    assert "penalty" not in summary
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert load_file(tmp_path / name)


def test_equal_rank_means_equal_parameters_up_to_the_singular_values(script: ModuleType, tmp_path: Path) -> None:
    counts = {
        method: tiny_run(script, tmp_path / method, "--method", method)[1]["trainable_parameters"]
        for method in ("lora", "pissa", "sorsa")
    }
    assert counts["lora"] == counts["pissa"] == counts["sorsa"] - 12 * 4  # 12 weights, rank 4


def test_penalty_is_what_holds_the_vectors(script: ModuleType, tmp_path: Path) -> None:
    ends = [
        tiny_run(script, tmp_path / weight, "--max_steps", "25", "--lr", "1e-2", "--reg_weight", weight)[1]["penalty"]
        for weight in ("0", "1")
    ]
    assert ends[0] > 10 * ends[1]


def test_lora_export_beside_the_adapter(script: ModuleType, tmp_path: Path) -> None:
    tiny_run(script, tmp_path, "--export_lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("LORA", 8)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--export_lora",), "--export_lora reads whole weights, of which FSDP keeps shards"),
        (("--task", "causal_lm", "--eval_gsm8k"), "--eval_gsm8k generates, which FSDP cannot from shards"),
    ],
)
def test_what_shards_cannot_do_is_said_at_once(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    flags: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(SystemExit):
        script.parse_args([*flags])
    assert said in capsys.readouterr().err


def test_gradient_checkpointing_changes_nothing(script: ModuleType, tmp_path: Path) -> None:
    plain = tiny_run(script, tmp_path / "plain")[1]["final_loss"]
    assert tiny_run(script, tmp_path / "checkpointed", "--gradient_checkpointing")[1]["final_loss"] == plain


def test_tracker(script: ModuleType, tmp_path: Path) -> None:
    tiny_run(script, tmp_path, "--report_to", "tensorboard")
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_other_methods_say_what_they_ignore(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny_run(script, tmp_path, "--method", "lora", "--reg_weight", "0.3", "--export_lora")
    assert "lora ignores: reg_weight, export_lora" in capsys.readouterr().out


def test_rank_above_the_limit_names_the_module(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="65 exceeds the limit 64 of module 'vit.layers.0.attention.q_proj'"):
        tiny_run(script, tmp_path, "--rank", "65")


def test_unknown_column_is_named(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column 'nothing'; its columns are question, answer"):
        tiny_run(script, tmp_path, "--task", "causal_lm", "--text_column", "nothing")


def test_gamma_becomes_the_weight(script: ModuleType, tmp_path: Path) -> None:
    flags = ["--gamma", "4e-4", "--lr", "3e-5", "--gradient_accumulation_steps", "2"]
    for extra, weight in (([], 4e-4 / 3e-5), (["--gamma_official_accum"], 4e-4 / 3e-5 / 2)):
        folder = tmp_path / str(len(extra))
        tiny_run(script, folder, *flags, *extra)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["reg_weight"] == pytest.approx(weight)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid(script: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("eigenhub.training.options.check_source", lambda source: None)  # data need not be here
    args = script.parse_args(["--config", str(path)])
    assert args.output_dir.parts[0] == "runs"
    written = yaml.safe_load(path.read_text())
    assert {name: getattr(args, name) for name in written if name not in ("lr", "gamma", "output_dir")} == {
        name: value for name, value in written.items() if name not in ("lr", "gamma", "output_dir")
    }


def test_published_run_has_the_published_settings(script: ModuleType) -> None:
    args = script.parse_args(["--config", str(SCRIPT.parent / "configs" / "llama2_7b_metamath.yaml")])
    assert (args.r, args.alpha, args.dropout, args.lr, args.warmup) == (128, None, 0.0, 3e-5, 0.03)
    assert args.per_device_batch_size * args.gradient_accumulation_steps == 128
    assert (args.weight_decay, args.max_grad_norm, args.epochs, args.max_steps) == (0.0, 1.0, 1.0, None)
    config = script.sorsa_config(args, {})
    assert config.reg_weight == pytest.approx(0.208, abs=5e-4)
    overridden = script.parse_args(["--config", str(args.config), "--reg_weight", "13.3"])
    assert (overridden.reg_weight, overridden.gamma, overridden.gamma_official_accum) == (13.3, None, False)


def test_header_names_the_dependencies() -> None:
    for path in (SCRIPT, SCRIPT.with_name("demo.py")):
        lines = path.read_text().splitlines()
        block = lines[lines.index("# /// script") + 1 : lines.index("# ///")]
        assert any(line.startswith('# dependencies = ["eigenhub[') for line in block)


@require_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_the_same_steps_and_resumes(tmp_path: Path, stage: int) -> None:
    """Unclipped, the penalty in the loss is the penalty in the gradient. One process: accelerate has no more on CPUs."""
    sharded = cpu_environment() | {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
        "DS_ACCELERATOR": "cpu",
        "MASTER_ADDR": "127.0.0.1",
        **{"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": str(free_port())},
    }
    del sharded["ACCELERATE_USE_CPU"]  # it would switch DeepSpeed off
    flags = ("--rank", "4", "--lr", "3e-3", "--reg_weight", "1", "--max_grad_norm", "0", "--max_steps", "8")
    flags += ("--per_device_batch_size", "16", "--gradient_accumulation_steps", "2", "--checkpoint_every", "4")
    runs = {name: Run(tmp_path / name, 1) for name in ("plain", "sharded", "resumed")}
    for name, run in runs.items():
        run.folder.mkdir()
        environment = child_environment(cpu_environment() if name == "plain" else sharded)
        if name == "resumed":
            checkpoint = runs["sharded"].folder / "checkpoints" / "step_000004"
            flags += ("--resume", str(checkpoint))
        command = [sys.executable, str(SCRIPT), *flags, "--output_dir", str(run.folder)]
        finished = run_command(command, environment, tmp_path)
    assert "resumed after step 4" in finished.stdout
    assert_close(runs["sharded"].losses, runs["plain"].losses, rtol=1e-5, atol=0)
    assert_close(runs["sharded"].weights(), runs["plain"].weights(), rtol=0, atol=1e-6)
    assert runs["resumed"].losses == runs["sharded"].losses[4:]
    assert_close(runs["resumed"].weights(), runs["sharded"].weights(), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fsdp2_resumes(tmp_path: Path) -> None:
    """Two processes with shards: the last four of eight steps from a checkpoint of the first four."""
    flags = ["--rank", "4", "--lr", "3e-3", "--reg_weight", "1", "--per_device_batch_size", "16", "--max_steps", "8"]
    flags += ["--checkpoint_every", "4"]
    runs = {name: Run(tmp_path / name, 2) for name in ("straight", "resumed")}
    for name, run in runs.items():
        run.folder.mkdir()
        if name == "resumed":
            flags += ["--resume", str(runs["straight"].folder / "checkpoints" / "step_000004")]
        finished = launch_engine(SCRIPT, [*flags, "--output_dir", str(run.folder)], tmp_path, "fsdp2", sys.executable)
        assert finished.returncode == 0, finished
    assert "resumed after step 4" in finished.stdout
    assert runs["resumed"].losses == runs["straight"].losses[4:]
    assert_close(runs["resumed"].weights(), runs["straight"].weights(), rtol=0, atol=0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TestCausalLM:
    """Generated text, two processes: the loss falls, problems are answered."""

    arguments = (
        *("--task", "causal_lm", "--rank", "4", "--lr", "5e-3", "--reg_weight", "1", "--max_length", "64"),
        *("--max_steps", "20", "--per_device_batch_size", "4", "--seed", "0"),
        *("--eval_gsm8k", "--eval_samples", "6", "--eval_batch_size", "4", "--max_new_tokens", "32"),
    )

    @pytest.mark.slow
    def test_two_processes(self, tmp_path: Path) -> None:
        run_script(SCRIPT, *self.arguments, "--output_dir", str(tmp_path), nproc=2, folder=tmp_path)
        losses = Run(tmp_path, 2).losses
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["evaluated"] == 6 and summary["accuracy"] * 6 == pytest.approx(round(summary["accuracy"] * 6))

    @pytest.mark.slow
    def test_plain_text_file(self, script: ModuleType, tmp_path: Path) -> None:
        text = tmp_path / "text.txt"
        text.write_text("".join(f"line {number} of the text, and then the next one\n" for number in range(600)))
        flags = ["--task", "causal_lm", "--dataset", str(text), "--max_length", "32", "--lr", "1e-2"]
        _, summary = tiny_run(script, tmp_path / "run", *flags)
        assert summary["steps"] == 4 and "accuracy" not in summary


@pytest.mark.slow
@pytest.mark.timeout(900)
@require_shared_data("gsm8k/train.jsonl")
class TestGSM8K(ScriptTester):
    """Real text: a tiny Llama made from GSM8K learns to answer in its style; killed and resumed with two processes."""

    slug = "sorsa"
    script = "train_sorsa.py"
    arguments = (
        *("--config", str(SCRIPT.parent / "configs" / "gsm8k_tiny.yaml"), "--dataset", str(shared_data("gsm8k"))),
        *("--eval_samples", "8", "--max_new_tokens", "32", "--per_device_batch_size", "4", "--dropout", "0.05"),
    )
    max_steps = 60
    checkpoint_every = 20
    bad_flags = ((("--prompt_template", "nothing"), "must contain {prompt}, got 'nothing'"),)
    load_code = """
import sys
import eigenhub.auto
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1])
assert model.peft_config["default"].peft_type.value == "SORSA"
"""

    def test_problems_are_answered_once(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert (summary["evaluated"], summary["num_processes"]) == (8, straight.nproc)
        assert summary["accuracy"] * 8 == pytest.approx(round(summary["accuracy"] * 8))
