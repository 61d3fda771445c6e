# SPDX-License-Identifier: Apache-2.0
"""Extra `docs`: Sphinx makes a page of Markdown with a formula, and griffe reads the installed package."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import griffe


import_module("latex2mathml.converter")
assert "SorsaConfig" in griffe.load("eigenhub.tuners.sorsa", allow_inspection=False).members
Path("source").mkdir()
Path("source/conf.py").write_text("extensions = ['myst_parser', 'sphinx_copybutton']\nhtml_theme = 'furo'\n")
Path("source/index.md").write_text("# Smoke\n\n```python\nimport eigenhub\n```\n")
command = [sys.executable, "-m", "sphinx", "-q", "-W", "source", "site"]
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0, done.stdout + done.stderr
assert "import" in Path("site/index.html").read_text("utf-8")
print("a page of Markdown by Sphinx; griffe reads the package")
