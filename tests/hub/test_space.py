# SPDX-License-Identifier: Apache-2.0
"""The look and the launch that all Spaces share."""

from pathlib import Path

import gradio as gr
import pytest

from eigenhub.hub import space
from eigenhub.methods import get_method


@pytest.fixture
def page():
    return space.Space("sorsa", "A <b>headline</b>", "One & only sentence.")


def test_the_header_names_the_paper_and_escapes(page):
    html = next(block for block in page.blocks.values() if isinstance(block, gr.HTML)).value
    assert "A &lt;b&gt;headline&lt;/b&gt;" in html and "One &amp; only" in html
    assert f"https://arxiv.org/abs/{get_method('sorsa').arxiv}" in html


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="must be one of sorsa"):
        space.Space("nothing", "headline", "sentence")


def test_tiles_escape():
    assert space.tiles([("a<", "1", "b")]) == (
        '<div class="space-tiles"><div><span>a&lt;</span><b>1</b><small>b</small></div></div>'
    )


def test_a_table_escapes_and_has_a_dot_per_row():
    cells = "<tr><td>{}a&lt;</td><td>1</td></tr>"
    head = '<div class="space-table"><table><thead><tr><th>b&gt;</th><th>c</th></tr></thead><tbody>'
    tail = "</tbody></table></div>"
    rows = [("a<", "1"), ("a<", "1")]
    assert space.html_table(("b>", "c"), rows) == head + 2 * cells.format("") + tail
    dotted = space.html_table(("b>", "c"), rows, ["red", '"'])
    dots = ('<i style="background: red"></i>', '<i style="background: &quot;"></i>')
    assert dotted == head + "".join(cells.format(dot) for dot in dots) + tail
    assert space.html_table(("b>", "c"), []) == head + tail


def test_the_theme_needs_no_font_from_outside():
    assert not [sheet for sheet in space.THEME._stylesheets if "//" in sheet]
    assert "url('static/fonts" in space.THEME._get_theme_css()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {"server_port": None, "share": None, "inbrowser": False}),
        (["--port", "7999", "--open"], {"server_port": 7999, "share": None, "inbrowser": True}),
    ],
)
def test_serve_passes_its_flags_and_the_look(page, monkeypatch, argv, expected):
    seen = {}
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, *args, **kwargs: seen.update(kwargs))
    page.serve(argv)
    unasked = {"mcp_server": None, "prevent_thread_lock": False}
    assert seen == expected | unasked | {"theme": space.THEME, "css": space.CSS}


def test_serve_refuses_unknown_flags(page, capsys):
    with pytest.raises(SystemExit):
        page.serve(["--prot", "1"])
    assert "--prot" in capsys.readouterr().err


def test_files_to_hand_out_lie_where_gradio_serves_from(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    first, second = space.download_folder(), space.download_folder()
    assert first != second and {first.parent, second.parent} == {tmp_path / "served"}
    assert Path(first).is_dir()


def test_without_zerogpu_the_decorator_changes_nothing():
    def function(x: int) -> int:
        return x

    assert space.on_gpu(function) is function
