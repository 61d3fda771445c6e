# SPDX-License-Identifier: Apache-2.0
"""The pages show what was measured, a broken method does not pass for a sound one, and what is stored is still true."""

import dataclasses
import os
import sys

import pytest
import torch

from eigenhub.methods import METHODS
from tests.capabilities import toy
from tests.capabilities.cells import LONGEST, Cell, DoesNotApply, Failed, cell_of
from tests.capabilities.columns import COLUMNS
from tests.capabilities.compare import check_close, check_equal, check_falls, check_moved, check_near
from tests.capabilities.measure import measure
from tests.capabilities.page import PAGE_FILE, marks_table, page, readme_part, readme_table, with_readme_table
from tests.capabilities.probes import check_ended
from tests.capabilities.stored import Stored, differences, read_table, write_table
from tests.support.processes import ROOT, Finished, run


KEYS = [column.key for column in COLUMNS]
TENSOR = {"w": torch.tensor([1.0, 2.0])}


# the pages


def test_every_cell_is_stored():
    assert {slug: list(cells) for slug, cells in read_table().table.items()} == {m.slug: KEYS for m in METHODS}


def test_what_is_not_a_yes_has_a_reason():
    bare = [
        (s, k) for s, cells in read_table().table.items() for k, c in cells.items() if c.state != "yes" and not c.text
    ]
    assert bare == []


def test_the_page_shows_the_stored_table():
    assert PAGE_FILE.read_text("utf-8") == page(read_table()), "run `python -m tests.capabilities`"


def test_the_readme_shows_the_stored_table():
    shown = readme_part((ROOT / "README.md").read_text("utf-8"))
    assert shown is not None, "README.md has no `<!-- capabilities -->` … `<!-- /capabilities -->`"
    assert shown == readme_table(read_table().table), "run `python -m tests.capabilities`"


def test_the_readme_is_renewed_between_its_markers_only():
    table = {"sorsa": {"bf16": Cell("no", "why")}}
    text = "before\n<!-- capabilities -->\nstale\n<!-- /capabilities -->\nafter\n"
    renewed = with_readme_table(text, table)
    assert readme_part(renewed) == readme_table(table) and "stale" not in renewed
    assert renewed.startswith("before\n<!--") and renewed.endswith("-->\nafter\n")
    assert with_readme_table("no markers\n", table) == "no markers\n"


def test_a_mark_for_each_state_and_for_what_was_not_measured():
    cells = dict(zip(KEYS, (Cell("yes"), Cell("no", "why"), Cell("n/a", "why")), strict=False))
    row = next(line for line in marks_table({"sorsa": cells}, "methods").splitlines() if "SORSA" in line)
    assert row.split(" | ")[1:5] == ["✓", "✗", "–", "?"]


# what is stored


def test_a_table_survives_its_file(tmp_path):
    stored = Stored({}, {}, {}).with_measured({"toy": {"bf16": Cell("no", "a: b"), "export": Cell("yes")}})
    write_table(stored, tmp_path / "table.yaml")
    assert read_table(tmp_path / "table.yaml") == stored


def test_a_lie_is_a_difference():
    measured = {"toy": {"bf16": Cell("no", "ValueError: 0.25 is too much"), "export": Cell("yes")}}
    assert differences(measured, measured) == []
    lie = {"toy": {"bf16": Cell("yes"), "export": Cell("yes")}}
    (line,) = differences(lie, measured)
    assert line == "toy bf16: stored yes, measured no (ValueError: 0.25 is too much)"
    assert len(differences({"toy": {"bf16": Cell("no", "another reason"), "export": Cell("yes")}}, measured)) == 1
    assert (
        differences({"toy": {"bf16": Cell("no", "ValueError: 0.5 is too much"), "export": Cell("yes")}}, measured)
        == []
    )
    assert differences({}, measured)[1] == "toy export: not stored, measured yes"


def test_measured_cells_replace_stored_ones_and_leave_the_rest():
    old = Stored(
        {"toy": {"bf16": Cell("yes"), "export": Cell("yes")}},
        {"toy": dict.fromkeys(("bf16", "export"), "2026-01-01")},
        {},
    )
    new = old.with_measured({"toy": {"bf16": Cell("no", "why")}})
    assert new.table["toy"] == {"bf16": Cell("no", "why"), "export": Cell("yes")}
    assert new.dates["toy"]["export"] == "2026-01-01" != new.dates["toy"]["bf16"]


