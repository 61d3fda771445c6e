# SPDX-License-Identifier: Apache-2.0
"""Which part of the package may import which; see CONTRIBUTING.md."""

import graphlib
from pathlib import Path

from tests.house.sources import Import, dotted_name, imports_of


KINDS = {"tuners", "optim", "training", "federated", "metrics", "models", "estimators"}
BELOW_KINDS = {"linalg", "nn"}
TOP = {"methods", "hub", "embedded"} | BELOW_KINDS | KINDS
#: What every floor stands on.
GROUND = {"files"}

MAY_IMPORT: dict[str, set[str]] = {
    "files": set(),
    "methods": set(),
    "linalg": set(),
    "nn": {"linalg"},
    **dict.fromkeys(KINDS, BELOW_KINDS),
    "training": BELOW_KINDS | {"metrics"},
    "federated": BELOW_KINDS | {"tuners", "training"},
    "hub": {"methods"} | BELOW_KINDS | KINDS,
    "embedded": {"methods"} | BELOW_KINDS | KINDS,
    "auto": TOP,
    "cli": TOP,
}
FREE_FOR_ALL = {"eigenhub.__version__"}

HEAVY = {"transformers", "peft", "accelerate", "datasets"}
WITHOUT_HEAVY_AT_IMPORT = {"files", "linalg", "nn", "optim", "metrics", "methods", "cli"}
MAY_USE_PEFT = {"tuners", "federated"}


def floor_of(module: str) -> str:
    """`eigenhub.linalg.lowrank` is on the floor `linalg`."""
    return module.split(".")[1]


def floor_violations(source_root: Path) -> list[str]:
    """Every import below `source_root/eigenhub` that breaks a rule, as `file:line: what`."""
    found = []
    for path in sorted((source_root / "eigenhub").rglob("*.py")):
        module = dotted_name(path, source_root)
        if module == "eigenhub.__init__":
            continue  # names everything, imports nothing: test_import_is_light watches it
        for entry in imports_of(path, module):
            if problem := _problem(floor_of(module), entry):
                found.append(f"{path.relative_to(source_root)}:{entry.line}: {problem}")
    return found


def _problem(floor: str, entry: Import) -> str | None:
    if floor not in MAY_IMPORT:
        return f"{floor} is no floor of the house"
    package = entry.module.split(".")[0]
    if package == "eigenhub" and entry.module not in FREE_FOR_ALL:
        target = floor_of(entry.module)
        allowed = MAY_IMPORT[floor] | GROUND | {floor}
        return None if target in allowed else f"{floor} must not import {entry.module}"
    if package == "peft" and floor not in MAY_USE_PEFT:
        return f"{floor} must not import peft"
    if package in HEAVY and entry.at_import and floor in WITHOUT_HEAVY_AT_IMPORT:
        return f"{floor} must not import {package} at module level"
    return None


def import_circle(source_root: Path) -> list[str]:
    """Modules of one import circle, empty if there is none."""
    paths = {dotted_name(p, source_root): p for p in (source_root / "eigenhub").rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        targets = {_longest_module(e.module, set(paths)) for e in imports_of(path, module) if e.at_import}
        graph[module] = targets - {None, module}  # type: ignore[assignment]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def _longest_module(name: str, modules: set[str]) -> str | None:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        stem = ".".join(parts[:end])
        for candidate in (stem, f"{stem}.__init__"):
            if candidate in modules:
                return candidate
    return None
