# SPDX-License-Identifier: Apache-2.0
"""The wheel, the Makefile and the CI script."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml

from eigenhub import __version__
from eigenhub.methods import METHODS
from tests.house.sources import ROOT
from tests.install.project import extras, pyproject, source_version, wheel_members
from tests.install.smoke_run import PROGRAMS


#: torch: see below; the others have a lower bound that a fellow dependency raises.
FOLLOW_ANOTHER = ("torch", "safetensors", "tokenizers", "datasets")


def make(*args, **environment):
    return subprocess.run(
        ["make", *args], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_the_wheel_holds_what_the_commands_need(tmp_path):
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", tmp_path, ROOT], check=True, timeout=240)
    (wheel,) = tmp_path.glob(f"eigenhub-{__version__}-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [f"eigenhub/resources/{part}" for m in METHODS for part in (m.card, m.results, m.script_path, m.demo)]
    wanted += [f"eigenhub/resources/{m.space}/app.py" for m in METHODS]
    assert [name for name in ["eigenhub/py.typed", *wanted] if name not in names] == []
    assert {name for name in names if ".dist-info/" not in name} == wheel_members()


def requirement(entry):
    """Its name, or the extras of this package that it stands for."""
    name, brackets = re.fullmatch(r"([\w.-]+)(?:\[([\w,]+)\])?.*", entry).groups()
    return brackets.split(",") if name == "eigenhub" else [name]


def test_the_table_of_extras_is_that_of_pyproject():
    text = (ROOT / "docs" / "install.md").read_text("utf-8")
    table = text.split("<!-- extras -->\n")[1].split("\n<!-- /extras -->")[0].splitlines()[2:]
    shown = {}
    for line in table:
        extra, brings, purpose = (cell.strip() for cell in line.strip("|").split("|"))
        assert purpose, line
        shown[extra.strip("`")] = [name.strip("` ") for name in brings.split(",")]
    assert shown == {name: [r for entry in entries for r in requirement(entry)] for name, entries in extras().items()}


def test_every_extra_has_a_smoke_test():
    assert {path.stem.removeprefix("with_") for path in PROGRAMS.glob("with_*.py")} == set(extras())


def test_the_oldest_versions_are_the_lower_bounds():
    """torch is the exception: what PyPI has of its oldest version needs the CUDA libraries."""
    lines = (ROOT / "requirements" / "constraints-oldest.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    wrong = {}
    for entry in pyproject()["project"]["dependencies"]:
        name, bound = re.fullmatch(r"([\w-]+)(?:>=([\d.]+))?.*", entry).groups()
        pin = pins[name.replace("_", "-")]
        if bound and name not in FOLLOW_ANOTHER and not f"{pin}.".startswith(f"{bound}."):
            wrong[entry] = pin
    assert wrong == {}


def test_the_citation_is_current():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__ == source_version()
    assert citation["license"] == pyproject()["project"]["license"]
    cited = [(paper["title"], paper["url"].rsplit("/", 1)[1]) for paper in citation["references"]]
    assert cited == [(method.paper, method.arxiv) for method in METHODS]


def test_make_lists_its_targets():
    text = make("help").stdout
    for target in ("demo", "test", "test-slow", "test-browser", "test-flower", "quality", "style", "bench", "clean"):
        assert f"\n{target} " in f"\n{text}"


def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    done = make("install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert "eigenhub needs Python >= 3.11, got Python 3.9.1" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_make_test_browser_says_what_is_missing(tmp_path):
    """With an installation that is up to date and no browser on the path."""
    tools = ("sh", "cat", "cksum", "cut")
    for tool in tools:
        (tmp_path / tool).symlink_to(shutil.which(tool))
    dry = make("-n", "install", f"VENV={tmp_path / 'venv'}").stdout
    stamp = next(line.split()[-1] for line in dry.splitlines() if line.startswith("touch "))
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / os.path.basename(stamp)).touch()
    done = subprocess.run(
        [shutil.which("make"), "test-browser", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "make test-browser needs one of chromium" in done.stderr


def test_the_stamp_follows_the_content_of_its_inputs(tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)

    def stamp():
        dry = subprocess.run(
            ["make", "-n", "install"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        return [line for line in dry.splitlines() if line.startswith("touch ")]

    first = stamp()
    os.utime(tmp_path / "pyproject.toml")
    assert stamp() == first != []
    with open(tmp_path / "requirements" / "constraints.txt", "a") as file:
        file.write("# changed\n")
    assert stamp() != first


def test_the_ci_script_is_a_runnable_program():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert "set -euo pipefail" in text
    called = {word for line in text.splitlines() if "make " in line and line[0] != "#" for word in line.split()}
    assert {"quality", "docs", "capabilities", "test", "test-browser", "test-flower", "test-hub"} <= called
