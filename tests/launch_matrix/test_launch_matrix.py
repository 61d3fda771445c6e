# SPDX-License-Identifier: Apache-2.0
"""The table of launches: what is stored is what the page shows, messages become cells, every script has a row."""

import json
from pathlib import Path

import pytest

from tests.common.script_tester import Run
from tests.launch_matrix.__main__ import SCRIPTS, main
from tests.launch_matrix.cells import Cell, broken
from tests.launch_matrix.columns import COLUMNS
from tests.launch_matrix.judge import check_figures, check_losses, figures_of, settled
from tests.launch_matrix.launches import CONFIGS, ENGINES
from tests.launch_matrix.stored import (
    BEGIN,
    END,
    PAGE,
    differences,
    page_with,
    read,
    stored_versions,
    table_text,
    write,
)
from tests.support.processes import ROOT, Finished


KEYS = {column.key for column in COLUMNS}


def ended(stderr: str, code: int = 1) -> Finished:
    return Finished(code, "", stderr, 0.0, [])


def test_every_training_script_has_a_row() -> None:
    scripts = ROOT / "scripts"
    found = {str(path.relative_to(scripts)) for path in scripts.glob("*/train_*.py")}
    assert found <= set(SCRIPTS) and len(set(SCRIPTS)) == len(SCRIPTS)
    assert all((scripts / script).exists() for script in SCRIPTS)


def test_engines_have_a_configuration_and_a_column() -> None:
    assert set(ENGINES) <= KEYS
    assert all((CONFIGS / name).is_file() for name in ENGINES.values())


def test_the_page_shows_what_is_stored() -> None:
    page = PAGE.read_text("utf-8")
    assert page_with(page, read(), SCRIPTS, stored_versions()) == page


def test_stored_cells_are_of_known_programs_and_columns() -> None:
    table = read()
    assert set(table) <= set(SCRIPTS)
    assert all(set(cells) <= KEYS for cells in table.values())
    assert all(cell.date and (cell.text or cell.state == "yes") for cells in table.values() for cell in cells.values())


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    table = {"a.py": {"two": Cell("no", "Error: 1", "2030-01-02"), "one": Cell("yes", date="2030-01-01")}}
    write(table, ["a.py", "b.py"], {"torch": "2"}, tmp_path / "t.yaml")
    assert read(tmp_path / "t.yaml") == table
    assert stored_versions(tmp_path / "t.yaml") == {"torch": "2"}
    assert read(tmp_path / "none.yaml") == {} == stored_versions(tmp_path / "none.yaml")


def test_marks_and_notes() -> None:
    cells = {
        "one": Cell("yes"),
        "fsdp2": Cell("refused", "not under FSDP"),
        "zero2": Cell("refused", "not under FSDP"),
    }
    text = table_text({"a.py": cells | {"kill": Cell("n/a", "no steps")}}, ["a.py"])
    assert "| `a.py` | ✓ | ? | refused | refused | ? | – |" in text
    assert "- `a.py`, FSDP2 × 2, ZeRO-2 × 2: not under FSDP" in text and "- `a.py`, SIGKILL, resume: no steps" in text


def test_only_the_part_between_the_markers_changes() -> None:
    page = page_with(f"before\n{BEGIN}\nold\n{END}\nafter\n", {}, [], {"torch": "2"})
    assert page.startswith(f"before\n{BEGIN}\n| program |") and page.endswith(f"{END}\nafter\n") and "old" not in page
    with pytest.raises(ValueError, match="must hold"):
        page_with("nothing", {}, [], {})


def test_a_message_that_names_the_engine_is_a_refusal() -> None:
    said = "train.py: error: --optimizer trion needs matrices, which DEEPSPEED flattens to vectors\n"
    launcher = 'Traceback (most recent call last):\n  File "torch/distributed/elastic/x.py"\nChildFailedError: \n'
    assert broken(
        ended(f"usage: train.py\n{said}E1130 torch/distributed/elastic/multiprocessing failed\n{launcher}")
    ) == (Cell("refused", "--optimizer trion needs matrices, which DEEPSPEED flattens to vectors"))


def test_a_traceback_is_a_no() -> None:
    stderr = "[rank0]: Traceback (most recent call last):\n[rank0]: RuntimeError: flattened by DeepSpeed\n"
    assert broken(ended(stderr)) == Cell("no", "RuntimeError: flattened by DeepSpeed")
    assert broken(ended("", -9)) == Cell("no", "exit code -9")


def test_measured_numbers_and_paths_are_no_difference() -> None:
    stored = {"a.py": {"one": Cell("no", "off by 1.5e-3 in /a/b", "2030-01-01")}}
    assert differences(stored, {"a.py": {"one": Cell("no", "off by 2.5e-3 in /c", "2031-01-01")}}) == []
    assert differences(stored, {"a.py": {"one": Cell("yes"), "two": Cell("yes")}}) == [
        "a.py one: stored no (off by 1.5e-3 in /a/b), measured yes",
        "a.py two: stored nothing, measured yes",
    ]


def test_unknown_rows_are_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["--program", "nothing.py"])
    assert "invalid choice: 'nothing.py'" in capsys.readouterr().err


def test_figures_of_a_run(tmp_path: Path) -> None:
    summary = {"accuracy": 0.5, "seconds": 3.0, "settings": {"loss": 1.0}, "retrieval": {"map": 0.25, "name": "x"}}
    runs = [Run(tmp_path / name, 1) for name in ("one", "other")]
    for run, accuracy in zip(runs, (0.5, 0.6), strict=True):
        run.folder.mkdir()
        (run.folder / "summary.json").write_text(json.dumps(summary | {"accuracy": accuracy}))
        (run.folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert figures_of(runs[0]) == {"loss of step 1": 2.0, "accuracy": 0.5, "retrieval map": 0.25}
    check_figures(runs[0], runs[0])
    with pytest.raises(AssertionError, match="accuracy is 0.6, in one process 0.5"):
        check_figures(runs[1], runs[0])


def test_losses_must_be_all_and_finite(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n')
    for steps in (1, 2, 3):
        with pytest.raises(AssertionError, match="losses of 2 steps"):
            check_losses(Run(tmp_path, 1), steps)


def test_configurations_are_compared_without_the_order_of_a_set():
    found = settled({"targets": ["q", "k"], "loss_scale": 1.5, "inner": {"r": 4}, "sizes": [2, 1]})
    assert found == {"targets": ["k", "q"], "inner": {"r": 4}, "sizes": [2, 1]}
