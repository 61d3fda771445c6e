# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

import eigenhub
from eigenhub.methods import METHODS, get_method, methods_table
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
    files = [m.card, m.results, m.script_path, m.demo, m.docs, m.benchmark, f"{m.tests}/test_a.py"]
    files += [f"{m.space}/{name}" for name in ("app.py", "README.md", "requirements.txt")]
    files += [f"src/{m.package.replace('.', '/')}/__init__.py"]
    for file in files:
        write(tmp_path / file)
    return m, files


def test_a_complete_method_lacks_nothing(complete, tmp_path):
    method, _ = complete
    assert missing_parts(method, tmp_path) == []


@pytest.mark.parametrize("index", range(11))
def test_each_missing_part_is_named(complete, tmp_path, index):
    method, files = complete
    assert len(files) == 11
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
    import importlib

    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    import eigenhub.auto

    importlib.reload(eigenhub.auto)
    assert PEFT_TYPE_TO_CONFIG_MAPPING["SORSA"] is eigenhub.SorsaConfig
