# SPDX-License-Identifier: Apache-2.0
"""The demo of FedSVD: its report on made-up runs, and the whole of it on a few rounds."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.scripts.loading import load_script
from tests.support.devices import require_package
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "fedsvd"


@pytest.fixture(scope="module")
def report() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    yield load_script(FOLDER / "fedsvd_demo_report.py")
    sys.path.remove(str(FOLDER))


def made_up_run(folder: Path, accuracies: list[float], scale: float = 1.0, epsilon: float | None = None) -> Path:
    """A run with a saved state per round, whose products are `scale` times those of any other."""
    (folder / "checkpoints").mkdir(parents=True)
    rows = []
    for number, accuracy in enumerate(accuracies, 1):
        row = {"step": number, "eval_accuracy": accuracy, "aggregation_error": 0.25 * number}
        row |= {"singular_values": [float(number), 0.5]} | ({} if epsilon is None else {"epsilon": epsilon * number})
        rows.append(row)
        generator = torch.Generator().manual_seed(number)
        state = {
            "q.lora_A.weight": torch.randn(2, 5, generator=generator),
            "q.lora_B.weight": scale * torch.randn(4, 2, generator=generator),
        }
        place = folder / "checkpoints" / f"round_{number:04d}"
        place.mkdir()
        save_file(state, place / "adapter_state.safetensors")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text(json.dumps({"upload_bytes": 12288.0}))
    return folder


def test_the_table(report: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    folders = {
        "plain": made_up_run(tmp_path / "plain", accuracies),
        "private": made_up_run(tmp_path / "private", accuracies[::-1], epsilon=1.0),
    }
    report.print_table(folders)
    head, plain, private = capsys.readouterr().out.splitlines()[1:4]
    assert [word for word in head.split() if word.isdecimal()] == ["2", "4", "6"]
    assert plain.split() == ["plain", "20.0", "40.0", "60.0", "12,288", "1.5e+00", "-"]
    assert private.split() == ["private", "50.0", "30.0", "10.0", "12,288", "1.5e+00", "6.00"]


def test_distance_of_products(report: Any, tmp_path: Path) -> None:
    one = made_up_run(tmp_path / "one", [0.1, 0.2])
    turned = made_up_run(tmp_path / "turned", [0.1, 0.2])
    for path in turned.rglob("adapter_state.safetensors"):  # another basis, the same products
        state = load_file(path)
        rotation = torch.linalg.qr(torch.randn(2, 2))[0]
        a, b = state["q.lora_A.weight"], state["q.lora_B.weight"]
        save_file({"q.lora_A.weight": rotation @ a, "q.lora_B.weight": b @ rotation.T}, path)
    assert report.products_apart(one, turned) < 1e-6
    assert report.products_apart(one, made_up_run(tmp_path / "longer", [0.1, 0.2], scale=1.5)) == pytest.approx(0.5)


def test_curves(report: Any, tmp_path: Path) -> None:
    report.draw(
        {"a": made_up_run(tmp_path / "a", [0.1, 0.2]), "b": made_up_run(tmp_path / "b", [0.2, 0.2])},
        tmp_path / "c.png",
    )
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_help_is_light(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "datasets", "accelerate", "matplotlib", "peft", "opacus", "eigenhub")
    assert "--output_dir" in run_python(FOLDER / "demo.py", "--help", folder=tmp_path, block=heavy).stdout


@pytest.mark.parametrize(
    ("flags", "block", "said"),
    [
        (("--rounds", "1"), (), "--rounds must be at least 2, got 1"),
        ((), ("opacus",), "opacus missing: pip install 'eigenhub[dp]'"),
        ((), ("matplotlib", "sklearn", "opacus"), "pip install 'eigenhub[demo,dp]'"),
    ],
)
def test_what_cannot_run_is_said(tmp_path: Path, flags: tuple, block: tuple, said: str) -> None:
    finished = run_python(FOLDER / "demo.py", *flags, folder=tmp_path, block=block, check=False)
    assert finished.returncode == 2 and said in finished.stderr and "Traceback" not in finished.stderr


@require_package("opacus")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_demo(tmp_path: Path) -> None:
    small = ("--output_dir", "out", "--rounds", "3")
    first = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=600)
    assert first.outside == []
    for said in (
        "continued from round_0001: largest difference of the weights 0\n",
        "loaded by stock PEFT in a fresh process: largest difference of the logits 0\n",
        "Example-level (record-level) (epsilon, delta)-differential privacy of each client's data",
        "eigenhub space fedsvd",
    ):
        assert said in first.stdout
    for name in ("rounds.png", "fedsvd/README.md", "fedsvd/adapter_model.safetensors"):
        assert (tmp_path / "out" / name).is_file()
    sent = {
        name: json.loads((tmp_path / "out" / name / "summary.json").read_text())["upload_bytes"]
        for name in ("fedsvd", "ffa-lora", "fedavg")
    }
    assert sent["fedavg"] == 2 * sent["fedsvd"] == 2 * sent["ffa-lora"]
    again = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=300)
    assert again.stdout.count("clients in each of 3 rounds, each sends") == 1, "a finished run was repeated"