# probes


def fail(error):
    raise error


def test_what_a_probe_raises_is_its_cell():
    assert cell_of(lambda: None) == Cell("yes") and cell_of(lambda: "noted") == Cell("yes", "noted")
    assert cell_of(lambda: fail(DoesNotApply("because"))) == Cell("n/a", "because")
    assert cell_of(lambda: fail(KeyError("\n\nfirst\nsecond"))).state == "no"
    assert cell_of(lambda: fail(RuntimeError("\n first \nsecond"))) == Cell("no", "RuntimeError: first")
    assert cell_of(lambda: fail(Failed("KeyError: there"))) == Cell("no", "KeyError: there")
    assert cell_of(lambda: fail(SystemExit(2))) == Cell("no", "SystemExit: 2")
    assert len(cell_of(lambda: fail(ValueError("x" * 999))).text) == LONGEST
    with pytest.raises(KeyboardInterrupt):
        cell_of(lambda: fail(KeyboardInterrupt()))


def test_a_column_without_a_probe_is_a_no_and_stops_nothing():
    table = measure([toy.Bare(), toy.SoundProbes()], ["bf16", "generate", "script"], quiet=True)
    assert {key: cell.state for key, cell in table["bare"].items()} == {"bf16": "no", "generate": "no", "script": "no"}
    assert "no probe `bf16` for bare" in table["bare"]["bf16"].text
    assert table["toy"]["bf16"] == Cell("yes") and table["toy"]["generate"] == Cell("n/a", "a number is no text")


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        (toy.Announced, "gradient_checkpointing", "not computed again"),
        (toy.Scaled, "gradient_checkpointing", "gradients: block.weight differs by"),
        (toy.Overflowing, "bf16", "the loss does not fall: inf"),
        (toy.CompiledOtherwise, "compile", "compiled gradient: block.weight differs by"),
    ],
)
def test_a_broken_method_is_found_out(tmp_path, kind, column, said):
    assert cell_of(lambda: getattr(toy.SoundProbes(), column)(tmp_path)).state == "yes"
    found = cell_of(lambda: getattr(toy.probes_with(kind), column)(tmp_path))
    assert found.state == "no" and said in found.text, found


def test_graph_breaks_are_counted(tmp_path):
    assert toy.SoundProbes().compile(tmp_path) == "one graph"
    assert toy.probes_with(toy.BreaksGraph).compile(tmp_path) == "1 graph break"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: check_equal({"w": torch.tensor([1.0, 2.5])}, TENSOR, "it"), "it: w differs by 5.0e-01"),
        (lambda: check_close({"w": torch.tensor([1.0, float("nan")])}, TENSOR, "it"), "differs by nan"),
        (lambda: check_equal({"w": torch.ones(1)}, TENSOR, "it"), "shape"),
        (lambda: check_equal({"v": TENSOR["w"]}, TENSOR, "it"), "other names"),
        (lambda: check_equal({}, {}, "it"), "0 tensors"),
        (lambda: check_moved(TENSOR, TENSOR), "moved no weight"),
        (lambda: check_falls([1.0, 1.0]), "does not fall: 1.0000, 1.0000"),
        (lambda: check_falls([2.0, float("nan"), 1.0]), "does not fall"),
        (lambda: check_near([1.0], [2.0], 0.05, "loss"), "1.0000 in step 0, 2.0000"),
    ],
)  # fmt: skip
def test_comparisons_find_differences(check, said):
    with pytest.raises(AssertionError, match=said):
        check()


def test_a_failed_process_says_its_last_line():
    done = Finished(1, "", "Traceback\nValueError: no\n", 0.0, [])
    with pytest.raises(Failed, match="^ValueError: no$"):
        check_ended(done)
    check_ended(dataclasses.replace(done, returncode=0))


@pytest.mark.slow
def test_the_stored_table_is_true():
    run([sys.executable, "-m", "tests.capabilities", "--check"], os.environ, ROOT, timeout=1800)
