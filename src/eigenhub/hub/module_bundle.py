# SPDX-License-Identifier: Apache-2.0
"""The source files that some classes of this package need, as one flat folder that imports nothing of it."""

import ast
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path


PACKAGE = "eigenhub"


def bundle_sources(modules: Iterable[str]) -> dict[str, str]:
    """Python files by name: the modules, and all modules of this package that they import, however indirectly.

    Every module becomes a file of its own in one folder. Those beside the first module keep their names, others get the name
    of their folder in front (`eigenhub.linalg.scan` becomes `linalg_scan.py`), and imports are rewritten to match. Imports of
    other packages stay.

    Args:
        modules (`Iterable[str]`): dotted names of modules.

    Returns:
        `dict[str, str]`: text of each file.
    """
    waiting = list(dict.fromkeys(modules))
    home = waiting[0].rpartition(".")[0]
    done: dict[str, str] = {}
    while waiting:
        module = waiting.pop(0)
        text = _source(module).read_text(encoding="utf-8")
        imports = _own_imports(text, module)
        done[module] = _rewritten(text, imports, home)
        waiting += [name for name in dict.fromkeys(imports.values()) if name not in done and name not in waiting]
    files = {f"{flat_name(module, home)}.py": text for module, text in done.items()}
    if len(files) != len(done):
        raise ValueError(f"two modules would share a file name: {', '.join(sorted(done))}")
    return files


def flat_name(module: str, home: str) -> str:
    """Name of a module in the flat folder.

    Args:
        module (`str`): dotted name.
        home (`str`): package whose modules keep their names.
    """
    folder, _, name = module.rpartition(".")
    if name.startswith("_"):
        raise ValueError(f"{module} must not start with an underscore: `Trainer.push_to_hub` leaves such files out")
    return name if folder == home else module.removeprefix(f"{PACKAGE}.").replace(".", "_")


def _source(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{module} has no source file")
    return Path(spec.origin)


def _own_imports(text: str, module: str) -> dict[ast.ImportFrom, str]:
    """Statements that import from this package, with the module that each names."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == PACKAGE for alias in node.names):
            raise ValueError(
                f"{module}, line {node.lineno}: write `from {PACKAGE}.x import name`, which can be rewritten"
            )
        if not isinstance(node, ast.ImportFrom):
            continue
        base = ".".join(module.split(".")[: -node.level]) if node.level else ""
        name = ".".join(filter(None, [base, node.module]))
        if name.split(".")[0] == PACKAGE:
            if node.module is None:
                raise ValueError(f"{module}, line {node.lineno}: `from . import name` cannot travel, name the module")
            found[node] = name
    return found


def _rewritten(text: str, imports: dict[ast.ImportFrom, str], home: str) -> str:
    lines = text.splitlines(keepends=True)
    for node, target in imports.items():
        written = "." * node.level + (node.module or "")
        old, new = f"from {written} import", f"from .{flat_name(target, home)} import"
        lines[node.lineno - 1] = lines[node.lineno - 1].replace(old, new, 1)
    return "".join(lines)
