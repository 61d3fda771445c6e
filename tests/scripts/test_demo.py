# SPDX-License-Identifier: Apache-2.0
"""The demo: its report on made-up runs, and the whole of it on a few steps."""

import json
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from eigenhub.hub.results import load_results
from tests.scripts.loading import load_script
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "sorsa"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return load_script(FOLDER / "demo_report.py")


def made_up_run(folder: Path, final: float, **summary: float) -> Path:
    """A run whose loss falls from 1 to `final` after step 40."""
    folder.mkdir(parents=True)
    losses = [1.0] * 40 + [final] * 20
    rows = [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = {"accuracy": 0.9, "trainable_parameters": 1000, "settings": {"lr": 0.01}}
    (folder / "summary.json").write_text(json.dumps(known | summary))
    return folder


def test_best_rate_goes_by_the_mean_over_seeds(report: ModuleType, tmp_path: Path) -> None:
    lucky = [made_up_run(tmp_path / "a0", 0.1), made_up_run(tmp_path / "a1", 0.9)]
    steady = [made_up_run(tmp_path / "b0", 0.3), made_up_run(tmp_path / "b1", 0.3)]
    assert report.best_rate([lucky, steady]) == steady


def test_table(report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    plain = [made_up_run(tmp_path / f"p{i}", final, accuracy=0.8 + i / 10) for i, final in enumerate((0.2, 0.4))]
    ours = [made_up_run(tmp_path / "s0", 0.1, penalty=0.004, condition_number=2.5)]
    rows = {"LoRA": report.summarise(plain), "SORSA": report.summarise(ours)}
    assert rows["LoRA"]["final_loss"] == pytest.approx((0.3, 0.1414), abs=1e-4)
    assert rows["LoRA"]["penalty"] is None and rows["SORSA"]["penalty"] == (0.004, 0.0)
    report.print_table(rows, Namespace(rank=8, steps=60, seeds=2))
    lines = capsys.readouterr().out.splitlines()
    lora, sorsa = (next(line for line in lines if line.startswith(name)) for name in ("LoRA", "SORSA"))
    assert lora.split("  ")[0] == "LoRA" and "0.300 ± 0.141" in lora and "0.850 ± 0.071" in lora
    assert "0.004 ± 0" in sorsa and "2.5 ± 0.0" in sorsa and "1,000" in sorsa


def test_plots(report: ModuleType, tmp_path: Path) -> None:
    report.draw_losses({"LoRA": [made_up_run(tmp_path / "run", 0.2)]}, tmp_path / "losses.png")
    names = [f"base_model.model.layers.{layer}.{name}" for layer in range(2) for name in "abcdef"]
    values = {f"{name}.{key}": torch.rand(4) for name in names for key in ("sorsa_S", "sorsa_S0")}
    save_file(values, tmp_path / "adapter.safetensors")
    report.draw_spectra(tmp_path / "adapter.safetensors", tmp_path / "spectra.png")
    for name in ("losses.png", "spectra.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_help_is_light(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "peft", "datasets", "accelerate", "matplotlib")
    finished = run_python(FOLDER / "demo.py", "--help", folder=tmp_path, block=(*heavy, "eigenhub"))
    assert "--output_dir" in finished.stdout


def test_missing_extra_is_named(tmp_path: Path) -> None:
    finished = run_python(FOLDER / "demo.py", folder=tmp_path, block=("matplotlib",), check=False)
    assert finished.returncode == 2 and "matplotlib missing: pip install 'eigenhub[demo]'" in finished.stderr


def test_refusing_a_package(tmp_path: Path) -> None:
    arguments = ("base", "adapter", "inputs", "logits", "--without_eigenhub")
    code = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
import check_adapter
sys.meta_path.insert(0, check_adapter.Refuse("eigenhub"))
import json
try:
    import eigenhub.auto
except ModuleNotFoundError as error:
    print(json.dumps(error.name))
"""
    assert run_python(code, *arguments, folder=tmp_path).result == "eigenhub"


@pytest.mark.slow
def test_whole_demo(tmp_path: Path) -> None:
    small = ("--output_dir", "out", "--steps", "45", "--seeds", "1", "--rank", "4")
    first = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=280)
    assert first.outside == []
    assert "reloaded in a fresh process: largest difference of the logits 0\n" in first.stdout
    assert "in stock PEFT without eigenhub" in first.stdout
    assert "eigenhub space sorsa" in first.stdout and "llama2_7b_metamath.yaml" in first.stdout
    out = tmp_path / "out"
    for name in ("losses.png", "spectra.png", "adapter/README.md", "lora/adapter_model.safetensors"):
        assert (out / name).is_file()
    rows = {(figure.method, figure.metric): figure.value for figure in load_results(out / "results.yaml").measured}
    assert {method for method, _ in rows} == {"lora", "pissa", "sorsa-penalty-off", "sorsa"}
    assert rows["sorsa-penalty-off", "R"] > 10 * rows["sorsa", "R"]
    again = run_python(FOLDER / "demo.py", *small, folder=tmp_path)
    assert "steps\n" not in again.stdout.split("rank 4")[0], "a finished run was repeated"
    repeated = load_results(out / "results.yaml").measured
    assert {(figure.method, figure.metric): figure.value for figure in repeated} == rows
