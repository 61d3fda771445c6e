# SPDX-License-Identifier: Apache-2.0
"""The demo of SenD: its report on made-up runs, and the whole of it on a few epochs."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.scripts.loading import load_script
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "send"


@pytest.fixture(scope="module")
def report() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    yield load_script(FOLDER / "send_demo_report.py")
    sys.path.remove(str(FOLDER))


def made_up_run(folder: Path, shares: list[float], flip: float) -> Path:
    folder.mkdir()
    rows = [{"step": 9 * n, "epoch": float(n), "hallucination": share} for n, share in enumerate(shares, 1)]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    last = {"hallucination": shares[-1], "refused": 5}
    figures = {"evaluation": last, "rows": {"test": 50}, "last_mean": 0.25, "last_spread": 0.031, "mean_flip": flip}
    figures["refreshes"] = [{"step": rows[-1]["step"], "dropped": [1]}]
    (folder / "summary.json").write_text(json.dumps(figures))
    return folder


def made_up_scores(path: Path) -> Path:
    rows = [{"eigenscore": -6.0 + number, "right": number < 2} for number in range(4)]
    Dataset.from_list(rows).to_parquet(path)
    return path


def test_the_table(report: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = {
        "plain": made_up_run(tmp_path / "a", [0.5, 0.2], 0.125),
        "SenD": made_up_run(tmp_path / "b", [0.3], 0.5),
    }
    report.print_table(folders)
    head, plain, send = capsys.readouterr().out.splitlines()[1:4]
    assert head.split()[-6:] == ["wrong", "last", "5", "spread", "refused", "flips"]
    assert plain.split() == ["plain", "20.0", "25.0", "3.1", "10.0", "12.5"]
    assert send.split() == ["SenD", "30.0", "25.0", "3.1", "10.0", "50.0"]


def test_scores_by_verdict_and_the_figure(report: Any, tmp_path: Path) -> None:
    scores = made_up_scores(tmp_path / "scores.parquet")
    assert report.scores_by_verdict(scores) == {"right": [-6.0, -5.0], "wrong": [-4.0, -3.0]}
    folders = {name: made_up_run(tmp_path / name, [0.5, 0.2], 0.1) for name in ("plain", "SenD")}
    report.draw(folders, scores, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_figure_says(report: Any, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    left, right = Figure().subplots(1, 2)
    report.draw_hallucinations(left, {"SenD": made_up_run(tmp_path / "run", [0.5, 0.2], 0.1)})
    curve, choice = left.get_lines()
    assert curve.get_xydata().tolist() == [[1.0, 50.0], [2.0, 20.0]] and list(choice.get_xdata()) == [2.0, 2.0]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["SenD: 20.0", "new indices dropped"]
    report.draw_scores(right, {"right": [-6.0, -5.0], "wrong": [-4.0]})
    assert right.get_title().endswith("AUROC 1.00")
    report.draw_scores(right, {"right": [-6.0, -5.0], "wrong": []})
    assert "AUROC" not in right.get_title()


def test_over_time(report: Any) -> None:
    from send_report import over_time

    rows: list[dict[str, float]] = [{"hallucination": share} for share in (0.9, 0.8, 0.1, 0.2, 0.3, 0.2, 0.2)]
    rows[1]["flip"], rows[2]["flip"] = 0.5, 0.25
    found = over_time(rows)
    assert found["last_mean"] == pytest.approx(0.2) and found["last_spread"] == pytest.approx(0.004**0.5)
    assert found["mean_flip"] == 0.375
    assert over_time([{"eval_loss": 1.0}]) == {}


def test_help_is_light(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "datasets", "accelerate", "matplotlib", "peft", "eigenhub")
    assert "--output_dir" in run_python(FOLDER / "demo.py", "--help", folder=tmp_path, block=heavy).stdout


@pytest.mark.parametrize(
    ("flags", "block", "said"),
    [
        (("--epochs", "3"), (), "--epochs must be at least 4, got 3"),
        ((), ("matplotlib",), "matplotlib missing: pip install 'eigenhub[demo]'"),
    ],
)
def test_what_cannot_run_is_said(tmp_path: Path, flags: tuple, block: tuple, said: str) -> None:
    finished = run_python(FOLDER / "demo.py", *flags, folder=tmp_path, block=block, check=False)
    assert finished.returncode == 2 and said in finished.stderr and "Traceback" not in finished.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_demo(tmp_path: Path) -> None:
    small = ("--output_dir", "out", "--epochs", "5")
    first = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=600)
    assert first.outside == []
    for said in (
        "continued from step 36: largest difference of weights and masks 0\n",
        "loaded by stock transformers in a fresh process: largest difference of the logits 0\n",
        "eigenhub space send",
    ):
        assert said in first.stdout, first.stdout
    for name in ("curves.png", "send/README.md", "send/model.safetensors", "off/scores.json"):
        assert (tmp_path / "out" / name).is_file()
    found = json.loads((tmp_path / "out" / "off" / "scores.json").read_text())
    assert found["prompts"] == 1120 and found["auroc"]["eigenscore"] > 0.5
    again = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=300)
    assert again.stdout.count("trainable parameters") == 1, "a finished run was repeated"
