# SPDX-License-Identifier: Apache-2.0
"""All benchmarks in one sitting: what fails, what is resumed, what is called a regression; the pages; the programs' interface."""

import ast
import importlib
import json
from pathlib import Path

import pytest

from tests.support.processes import ROOT


PROGRAMS = sorted((ROOT / "benchmarks").glob("[!_]*.py"))
MACHINE = {"cpu": "made up", "cores": 2, "threads": 1, "memory_gb": 8.0, "flags": ["avx2"], "gpu": None}
#: A benchmark that notes that it was run and reports the rows of `rows.json` beside it.
TINY = """
import json, os, pathlib, sys
here = pathlib.Path(__file__)
with open(here.with_suffix(".runs"), "a") as runs:
    runs.write(sys.argv[1] + " ")
section = {
    "title": "Tiny " + here.stem, "note": "", "program": here.stem,
    "environment": {"date": "2026-01-02", "device": "x86_64", "threads": 1, "cores": 2, "versions": {"torch": "1"}},
    "rows": json.loads((here.parent / "rows.json").read_text()),
}
folder = pathlib.Path(os.environ["EIGENHUB_BENCH_RESULTS"])
folder.mkdir(parents=True, exist_ok=True)
(folder / (here.stem + "_report.json")).write_text(json.dumps(section))
"""


def line(what, value, kind="ratio", bound=None, **spread):
    return {"what": what, "setting": f"d=8; {value} ms", "value": value, "bound": bound, "kind": kind, **spread}


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def sitting(monkeypatch):
    module = importlib.import_module("support.sitting")
    monkeypatch.setattr(module, "machine", lambda: MACHINE)
    monkeypatch.setattr(module, "versions", lambda: ({"torch": "1"}, ["jax"]))
    return module


@pytest.fixture
def places(sitting, tmp_path):
    folder = tmp_path / "benchmarks"
    (folder / "results").mkdir(parents=True)
    write_rows(folder, [line("ours / theirs", 0.5, bound=0.4)])
    (folder / "one.py").write_text(TINY)
    (folder / "two.py").write_text(TINY)
    return sitting.Places(folder, tmp_path / "sittings")


def write_rows(folder, rows):
    (folder / "rows.json").write_text(json.dumps(rows))


def record_of(places, name="short"):
    return json.loads((places.sittings / name / "sitting.json").read_text())


def runs_of(places, name):
    return (places.programs / f"{name}.runs").read_text().split()


def test_a_failing_benchmark_stops_nothing_and_is_named(sitting, places, capsys):
    (places.programs / "broken.py").write_text("raise RuntimeError('out of luck')")
    (places.programs / "silent.py").write_text("")
    (places.programs / "without_data.py").write_text("print('skipped: needs a file')")
    (places.programs / "without_peer.py").write_text("raise ModuleNotFoundError(\"No module named 'faiss'\")")
    assert sitting.main([], places) == 1
    record = record_of(places)
    assert {name: entry["status"] for name, entry in record["benchmarks"].items()} == {
        "broken": "failed",
        "one": "ok",
        "silent": "failed",
        "two": "ok",
        "without_data": "skipped",
        "without_peer": "skipped",
    }
    assert record["benchmarks"]["without_peer"]["reason"] == "faiss-cpu is not installed"
    assert record["finished"] and record["machine"] == MACHINE and record["absent"] == ["jax"]
    shown = capsys.readouterr().out
    assert "RuntimeError: out of luck" in shown and shown.rstrip().endswith("FAILED: broken, silent")
    assert "| Tiny one | ours / theirs | d=8; 0.5 ms | 0.5 | ≤ 0.4 |" in shown


def test_an_interrupted_sitting_goes_on_where_it_was(sitting, places, monkeypatch, capsys):
    runner = importlib.import_module("support.runner")
    run_program = runner.run_program

    def interrupted(program: Path, *args):
        if program.stem == "two":
            raise KeyboardInterrupt
        return run_program(program, *args)

    monkeypatch.setattr(runner, "run_program", interrupted)
    assert sitting.main(["--short"], places) == 130
    monkeypatch.setattr(runner, "run_program", run_program)
    assert sitting.main(["--short"], places) == 0
    assert "one: ok already" in capsys.readouterr().out
    assert runs_of(places, "one") == runs_of(places, "two") == ["--short"]
    assert sitting.main(["--short"], places) == 0  # a finished one begins anew
    assert runs_of(places, "one") == ["--short"] * 2


