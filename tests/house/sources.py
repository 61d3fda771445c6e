# SPDX-License-Identifier: Apache-2.0
"""Reading the repository's own Python files without importing them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("src", "scripts", "spaces", "benchmarks", "tests")


def python_files(*folders: str, root: Path = ROOT) -> list[Path]:
    """All Python files below the folders, in order."""
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


@dataclass(frozen=True)
class Import:
    """One imported module: absolute dotted name, line, and whether it runs when the file is imported."""

    module: str
    line: int
    at_import: bool
    only_types: bool


def imports_of(path: Path, module: str) -> list[Import]:
    """The imports of a file whose dotted name is `module` (packages end in `.__init__`)."""
    found: list[Import] = []
    _walk(ast.parse(path.read_text(encoding="utf-8")), module, True, False, found)
    return found


def _walk(node: ast.AST, module: str, at_import: bool, only_types: bool, found: list[Import]) -> None:
    for child in ast.iter_child_nodes(node):
        for name in _imported(child, module):
            found.append(Import(name, child.lineno, at_import and not only_types, only_types))
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        _walk(child, module, at_import and not inside, only_types or typing_only, found)


def _imported(node: ast.AST, module: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            base = ".".join([*module.split(".")[: -node.level], base]).rstrip(".")
        # `from package import name` may name a module or an attribute; callers look for the longest module
        yield from (f"{base}.{alias.name}" for alias in node.names)


def dotted_name(path: Path, source_root: Path) -> str:
    """`src/eigenhub/a/b.py` is `eigenhub.a.b`, packages end in `.__init__`."""
    return ".".join(path.relative_to(source_root).with_suffix("").parts)
