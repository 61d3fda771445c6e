# SPDX-License-Identifier: Apache-2.0
"""What the Spaces share: look, header, launch, and the GPU where the Hub lends one.

from eigenhub.hub.space import Space, on_gpu

@on_gpu
def answer(text: str) -> str: ...

with Space("sorsa", "Headline", "What a visitor can do here.") as demo:
    ...

if __name__ == "__main__":
    demo.serve()
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar


# gradio reads this at import; otherwise every launch asks its servers for the newest version.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr  # noqa: E402

from eigenhub.methods import Method, get_method  # noqa: E402


Function = TypeVar("Function", bound=Callable[..., Any])

try:
    from spaces import GPU as on_gpu  # ZeroGPU: must come before CUDA is used
except ImportError:

    def on_gpu(function: Function) -> Function:
        """Marks a function that computes. Only where the Hub lends a GPU per call does it do anything."""
        return function


# Fonts that gradio ships: a Google font would be fetched from outside.
THEME = gr.themes.Default(
    primary_hue="indigo",
    neutral_hue="slate",
    radius_size="lg",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono"), "ui-monospace", "monospace"],
)
CSS = """
.gradio-container { max-width: 1180px !important; width: 100% !important; margin: 0 auto !important; }
.gradio-container main { width: 100%; max-width: none; }
.space-header h1 { font-size: 2rem; line-height: 1.2; margin: .5rem 0 .25rem; font-weight: 700; }
.space-header p { font-size: 1.05rem; margin: 0 0 .5rem; max-width: 50rem; }
.space-header a { padding: 0; margin: 0 1.25rem 0 0; text-decoration: none; }
.space-header a:hover { text-decoration: underline; }
.space-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; }
.space-tiles div { background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: var(--block-radius); padding: .75rem .9rem; min-width: 0; overflow-wrap: anywhere; }
.space-tiles span, .space-tiles small { display: block; font-size: .85rem; }
.space-header p, .space-tiles span, .space-tiles small { color: color-mix(in srgb, var(--body-text-color) 68%, transparent); }
.space-tiles b { display: block; font-size: 1.3rem; font-weight: 700; }
.space-html .html-container { padding: 0 !important; }
.space-table { overflow-x: auto; }
.space-table table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.space-table table, .space-table tr { border-width: 0 !important; }
.space-table th, .space-table td { padding: .4rem .6rem !important; text-align: right; white-space: nowrap; font-size: .9rem;
  border-width: 0 0 1px !important; border-color: var(--border-color-primary) !important; }
.space-table th { white-space: normal; vertical-align: bottom; font-weight: 400 !important;
  color: color-mix(in srgb, var(--body-text-color) 68%, transparent); }
.space-table th:first-child, .space-table td:first-child { text-align: left; }
.space-table i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .5em; }
.space-low { align-self: flex-end; }
.space-thumbnails .grid-wrap { min-height: 0 !important; }
.space-thumbnails .grid-container { grid-template: auto / repeat(var(--grid-cols), minmax(0, 1fr)) !important;
  grid-auto-rows: auto !important; }
.space-thumbnails .gallery-item, .space-thumbnails .thumbnail-item { height: auto; aspect-ratio: 1; }
@media (max-width: 640px) { .gradio-container .fillable { padding: 1rem .75rem !important; }
  .space-table th, .space-table td { padding: .3rem !important; font-size: .8rem; } }