@pytest.mark.parametrize("flags", [["--fresh"], []])
def test_an_interrupted_sitting_is_not_mixed_with_another(sitting, places, monkeypatch, flags):
    monkeypatch.setattr(sitting, "run_all", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(sitting, "versions", lambda: ({"torch": "1" if flags else "0"}, ["jax"]))
    places_folder = places.sittings / "short"
    importlib.import_module("support.record").write(
        places_folder / "sitting.json",
        {"mode": "short", "machine": MACHINE, "versions": {"torch": "1"}, "absent": ["jax"], "begun": "x"}
        | {"finished": False, "against": None, "benchmarks": {"one": {}}},
    )
    assert sitting.begin(places_folder, "short", None, bool(flags))["benchmarks"] == {}


def test_a_regression_is_shown_and_noise_is_not_called_one(sitting, places, capsys):
    def rows(value):
        near, wide = [value * 0.98, value * 1.02], [value * 0.5, value * 1.5]
        return [
            line("certain", value, quartiles=near),
            line("noisy", value, quartiles=wide),
            line("unknown", value),
            line("better", 1 / value, range=[0.99 / value, 1.01 / value]),
            line("beyond", value - 1, "excess", quartiles=[value - 1.01, value - 0.99]),
            line("another kind", value, "size" if value == 1 else "ratio"),
            line("accuracy", value, "quality", range=near),
            line("peers", value, "peers", quartiles=near),
            line("a little", value**0.2, quartiles=[value**0.2] * 2),
        ]

    write_rows(places.programs, rows(1.0))
    assert sitting.main(["--store"], places) == 0
    write_rows(places.programs, rows(1.5))
    assert sitting.main(["--only", "one"], places) == 0
    found = record_of(places, "short-one")["benchmarks"]["one"]["comparison"]
    assert {change["what"]: change["verdict"] for change in found["changes"]} == {
        "certain": "regression",
        "beyond": "regression",
        "noisy": "within the spread",
        "unknown": "no spread known",
        "better": "improvement",
    }
    assert found["gone"] == found["new"] == ["another kind; d=8"]
    assert found["worst"] == pytest.approx(0.5)
    shown = capsys.readouterr().out
    assert "| **regression** | Tiny one | certain | d=8 | 1 (0.98 to 1.02) | 1.5 (1.47 to 1.53) | +50% |" in shown
    assert "2 regressions, the largest +50%" in shown
    assert sitting.main(["--only", "one", "--fail-on-regression"], places) == 1
    assert sitting.main(["--only", "two", "--store", "--fail-on-regression"], places) == 1
    assert sitting.main(["--only", "two", "--fail-on-regression"], places) == 0


def test_bounds_of_findings_do_not_count_in_a_short_sitting(sitting, places):
    summary = importlib.import_module("support.summary")
    write_rows(places.programs, [line("accuracy", 2.0, "quality", 1.0), line("error", 2.0, "error", 1.0)])
    sitting.main(["--only", "one"], places)
    record = record_of(places, "short-one")
    assert [row["what"] for _, row in summary.missed(record)] == ["error"]
    assert [row["what"] for _, row in summary.missed({**record, "mode": "full"})] == ["accuracy", "error"]


def test_a_full_sitting_is_stored_and_shown(sitting, places):
    pages = importlib.import_module("support.pages")
    assert sitting.main(["--full"], places) == 0
    assert runs_of(places, "one") == ["--full"]
    stored = json.loads((places.results / "one_report.json").read_text())
    assert stored["rows"] == json.loads((places.programs / "rows.json").read_text())
    index = (places.programs / "README.md").read_text()
    assert "[Tiny one](pages/one_report.md) | 1 | 0 | **1** |" in index
    assert "made up, avx2, 2 cores, 1 threads, 8 GB, no GPU" in index and "There was no stored run" in index
    assert "ours / theirs" in (places.programs / "pages" / "two_report.md").read_text()
    for path, text in pages.pages(places.results).items():
        assert path.read_text() == text


def test_a_part_is_not_stored_over_a_sitting_of_another_machine(sitting, places, monkeypatch):
    assert sitting.main(["--store"], places) == 0
    monkeypatch.setattr(sitting, "machine", lambda: {**MACHINE, "cpu": "another"})
    with pytest.raises(ValueError, match="no results of two.*made up"):
        sitting.main(["--only", "one", "--store"], places)


def test_short_rows_are_saved_in_a_sitting_only(monkeypatch, tmp_path, capsys):
    report = importlib.import_module("support.report")
    env = {"date": "", "device": "", "threads": 1, "cores": 1, "versions": {}}
    monkeypatch.setattr(report, "environment", lambda packages: env)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    rows = [report.row("a / b", "d=8", 0.5), report.row("bytes", "d=8", 3, kind="size")]
    report.save("tiny", "Tiny", rows, [], keep=False)
    assert "| a / b | d=8 | ratio | 0.5 |" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    monkeypatch.setenv(report.RESULTS_VARIABLE, str(tmp_path / "sitting"))
    report.save("tiny", "Tiny", rows, [], keep=False)
    saved = json.loads((tmp_path / "sitting" / "tiny.json").read_text())
    assert [row["kind"] for row in saved["rows"]] == ["ratio", "size"]
    with pytest.raises(ValueError, match="must be one of ratio, .* got speed"):
        report.save("tiny", "Tiny", [report.row("a", "b", 1, kind="speed")], [], keep=False)


def test_the_pages_are_current():
    pages = importlib.import_module("support.pages").pages()
    stale = [str(path.relative_to(ROOT)) for path, text in pages.items() if path.read_text() != text]
    assert stale == [], "run `python benchmarks --page`"
    assert set((ROOT / "benchmarks" / "pages").glob("*.md")) == set(pages) - {ROOT / "benchmarks" / "README.md"}


def test_rows_that_are_compared_have_names_of_their_own():
    comparison = importlib.import_module("support.comparison")
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        rows = [row for row in json.loads(path.read_text())["rows"] if row["kind"] in comparison.COMPARED]
        assert [name for name in comparison.identities(rows) if name[2]] == [], path.name


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_benchmark_has_a_docstring_and_the_common_flags(program):
    tree = ast.parse(program.read_text("utf-8"))
    assert f"python benchmarks/{program.name}" in (ast.get_docstring(tree) or "")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert any(isinstance(call.func, ast.Name) and call.func.id == "arguments" for call in calls)


@pytest.mark.parametrize("default", ["short", "full"])
def test_the_common_flags(default, monkeypatch, tmp_path):
    common = importlib.import_module("support.arguments")
    monkeypatch.setenv(common.CACHE_VARIABLE, str(tmp_path))
    parser = common.arguments("doc", default, "little")
    common.add_cache(parser, "tiny")
    assert [parser.parse_args(flags).full for flags in ([], ["--short"], ["--full"])] == [
        default == "full",
        False,
        True,
    ]
    assert parser.parse_args([]).cache == tmp_path / "tiny"
    with pytest.raises(SystemExit):
        parser.parse_args(["--short", "--full"])
