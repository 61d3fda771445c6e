# SPDX-License-Identifier: Apache-2.0
"""Which functions of a Space compute on a GPU, read from its source, and whether the Hub lends them one.

On ZeroGPU machines a GPU is there only inside functions that went through `on_gpu`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


#: `transformers` places what is trained on the GPU by itself, unless it is told `use_cpu=True`.
PLACING = {"TrainingArguments"}
EVENTS = {"blur", "change", "click", "input", "load", "on", "release", "select", "submit", "success", "then", "upload"}


@dataclass
class Function:
    """One function or class of a Space: what of the Space it uses, and how it stands to the GPU."""

    uses: set[str] = field(default_factory=set)
    lent: bool = False
    touches: bool = False
    is_event: bool = False


def unlent(folder: Path) -> list[str]:
    """Ways from an event or an endpoint to a function that computes on a GPU, with none lent on the way."""
    functions = read(folder)
    ways = [[name] for name, found in functions.items() if found.is_event and not found.lent]
    seen, problems = {way[0] for way in ways}, []
    while ways:
        way = ways.pop()
        found = functions[way[-1]]
        if found.touches:
            problems.append(" > ".join(way))
        for name in sorted(found.uses & functions.keys() - seen):
            seen.add(name)
            if not functions[name].lent:
                ways.append([*way, name])
    return problems


def lends(folder: Path) -> bool:
    """Whether anything in a Space asks for a GPU."""
    return any(name == "on_gpu" for path in folder.glob("*.py") for name in names_in(ast.parse(path.read_text())))


def read(folder: Path) -> dict[str, Function]:
    """All functions and classes at the top of the modules of a Space, as `module.name`."""
    trees = {path.stem: ast.parse(path.read_text()) for path in sorted(folder.glob("*.py"))}
    known = {module: origins(module, tree) for module, tree in trees.items()}
    functions: dict[str, Function] = {}
    events = set()
    for module, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                functions[f"{module}.{node.name}"] = Function(
                    set() if stays_off(node) else set(used(node, module, known)),
                    any("on_gpu" in names_in(decorator) for decorator in node.decorator_list),
                    touches(node),
                    module == "api",
                )
        events |= {name for function in called_by_events(tree) for name in used(function, module, known)}
    for name in events & functions.keys():
        functions[name].is_event = True
    return functions


def origins(module: str, tree: ast.Module) -> dict[str, str]:
    """Where the names of a module come from, as `module.name`; a module itself is its own name."""
    found = {n.name: f"{module}.{n.name}" for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
    return found


def used(node: ast.AST, module: str, known: dict[str, dict[str, str]]) -> Iterator[str]:
    """What of the Space a piece of code names, followed through modules that only hand on."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            name = known[module].get(part.id, "")
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            name = f"{known[module].get(part.value.id, '')}.{part.attr}"
        else:
            continue
        while (home := name.partition(".")[0]) in known and known[home].get(name.partition(".")[2], name) != name:
            name = known[home][name.partition(".")[2]]
        yield name


def names_in(node: ast.AST) -> set[str]:
    """All identifiers below a node."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)
    }


def touches(node: ast.AST) -> bool:
    """Whether a function names the device, or something that finds it by itself."""
    words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
    return "cuda" in words or bool(PLACING & names_in(node))


def stays_off(node: ast.AST) -> bool:
    """Whether a function says that it wants no GPU."""
    keywords = [n for n in ast.walk(node) if isinstance(n, ast.keyword) and n.arg == "use_cpu"]
    return any(isinstance(k.value, ast.Constant) and k.value.value is True for k in keywords)


def called_by_events(tree: ast.AST) -> Iterator[ast.AST]:
    """The function argument of every event, those behind `on_gpu(...)` left out."""
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)):
        assert isinstance(call.func, ast.Attribute)
        if call.func.attr in EVENTS and call.args:
            function = call.args[1 if call.func.attr == "on" and len(call.args) > 1 else 0]
            if "on_gpu" not in names_in(function):
                yield function