"""


class Space(gr.Blocks):
    """
    A page in the house's look: gradio's `Blocks` with a header.

    Args:
        slug (`str`, *optional*): the method that the page is about, whose paper the header names; `None` for a page that is
            about no single method.
        headline (`str`): what the page is, in a few words.
        sentence (`str`): what the method does and what a visitor sees here.
        style (`str`, *optional*): CSS of this page on top of the house's.
    """

    def __init__(self, slug: str | None, headline: str, sentence: str, *, style: str = "", **kwargs: Any) -> None:
        link = "" if slug is None else paper_link(get_method(slug))
        # Files that visitors made or uploaded are looked through every hour and live for a day.
        super().__init__(title=headline, analytics_enabled=False, delete_cache=(3600, 86400), **kwargs)
        self.own_style = style
        with self:
            gr.HTML(header(headline, sentence) + link, elem_classes=["space-header", "space-html"])

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """`Blocks.launch` in the house's look; every argument can still be given."""
        return super().launch(*args, **{"theme": THEME, "css": CSS + self.own_style, **kwargs})

    def serve(self, argv: Sequence[str] | None = None) -> None:
        """Launch from the command line: what `python app.py` and `eigenhub space` do.

        Args:
            argv (`Sequence[str]`, *optional*): flags; defaults to those of the process.
        """
        parser = argparse.ArgumentParser(description=str(self.title))
        parser.add_argument("--port", type=int, help="port; by default the first free one from 7860 on")
        parser.add_argument(
            "--share", action="store_true", default=None, help="make a public link through gradio's servers"
        )
        parser.add_argument("--open", action="store_true", help="open a browser")
        parser.add_argument("--mcp", action="store_true", help="offer the named endpoints as tools over MCP, too")
        parser.add_argument(
            "--until-closed",
            action="store_true",
            help="end when standard input closes: for a program that starts this",
        )
        given = parser.parse_args(argv)
        if given.mcp and find_spec("mcp") is None:
            parser.error("--mcp needs the package mcp, which is missing: pip install 'mcp<2'")
        self.launch(
            server_port=given.port,
            share=given.share,
            inbrowser=given.open,
            mcp_server=given.mcp or None,  # None leaves it to GRADIO_MCP_SERVER
            prevent_thread_lock=given.until_closed,
        )
        if given.until_closed:
            sys.stdin.read()
            self.close(verbose=False)


def download_folder() -> Path:
    """A new folder for files to hand out: gradio serves them from here without a copy, and deletes them in time."""
    parent = Path(gr.utils.get_upload_folder())
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=parent))


def header(headline: str, sentence: str) -> str:
    """HTML of the top of the page."""
    return f"<h1>{escape(headline)}</h1><p>{escape(sentence)}</p>"


def paper_link(method: Method) -> str:
    """HTML of a link to the paper of a method, with its title as tooltip.

    Args:
        method (`Method`): row of `METHODS`.
    """
    arxiv = escape(method.arxiv)
    return f'<a href="https://arxiv.org/abs/{arxiv}" title="{escape(method.paper)}" target="_blank">Paper: arXiv {arxiv}</a>'


def tiles(facts: Sequence[tuple[str, str, str]]) -> str:
    """HTML of a row of figures that wraps on narrow screens.

    Args:
        facts (`Sequence[tuple[str, str, str]]`): label, figure and a line of explanation of each tile.
    """
    cells = (
        f"<div><span>{escape(label)}</span><b>{escape(figure)}</b><small>{escape(line)}</small></div>"
        for label, figure, line in facts
    )
    return f'<div class="space-tiles">{"".join(cells)}</div>'


def html_table(headers: Sequence[str], rows: Sequence[Sequence[str]], colors: Sequence[str] = ()) -> str:
    """HTML of a table with words in the first column and figures in the others; it scrolls sideways on narrow screens.

    Args:
        headers (`Sequence[str]`): names of the columns.
        rows (`Sequence[Sequence[str]]`): cells, as they are to be read.
        colors (`Sequence[str]`, *optional*, defaults to `()`): CSS colours of a dot in front of each row, as in a legend.
    """
    dots = [f'<i style="background: {escape(color)}"></i>' for color in colors] or [""] * len(rows)
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    lines = (
        f"<td>{dot}{escape(first)}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in others)
        for dot, (first, *others) in zip(dots, rows, strict=True)
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="space-table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
