# SPDX-License-Identifier: Apache-2.0
"""The documentation site, without building it: `make docs` does that, and checks every link."""

import ast
import re
import sys

import pytest

from eigenhub.methods import METHODS
from tests.house.sources import ROOT, dotted_name, python_files


sys.path.insert(0, str(ROOT / "docs" / "_ext"))
griffe = pytest.importorskip("griffe", reason="the extra `docs` is not installed")
pytest.importorskip("sphinx", reason="the extra `docs` is not installed")

from check_links import broken_links  # noqa: E402
from eigenhub_docs.api import parameters, reference_pages  # noqa: E402
from eigenhub_docs.configs import configs_of, read_config  # noqa: E402
from eigenhub_docs.docstrings import to_myst  # noqa: E402
from eigenhub_docs.negative_results import finding, negative_results_page, read_log, results_of  # noqa: E402
from eigenhub_docs.packages import Library  # noqa: E402
from eigenhub_docs.papers import papers_page  # noqa: E402


INDEX = (ROOT / "docs" / "index.md").read_text("utf-8")
WRITTEN = {"papers": papers_page, "negative_results": negative_results_page}


@pytest.fixture(scope="module")
def library():
    return Library()


@pytest.fixture(scope="module")
def pages(library):
    return reference_pages(library)


def navigation():
    """Pages that the start page lists, its patterns resolved."""
    entries = [line for block in re.findall(r"```\{toctree\}\n(.*?)```", INDEX, re.DOTALL) for line in block.split()]
    names = [entry for entry in entries if not entry.startswith(":")]
    return {p.relative_to(ROOT / "docs").as_posix() for name in names for p in (ROOT / "docs").glob(f"{name}.md")}


def test_every_page_is_in_the_navigation():
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - navigation() - {"index.md"} == set()


def test_every_method_is_in_the_table_of_wishes():
    wishes = INDEX.split("## What do you want to do?")[1].split("\n## ")[0]
    missing = [m.slug for m in METHODS if f"(methods/{m.slug}.md)" not in wishes or f"demo {m.slug}`" not in wishes]
    assert missing == []


@pytest.mark.parametrize("name", WRITTEN)
def test_the_written_pages_are_current(name):
    stored = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    assert stored == WRITTEN[name](), "run `python docs/_ext/write_pages.py`"


def test_every_configuration_is_among_the_papers():
    text = (ROOT / "docs" / "papers.md").read_text("utf-8")
    paths = [path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").glob("*/configs/*.yaml")]
    assert [path for path in paths if f"](../{path})" not in text] == []


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)
def test_the_commands_of_configurations_name_files_that_exist(method):
    for config in configs_of(method.slug):
        named = re.findall(r"scripts/[\w./-]+\.(?:py|yaml)", config.command(method.script_path))
        assert config.path in named
        assert [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)
def test_no_finding_is_forgotten(method):
    """Each finding of a results file is in the log, or named there as one that contradicts nothing."""
    log, results = read_log()[method.slug], results_of(method)
    told = [finding(results, entry["found"]) for entry in log["entries"]]
    kept_out = [finding(results, beginning) for beginning in log["kept_out"]]
    assert sorted(told + kept_out) == sorted(results.findings)


def test_every_public_name_is_in_the_reference(library):
    named = [f"{m.package}.{name}" for m in METHODS for name in m.public_names]
    for path in [path for path in python_files("src") if path.name == "__init__.py"]:
        module = dotted_name(path, ROOT / "src").removesuffix(".__init__")
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                named += [f"{module}.{name}" for name in ast.literal_eval(node.value)]
    assert named
    assert [name for name in named if name not in library.documented] == []


def test_what_pages_and_scripts_import_is_in_the_reference(library):
    files = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *python_files("scripts")]
    pattern = re.compile(r"^from (eigenhub[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
    named = set()
    for path in files:
        for module, names in pattern.findall(re.sub(r"#.*", "", path.read_text("utf-8"))):
            named |= {
                f"{module}.{name.split(' as ')[0].strip()}" for name in names.strip("()").split(",") if name.strip()
            }
    modules = {name for name in named if (ROOT / "src" / name.replace(".", "/")).is_dir()}
    constants = {name for name in named if name.rpartition(".")[2].isupper()}
    assert len(named) > 100
    assert sorted(name for name in named - modules - constants if name not in library.documented) == []


def test_each_public_name_has_one_place(pages, library):
    heads = [
        line
        for text in pages.values()
        for line in text.splitlines()
        if re.match(r":+\{py:(class|function|data)\}", line)
    ]
    assert len(heads) >= sum(len(package.entries) for package in library.packages.values())
    for package in library.packages.values():
        for entry in package.entries:
            assert len(re.findall(rf"^:+{{py:\w+}} {entry.name}\b", pages[package.name], re.MULTILINE)) >= 1, entry


DOCSTRING = """One sentence on [`Thing`] and [`~a.b.Other`], not [`unknown`].

Args:
    rank (`int` or `str`, *optional*, defaults to `f(x)`): one line
        and another.
    lr, eps (`float`): two at once.

Example:

```python
>>> Args: 1
```

After it.
"""


def test_a_docstring_in_the_house_form_becomes_markdown():
    places = {"Thing": "pkg.Thing", "a.b.Other": "../../src/x.py#L3"}
    text = to_myst(DOCSTRING, places.get)
    assert "{py:obj}`Thing <pkg.Thing>` and [`Other`](<../../src/x.py#L3>), not `unknown`." in text
    assert "`rank` (`int` or `str`, *optional*, defaults to `f(x)`)\n: one line\n  and another." in text
    assert "`lr`, `eps` (`float`)\n: two at once." in text
    assert ">>> Args: 1\n```\n\nAfter it." in text


def test_an_entry_without_a_name_is_an_error():
    with pytest.raises(ValueError, match="entry without a name"):
        to_myst("Args:\n    just words here\n", {}.get)


def test_signatures_keep_their_separators():
    code = "def f(a, /, b: int = 1, *, c: str = 'x', **rest): ..."
    with griffe.temporary_visited_module(code) as module:
        assert parameters(module["f"].parameters) == "a, /, b: int = 1, *, c: str = 'x', **rest"


def test_comments_of_a_configuration_are_read(tmp_path, monkeypatch):
    path = tmp_path / "x.yaml"
    path.write_text(
        '# Published: 1.\n#\n#   run \\\n#       x.yaml\n#\n# Ours.\na: "b # c"  # note\n         # more\nd: 1\n'
    )
    monkeypatch.setattr("eigenhub_docs.configs.ROOT", tmp_path)
    config = read_config(path)
    assert config.text == ["Published: 1.", "Ours."]
    assert config.command("unused") == "run \\\n    x.yaml"
    assert [(s.key, s.value, s.note) for s in config.settings] == [("a", '"b # c"', "note more"), ("d", "1", "")]
    assert config.is_published


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<p id="here"></p><a href="../#top">up</a><a href="#gone">x</a>')
    (tmp_path / "index.html").write_text('<a id="top" href="a/#here">a</a><img src="no.png"><a href="https://x">w</a>')
    assert list(broken_links(tmp_path)) == [
        "a/index.html:1: #gone: no such place on the page",
        "index.html:1: no.png: no such page",
    ]
