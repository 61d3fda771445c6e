# SPDX-License-Identifier: Apache-2.0
import ast
import dataclasses
import importlib

import peft
import pytest

import eigenhub
from eigenhub.hub.methods_table import load_row, methods_table
from eigenhub.methods import METHODS, get_method
from tests.common.method_tester import MethodTester, missing_parts, undocumented
from tests.house.sources import ROOT, imports_of


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)
class TestEveryMethod(MethodTester):
    pass


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


@pytest.fixture
def complete(made_up_method, tmp_path):
    """A made-up method and a tree in which it lacks nothing."""
    m = made_up_method
    files = [m.card, m.results, m.row, m.script_path, m.demo, m.docs, m.benchmark, f"{m.tests}/test_a.py"]
    files += [f"{m.space}/{name}" for name in ("app.py", "README.md", "requirements.txt")]
    files += [f"src/{m.package.replace('.', '/')}/__init__.py"]
    for file in files:
        write(tmp_path / file)
    return m, files


def test_a_complete_method_lacks_nothing(complete, tmp_path):
    method, _ = complete
    assert missing_parts(method, tmp_path) == []


@pytest.mark.parametrize("index", range(12))
def test_each_missing_part_is_named(complete, tmp_path, index):
    method, files = complete
    assert len(files) == 12
    (tmp_path / files[index]).unlink()
    (problem,) = missing_parts(method, tmp_path)
    assert files[index].rsplit("/", 1)[0] in problem


def test_gaps_in_the_documentation_are_named():
    def bare(a: int) -> int:
        return a

    def half(a: int, b) -> int:
        """Adds `a` and something."""
        return a

    @dataclasses.dataclass
    class Bare:
        a: int

    assert undocumented("bare", bare) == ["bare has no docstring"]
    assert undocumented("half", half) == ["half: b has no type", "half: b is not documented"]
    assert undocumented("Bare", Bare) in (["Bare has no docstring"], ["Bare: a is not documented"])


def test_slugs_are_unique_and_known():
    slugs = [method.slug for method in METHODS]
    assert len(set(slugs)) == len(slugs)
    assert [get_method(slug) for slug in slugs] == list(METHODS)


def test_an_unknown_slug_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="`slug` must be one of .*sorsa.*; got 'nope'"):
        get_method("nope")


def test_table_has_one_row_per_method():
    assert len(methods_table().splitlines()) == 2 + len(METHODS)


def test_links_of_the_table_can_start_elsewhere():
    assert f"]({METHODS[0].docs})" in methods_table()
    assert f"](../{METHODS[0].docs})" in methods_table(root="../")


@pytest.fixture
def toy_row(toy, tmp_path):
    """Writes the `row.yaml` of the made-up method."""

    def set_row(text):
        (tmp_path / "root" / toy.row).write_text(text)
        return toy

    return set_row


def test_a_headline_gets_the_measured_figures(toy_row):
    toy = toy_row("use: Toy()\nload: Toy.from_pretrained(x)\nheadline: accuracy {digits:.0%}, peer {digits-peer}\n")
    assert load_row(toy)["headline"] == "accuracy 75%, peer 0.5"


def test_a_headline_with_a_figure_that_was_not_measured_is_an_error(toy_row):
    toy = toy_row("use: Toy()\nload: Toy.from_pretrained(x)\nheadline: accuracy {letters}\n")
    with pytest.raises(ValueError, match="'letters' is no measured figure of hub_cards/toy/results.yaml"):
        load_row(toy)


def test_a_row_that_lacks_a_field_is_an_error(toy_row):
    with pytest.raises(ValueError, match="must hold use, load, headline"):
        load_row(toy_row("use: Toy()\n"))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)
def test_the_one_line_of_use_names_what_the_package_exports(method):
    """Every class or function that the line calls is public, or a method, or another library's."""
    package = importlib.import_module(method.package)
    tree = ast.parse(load_row(method)["use"], mode="eval")
    calls = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert [
        name
        for name in calls
        if not hasattr(package, name) and name not in eigenhub.__all__ and not hasattr(peft, name)
    ] == []


def test_every_top_level_name_loads_and_is_listed():
    assert set(eigenhub.__all__) == set(dir(eigenhub)) == {*eigenhub._EXPORTS, "__version__"}
    assert [name for name in eigenhub.__all__ if getattr(eigenhub, name) is None] == []
    assert len(eigenhub.__all__) < 60


def test_type_checkers_see_the_lazy_names():
    entries = imports_of(ROOT / "src" / "eigenhub" / "__init__.py", "eigenhub.__init__")
    typed = {e.module for e in entries if e.only_types}
    assert typed == {f"{module}.{name}" for name, module in eigenhub._EXPORTS.items()}


def test_an_unknown_top_level_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = eigenhub.Nope


def test_auto_registers_twice_without_harm():
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    import eigenhub.auto

    importlib.reload(eigenhub.auto)
    assert PEFT_TYPE_TO_CONFIG_MAPPING["SORSA"] is eigenhub.SorsaConfig
