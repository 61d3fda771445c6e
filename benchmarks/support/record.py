# SPDX-License-Identifier: Apache-2.0
"""The record of a sitting, one JSON file, and the stored ones that the next sittings are compared with.

`results/*.json` are the reports of full runs. `results/sittings/short.json` is the whole record of the stored short sitting,
`results/sittings/full.json` that of the full one without its reports, which are the former files.
"""

import json
import os
from pathlib import Path
from typing import Any


Record = dict[str, Any]
SITTINGS = "sittings"


def read(path: Path) -> Record | None:
    """The content of a JSON file, `None` if there is none."""
    return json.loads(path.read_text()) if path.is_file() else None


def write(path: Path, content: Record) -> None:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(unfinished, path)


def read_sections(folder: Path) -> dict[str, Record]:
    """All reports of a folder by slug."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def published(section: Record) -> Record:
    """A report without the single values behind its rows."""
    columns = ("what", "setting", "value", "bound", "kind", "quartiles", "range", "rounds", "digits")
    rows = [{name: row[name] for name in columns if name in row} for row in section["rows"]]
    return {**section, "rows": rows}


def stored(results: Path, mode: str) -> Record | None:
    """The stored sitting of a mode; for the full one, also reports of runs outside of any sitting.

    Args:
        results (`Path`): folder of the stored results.
        mode (`str`): `"short"` or `"full"`.
    """
    record = read(results / SITTINGS / f"{mode}.json")
    if mode == "short":
        return record
    sections = read_sections(results)
    if record is None and not sections:
        return None
    record = record or {"mode": mode, "machine": None, "versions": {}, "absent": [], "benchmarks": {}}
    for slug, section in sections.items():
        entry = record["benchmarks"].setdefault(section["program"], {"status": "ok", "seconds": None})
        entry.setdefault("sections", {})[slug] = section
    return record


def store(results: Path, record: Record) -> None:
    """Make what succeeded in a sitting the stored results; benchmarks that it left out stay as they were.

    Args:
        results (`Path`): folder of the stored results.
        record (`dict`): of the sitting.
    """
    mode = record["mode"]
    old = read(results / SITTINGS / f"{mode}.json")
    done = {name: entry for name, entry in record["benchmarks"].items() if entry["status"] == "ok"}
    kept = {} if old is None else {n: entry for n, entry in old["benchmarks"].items() if n not in done}
    if kept and old is not None and old["machine"] != record["machine"]:
        raise ValueError(
            f"a sitting must be whole to be stored over one of another machine: this one has no results of "
            f"{', '.join(kept)}, and those that are stored come from {old['machine']['cpu']}"
        )
    if mode == "full":
        for path in (Path(file) for entry in done.values() for file in entry["files"]):
            (results / path.name).write_text(path.read_text())
    left_out = {"files"} | ({"sections"} if mode == "full" else set())
    done = {name: {key: entry[key] for key in entry if key not in left_out} for name, entry in done.items()}
    write(results / SITTINGS / f"{mode}.json", {**record, "benchmarks": dict(sorted((kept | done).items()))})
