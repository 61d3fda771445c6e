# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from eigenhub.cli import app
from eigenhub.hub.cards import render_card
from eigenhub.hub.methods_table import methods_table
from eigenhub.methods import METHODS
from tests.house.doc_code import blocks_of, run_page
from tests.house.sources import ROOT


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
    *sorted((ROOT / "spaces").glob("*/README.md")),
]
WITH_PYTHON = [page for page in PAGES if any(b.language == "python" for b in blocks_of(page.read_text("utf-8")))]


def page_id(path):
    return str(path.relative_to(ROOT))


@pytest.mark.docs  # a process each, some of which train
@pytest.mark.parametrize("page", WITH_PYTHON, ids=page_id)
def test_code_of_the_page_runs(page, tmp_path):
    done = run_page(page.read_text("utf-8"), page_id(page), tmp_path)
    assert done.returncode == 0, str(done)


@pytest.mark.docs
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)
def test_code_of_the_card_runs(method, tmp_path):
    done = run_page(str(render_card(method)), method.card, tmp_path)
    assert done.returncode == 0, str(done)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_skipped_block_has_a_reason(page):
    assert [block.line for block in blocks_of(page.read_text("utf-8")) if block.skip == ""] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_on_the_page_exist(page):
    shell = "\n".join(block.code for block in blocks_of(page.read_text("utf-8")) if block.language == "bash")
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    called = {name for line in re.findall(r"^make ([^#\n]*)", shell, flags=re.MULTILINE) for name in line.split()}
    assert {name for name in called if "=" not in name} - targets == set()
    commands = {c.name or c.callback.__name__ for c in app.registered_commands} | {m.slug for m in METHODS}
    assert set(re.findall(r"^eigenhub ([\w-]+)", shell, flags=re.MULTILINE)) - commands == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_inside_the_repository_exist(page):
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_table_of_the_readme_is_current():
    text = (ROOT / "README.md").read_text("utf-8")
    shown = text.split("<!-- methods -->\n")[1].split("\n<!-- /methods -->")[0]
    assert shown == methods_table(), "put the output of `eigenhub list --markdown` between the markers"


def test_blocks_run_in_order_and_errors_point_into_the_page(tmp_path):
    page = "# Page\n\n```python\nx = 1\n```\n\ntext\n\n```python\nassert x == 1\nprint(x)\nraise KeyError(x)\n```\n"
    done = run_page(page, "page.md", tmp_path)
    assert done.returncode == 1
    assert done.stdout == "1\n"
    assert 'File "page.md", line 12' in done.stderr


def test_a_marked_block_is_compiled_but_not_run(tmp_path):
    page = "<!-- doc-test: skip needs a GPU -->\n```python\n{code}\n```\n"
    (block,) = blocks_of(page)
    assert block.skip == "needs a GPU"
    assert run_page(page.format(code="raise KeyError"), "page.md", tmp_path).returncode == 0
    with pytest.raises(SyntaxError):
        run_page(page.format(code="x = ("), "page.md", tmp_path)
