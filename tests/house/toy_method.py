# SPDX-License-Identifier: Apache-2.0
"""A made-up method with resources of its own, in place of the real table."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from eigenhub.methods import Method


RESULTS = """\
method: toy
measured:
  - id: digits
    method: toy
    task: image-classification
    dataset: {id: org/digits, name: Digits, split: test, task_id: upright}
    metric: accuracy
    value: 0.75
    spread: 0.5
    seeds: [0, 1]
    setting: rank 2 | small
    command: eigenhub demo toy
    hardware: 2 CPU cores
    date: 2026-01-31
    versions: {torch: 2.13.0}
  - id: digits-peer
    method: lora
    task: image-classification
    dataset: {id: org/digits, name: Digits}
    metric: accuracy
    value: 0.5
    seeds: [0]
    setting: rank 2
    command: eigenhub demo toy
    hardware: 2 CPU cores
    date: 2026-01-31
    versions: {torch: 2.13.0}
published:
  - id: digits
    method: toy
    task: image-classification
    dataset: {id: org/digits, name: Digits}
    metric: accuracy
    value: 0.875
    setting: rank 2
    source: {name: On toys, url: "https://example.org/toys"}
    verified: read in table 1
  - id: letters
    method: toy
    task: image-classification
    dataset: {id: org/letters, name: Letters}
    metric: accuracy
    value: 0.25
    setting: rank 2
    source: {name: On toys, url: "https://example.org/toys"}
    verified: not run here
findings:
  - A toy is no better than LoRA.
"""

TEMPLATE = """\
---
library_name: peft
tags: [toy]
{% if base_model %}
base_model: {{ base_model }}
{% endif %}
---
{{ marker }}

# {{ repo_id }}

{% if config %}{{ auto_class }} of rank {{ config.r }}.{% endif %}

{{ reference | results_table }}
"""


DEMO = "import sys\nprint('demo', *sys.argv[1:])\nsys.exit(7)\n"

app = typer.Typer()


@app.callback()
def group() -> None:
    """Sub-commands of the toy."""


@app.command()
def spin(times: int) -> None:
    """Spin the toy."""
    typer.echo(f"spun {times} times")


@dataclass
class ToyReport:
    path: Path
    rank: int
    table: dict[str, float]


def export(checkpoint: str, path: str | os.PathLike, rank: int | None = None) -> ToyReport:
    """Write the rank that was asked for."""
    if rank is not None and rank < 1:
        raise ValueError(f"`rank` must be positive, got {rank}")
    Path(path).mkdir()
    (Path(path) / "rank.txt").write_text(f"{Path(checkpoint).name} {rank}")
    return ToyReport(Path(path), rank or 8, {"layer": 0.5})


@pytest.fixture
def made_up_method() -> Method:
    """A row for a method that does not exist."""
    return Method(
        slug="toy",
        title="Toy",
        kind="tuner",
        summary="Does nothing",
        paper="On toys",
        arxiv="0000.00000",
        package="eigenhub.nn",  # one that exists: its public names are read
        saved_as=("TOY",),
        commands=f"{__name__}:app",
        exporter=f"{__name__}:export",
    )


@pytest.fixture
def results_text() -> str:
    return RESULTS


@pytest.fixture
def toy(made_up_method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Method:
    """The made-up method as the only one, its resources below `tmp_path / "root"`."""
    root = tmp_path / "root"
    m = made_up_method
    files = {m.card: TEMPLATE, m.results: RESULTS, m.demo: DEMO, m.script_path: DEMO, f"{m.space}/app.py": DEMO}
    for relative, text in files.items():
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_text(text)
    monkeypatch.setattr("eigenhub.hub.resources.resource_root", lambda: root)
    for module in ("eigenhub.methods", "eigenhub.hub.saved", "eigenhub.cli"):
        monkeypatch.setattr(f"{module}.METHODS", (m,))
    return m


@pytest.fixture
def saved_toy(toy: Method, tmp_path: Path) -> Path:
    """A folder as `save_pretrained` of the made-up method would leave it."""
    folder = tmp_path / "my-toy"
    folder.mkdir()
    config = {"peft_type": "TOY", "task_type": "CAUSAL_LM", "r": 3, "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
