# SPDX-License-Identifier: Apache-2.0
"""What every method of every kind must give: see "all" in CONTRIBUTING.md."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from eigenhub.hub.cards import card_problems, render_card
from eigenhub.hub.resources import find
from eigenhub.hub.results import load_results
from eigenhub.methods import Method
from tests.support.processes import ROOT


PAGE_HEADINGS = ("What it is", "The mathematics", "When not to use it", "What we found")


def missing_parts(method: Method, root: Path = ROOT) -> list[str]:
    """Files that the method must have below `root` and has not."""
    files = {
        "package": f"src/{method.package.replace('.', '/')}/__init__.py",
        "card": method.card,
        "results": method.results,
        "row of the table": method.row,
        "Space": f"{method.space}/app.py",
        "Space front matter": f"{method.space}/README.md",
        "Space requirements": f"{method.space}/requirements.txt",
        "script": method.script_path,
        "demo": method.demo,
        "docs page": method.docs,
        "benchmark": method.benchmark,
    }
    missing = [f"{part}: {path}" for part, path in files.items() if not (root / path).is_file()]
    if not any((root / method.tests).glob("test_*.py")):
        missing.append(f"tests: {method.tests}/test_*.py")
    return missing


def undocumented(name: str, thing: Any) -> list[str]:
    """What a public class or function leaves unsaid: a docstring of its own, its arguments, its types."""
    text = thing.__doc__ or ""
    if not text or text.startswith(f"{name}("):  # a dataclass without a docstring gets its signature as one
        return [f"{name} has no docstring"]
    if inspect.isfunction(thing):
        parameters = inspect.signature(thing).parameters.values()
        untyped = [p.name for p in parameters if p.annotation is inspect.Parameter.empty]
        return [f"{name}: {n} has no type" for n in untyped] + _unnamed(name, text, [p.name for p in parameters])
    if dataclasses.is_dataclass(thing):
        return _unnamed(name, text, list(vars(thing).get("__annotations__", {})))
    return []


def _unnamed(name: str, text: str, parameters: list[str]) -> list[str]:
    return [f"{name}: {p} is not documented" for p in parameters if not re.search(rf"\b{p}\b`? \(|`{p}`", text)]


class MethodTester:
    """Subclass with `@pytest.mark.parametrize("method", METHODS)` on it; nothing else to fill in."""

    def test_no_part_is_missing(self, method: Method) -> None:
        assert missing_parts(method) == []

    def test_the_table_names_the_whole_public_surface(self, method: Method) -> None:
        package = importlib.import_module(method.package)
        assert sorted(package.__all__) == sorted(method.public_names)
        assert [name for name in method.public_names if not hasattr(package, name)] == []

    def test_public_names_are_documented_and_typed(self, method: Method) -> None:
        package = importlib.import_module(method.package)
        assert [line for name in method.public_names for line in undocumented(name, getattr(package, name))] == []

    def test_results_hold_figures_of_the_method(self, method: Method) -> None:
        results = load_results(find(method.results))
        assert results.method == method.slug
        assert method.slug in {figure.method for figure in results.measured}

    def test_card_renders_clean(self, method: Method) -> None:
        card = render_card(method)
        assert card_problems(str(card)) == []
        assert method.arxiv in card.content
        assert card.data.eval_results

    def test_docs_page_says_what_where_from_and_when_not(self, method: Method) -> None:
        page = (ROOT / method.docs).read_text(encoding="utf-8")
        assert method.arxiv in page
        headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
        assert [h for h in PAGE_HEADINGS if h not in headings] == []

    def test_commands_and_exporter_exist(self, method: Method) -> None:
        for path in filter(None, (method.commands, method.exporter)):
            module, name = path.split(":")
            assert hasattr(importlib.import_module(module), name), path
