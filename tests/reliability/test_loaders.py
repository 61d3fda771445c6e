# SPDX-License-Identifier: Apache-2.0
"""No damaged file is loaded in silence, runs anything, or fails without saying which file it was.

A row per loader; the damage is shared, see `corruptions.py`.
"""

from pathlib import Path

import pytest

from tests.reliability.corruptions import Corruption, corruptions
from tests.reliability.data_loaders import DATA_LOADERS
from tests.reliability.json_loaders import JSON_LOADERS
from tests.reliability.loader import Loader
from tests.reliability.pretrained_loaders import PRETRAINED_LOADERS
from tests.reliability.tensor_loaders import TENSOR_LOADERS


LOADERS = [*JSON_LOADERS, *TENSOR_LOADERS, *DATA_LOADERS, *PRETRAINED_LOADERS]


def faults(loader: Loader, folder: Path, flips: int) -> list[str]:
    """What a loader does wrong, one line per damaged file."""
    marker, victim = folder / "marker", folder / "victim"
    victim.write_text("short")
    place = folder / "a" / "b" / "c"
    place.mkdir(parents=True)
    path = loader.write(place)
    good = path.read_bytes()
    loader.load(path)
    found = []
    for corruption in corruptions(loader, good, marker, flips):
        path.write_bytes(corruption.content)
        if fault := fault_of(loader, path, corruption):
            found.append(f"{corruption.name}: {fault}")
        assert not marker.exists(), f"{corruption.name}: the payload was run"
        assert victim.read_text() == "short", f"{corruption.name}: another file was changed"
    path.write_bytes(good)
    loader.load(path)
    return found


def fault_of(loader: Loader, path: Path, corruption: Corruption) -> str | None:
    try:
        loader.load(path)
    except loader.errors as error:
        named = path.name in str(error) or str(path.parent) in str(error)
        return None if named or not loader.names_file else f"names no file: {error!r}"
    except Exception as error:
        return f"raises {error!r}"[:300]
    return "is loaded in silence" if corruption.refused else None


@pytest.mark.parametrize(
    "loader", [pytest.param(one, marks=pytest.mark.slow if one.slow else ()) for one in LOADERS], ids=str
)
def test_a_damaged_file_is_refused_by_name(loader: Loader, tmp_path: Path) -> None:
    assert faults(loader, tmp_path, flips=12) == []


@pytest.mark.slow
@pytest.mark.parametrize("loader", LOADERS, ids=str)
def test_many_flipped_bits(loader: Loader, tmp_path: Path) -> None:
    assert faults(loader, tmp_path, flips=40 if loader.slow else 400) == []
