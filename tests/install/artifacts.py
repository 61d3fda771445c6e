# SPDX-License-Identifier: Apache-2.0
"""The sdist and the wheel: built, and compared with what the checkout and pyproject.toml say."""

import email.parser
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from tests.install.environment import Environment
from tests.install.project import FORBIDDEN, ROOT, extras, pyproject, source_version, wheel_members


def build(tools: Environment, out: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is made from it.

    Args:
        tools (`Environment`): has `build` and `twine`.
        out (`Path`): a folder to write into.

    Returns:
        `tuple[Path, Path]`: the sdist and the wheel.
    """
    tools.run(tools.python, "-m", "build", "--outdir", out, ROOT)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def problems(tools: Environment, sdist: Path, wheel: Path, scratch: Path) -> list[str]:
    """All that is wrong with the two files, one line each; empty if nothing is."""
    tools.run(tools.python, "-m", "twine", "check", "--strict", sdist, wheel)
    tools.run(tools.python, "-m", "build", "--wheel", "--outdir", scratch, ROOT)
    return [
        *_wheel_problems(wheel),
        *_metadata_problems(wheel),
        *_sdist_problems(sdist),
        *_differences(wheel, scratch / wheel.name),
    ]


def _wheel_problems(wheel: Path) -> Iterator[str]:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = wheel_members()
    yield from (f"{wheel.name} lacks {name}" for name in sorted(expected - names))
    yield from (f"{wheel.name} should not hold {name}" for name in sorted(names - expected))
    for name in ("eigenhub/py.typed", *(f"eigenhub/resources/{part}" for part in ("scripts", "spaces", "hub_cards"))):
        if not any(found == name or found.startswith(f"{name}/") for found in names):
            yield f"{wheel.name} lacks {name}"


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        return email.parser.Parser().parsestr(file.read(name).decode("utf-8"))


def _metadata_problems(wheel: Path) -> Iterator[str]:
    metadata, project = _metadata(wheel), pyproject()["project"]
    wanted = {
        "Name": project["name"],
        "Version": source_version(),
        "Summary": project["description"],
        "Requires-Python": project["requires-python"],
        "License-Expression": project["license"],
        "Description-Content-Type": "text/markdown",
    }
    for field, value in wanted.items():
        if metadata[field] != value:
            yield f"{field} of {wheel.name} is {metadata[field]!r}; pyproject.toml says {value!r}"
    if set(metadata.get_all("Provides-Extra", [])) != set(extras()):
        yield f"{wheel.name} offers the extras {metadata.get_all('Provides-Extra')}; pyproject.toml {sorted(extras())}"
    names = zipfile.ZipFile(wheel).namelist()
    for ending in (".dist-info/licenses/LICENSE", ".dist-info/entry_points.txt"):
        if not any(name.endswith(ending) for name in names):
            yield f"{wheel.name} lacks *{ending}"


def _sdist_problems(sdist: Path) -> Iterator[str]:
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    yield from (f"{sdist.name} should not hold {name}" for name in sorted(names) if FORBIDDEN & set(name.split("/")))
    for name in ("LICENSE", "README.md", "pyproject.toml", "requirements/constraints.txt", "tests/conftest.py"):
        if name not in names:
            yield f"{sdist.name} lacks {name}"


def _differences(from_sdist: Path, from_checkout: Path) -> Iterator[str]:
    with zipfile.ZipFile(from_sdist) as first, zipfile.ZipFile(from_checkout) as second:
        names = set(first.namelist()) ^ set(second.namelist())
        same = set(first.namelist()) & set(second.namelist())
        names |= {name for name in same if first.read(name) != second.read(name)}
    yield from (f"{name} differs between the wheel of the sdist and that of the checkout" for name in sorted(names))
