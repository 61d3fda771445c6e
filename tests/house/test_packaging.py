# SPDX-License-Identifier: Apache-2.0
"""The wheel, the Makefile and the CI script."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from eigenhub import __version__
from eigenhub.methods import METHODS
from tests.house.sources import ROOT


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
    assert [name for name in names if "__pycache__" in name or name.startswith(("tests", "src"))] == []


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
    assert text.rstrip().endswith("make quality test test-browser test-flower")
