# SPDX-License-Identifier: Apache-2.0
"""A made-up metric is added to a copy of the tree by the steps of CONTRIBUTING.md, and the house takes it in."""

import difflib
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, run


NEW = Path(__file__).parent / "new_method"  # its own folders: nothing in them was there before
COPIED = ("src", "hub_cards", "scripts", "spaces", "benchmarks", "docs", "requirements", "tests")
SINGLE = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile")
WRITTEN = ("README.md", "docs/papers.md", "docs/negative_results.md")  # by the commands that fill_in calls
LAST_ROW = ")\n\n\ndef get_method"
ROW = """\
    Method(
        slug="spectral_gap",
        title="Spectral gap",
        kind="metric",
        summary="How far the largest singular value stands out",
        paper="On gaps",
        arxiv="0000.00000",
    ),
"""


WISH = "| see how far a direction leads | [Spectral gap](methods/spectral_gap.md) | `eigenhub demo spectral_gap` |"
AFTER_WISHES = "\n\nEvery page of a method"


def in_copy(root, *args):
    """Run `python ARGS` where the copy is the package."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]), "OMP_NUM_THREADS": "1"}
    done = run([sys.executable, *args], environment, root, check=False)
    assert done.returncode == 0, str(done)
    return done.stdout


def texts(root):
    """Every file of the tree that is text."""
    files = [
        path
        for path in root.rglob("*")
        if path.is_file() and path.suffix in (".py", ".md", ".yaml", ".toml", ".jinja")
    ]
    return {path.relative_to(root): path.read_text("utf-8").splitlines() for path in files}


def insert(file, text, before):
    """Put text in front of a place that occurs once."""
    head, tail = file.read_text("utf-8").split(before)
    file.write_text(head + text + before + tail, "utf-8")


def fill_in(root):
    """The steps of CONTRIBUTING.md: own folders, a row, a wish, and what commands write."""
    shutil.copytree(NEW, root, dirs_exist_ok=True)
    insert(root / "src" / "eigenhub" / "methods.py", ROW, before=LAST_ROW)
    insert(root / "docs" / "index.md", f"\n{WISH}", before=AFTER_WISHES)
    in_copy(root, "docs/_ext/write_pages.py")
    readme = root / "README.md"
    head, rest = readme.read_text("utf-8").split("<!-- methods -->\n")
    shown = in_copy(root, "-m", "eigenhub.cli", "list", "--markdown")
    readme.write_text(f"{head}<!-- methods -->\n{shown}<!-- /methods -->{rest.split('<!-- /methods -->')[1]}", "utf-8")


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A copy of the tree with the method in it, and the text of its files before."""
    root = tmp_path_factory.mktemp("copy")
    for folder in COPIED:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "new_method"))
    for file in SINGLE:
        shutil.copy(ROOT / file, root / file)
    before = texts(root)
    fill_in(root)
    return root, before


def touched(before, after):
    """Lines added to or removed from files that were there before and that no command writes."""
    changed = [(old, after[path]) for path, old in before.items() if old != after[path] and str(path) not in WRITTEN]
    return [line[2:] for pair in changed for line in difflib.ndiff(*pair) if line[:2] in ("+ ", "- ")]


def test_it_touches_fewer_than_ten_lines_of_others(grown):
    root, before = grown
    lines = touched(before, texts(root))
    assert sorted(lines) == sorted([*ROW.splitlines(), WISH])
    assert len(lines) < 10


def test_the_house_takes_it_in(grown):
    copy, _ = grown
    own = [
        "tests/metrics/spectral_gap",
        *(f"tests/house/test_{name}.py" for name in ("floors", "sources", "docs_site")),
    ]
    chosen = "spectral_gap or Contract or keeps_its_floors or licence or listed or current or navigation or wishes"
    report = in_copy(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "tests/test_methods.py", *own)
    assert " failed" not in report
    assert int(report.split(" passed")[0].split()[-1]) > 30


@pytest.mark.slow
def test_its_commands_run(grown):
    copy, _ = grown
    assert "diag(4, 1): 0.75" in in_copy(copy, "-m", "eigenhub.cli", "demo", "spectral_gap")
    trained = in_copy(copy, "-m", "eigenhub.cli", "train", "--cpu", "spectral_gap", "--max_steps", "400")
    assert float(trained.split()[-1]) > 0.9
    assert "https://arxiv.org/abs/0000.00000" in in_copy(copy, "-m", "eigenhub.cli", "card", "spectral_gap")
    in_copy(copy, "-c", "import sys; sys.path.insert(0, 'spaces/spectral_gap'); import app; assert app.demo.fns")
