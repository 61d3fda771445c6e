# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml promises: the extras, the files of the wheel, the version."""

import re
import tomllib
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[2]
#: Folders and files that never belong into a distribution.
FORBIDDEN = frozenset(
    {"__pycache__", "runs", "dist", "build", ".git", ".venv", ".gradio", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)


def pyproject(root: Path = ROOT) -> dict[str, Any]:
    """The parsed file."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def extras() -> dict[str, list[str]]:
    """The extras by name, in the order of the file, and what each asks for."""
    return pyproject()["project"]["optional-dependencies"]


def source_version(root: Path = ROOT) -> str:
    """The version as it stands in the source, read without importing it."""
    text = (root / pyproject(root)["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    return version


def wheel_members(root: Path = ROOT) -> set[str]:
    """Names inside the wheel, but for its metadata: every file of the folders that pyproject.toml maps."""
    sources = pyproject(root)["tool"]["hatch"]["build"]["targets"]["wheel"]["sources"]
    return {
        f"{target}/{path.relative_to(root / source).as_posix()}"
        for source, target in sources.items()
        for path in (root / source).rglob("*")
        if path.is_file() and not FORBIDDEN & set(path.parts[len(root.parts) :]) and path.suffix != ".pyc"
    }
