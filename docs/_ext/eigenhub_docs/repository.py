# SPDX-License-Identifier: Apache-2.0
"""Links from a page to files of the repository: to the page that shows them, to the web, or to a copy in the site."""

import os
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform


ROOT = Path(__file__).resolve().parents[3]
# what lies outside of docs/ and is read on the site through a page that includes it
INCLUDED = {
    "README.md": "readme",
    "CONTRIBUTING.md": "adding_a_method",
    "CHANGELOG.md": "changelog",
    "benchmarks/README.md": "benchmarks",
}
SOURCE_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{path} - eigenhub</title>
<link rel="stylesheet" href="{root}_static/pygments.css">
<link rel="stylesheet" href="{root}_static/source.css">
<link rel="icon" href="{root}_static/favicon.svg">
</head>
<body>
<header><a href="{root}">eigenhub</a> <h1>{path}</h1></header>
{body}</body>
</html>
"""
SHOWN = {".py", ".md", ".yaml", ".toml", ".txt", ".jinja"}
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+")


class RepositoryLinks(SphinxTransform):
    """Marks every link that leaves docs/, and turns the name of a file in running text into a link."""

    default_priority = 5

    def apply(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(addnodes.pending_xref)):
            self.replace(node)
        for node in list(self.document.findall(addnodes.download_reference)):
            self.replace(node)
        for node in list(self.document.findall(nodes.literal)):
            if not _inside_link(node) and PATH.fullmatch(node.astext()) and Path(node.astext()).suffix in SHOWN:
                self.wrap(node)

    def replace(self, node: nodes.Element) -> None:
        if node.get("reftype") != "myst" or node.get("reftarget") in self.env.found_docs:
            return
        target, _, anchor = node["reftarget"].partition("#")
        anchor = anchor or node.get("reftargetid") or ""
        if node.get("refdomain") == "doc":  # a page outside of docs/, its suffix cut off
            target += ".md"
        path = Path(os.path.normpath(Path(node.source or self.document["source"]).parent / target))
        inside = path.is_relative_to(ROOT / "docs") and path.suffix != ".md"  # an image, say: Sphinx copies it
        if target and not inside and path.exists() and path.is_relative_to(ROOT):
            link = self.link(path.relative_to(ROOT).as_posix(), anchor)
            link += node.children
            node.replace_self(link)

    def wrap(self, node: nodes.literal) -> None:
        if (ROOT / node.astext()).is_file():
            link = self.link(node.astext())
            node.replace_self(link)
            link += node

    def link(self, path: str, anchor: str = "") -> addnodes.pending_xref:
        readme = f"{path}/README.md"
        if (ROOT / readme).is_file():
            path = readme
        shown = files_of(self.env).setdefault(self.env.docname, set())
        shown |= {path, *(_files_in(path) if (ROOT / path).is_dir() else ())}
        return addnodes.pending_xref(
            refdomain="",
            reftype="repository",
            reftarget=path,
            reftargetid=anchor,
            refdoc=self.env.docname,
            refexplicit=True,
        )


def _files_in(folder: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).iterdir() if path.suffix in SHOWN)


def _inside_link(node: nodes.Node) -> bool:
    while (node := node.parent) is not None:
        if isinstance(node, nodes.reference | addnodes.pending_xref | addnodes.download_reference | nodes.title):
            return True
    return False


def files_of(env: BuildEnvironment) -> dict[str, set[str]]:
    """What each page links to in the repository."""
    if not hasattr(env, "repository_files"):
        env.repository_files = {}
    return env.repository_files


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    files_of(env).pop(docname, None)


def merge(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:
    files_of(env).update({name: files for name, files in files_of(other).items() if name in docnames})


def page_of(path: str, env: BuildEnvironment) -> str | None:
    """The page of the site that shows a file, `None` if there is none but its source."""
    if path in INCLUDED:
        return INCLUDED[path]
    name = path.removeprefix("docs/").removesuffix(".md")
    return next((doc for doc in (name, f"{name}/index") if path.startswith("docs/") and doc in env.found_docs), None)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Address of a marked link."""
    if node["reftype"] != "repository":
        return None
    path, anchor = node["reftarget"], node["reftargetid"]
    if (page := page_of(path, env)) is not None:
        uri = app.builder.get_relative_uri(node["refdoc"], page)
    elif app.config.repository_url:
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        uri = f"{app.config.repository_url}/{kind}/{app.config.repository_branch}/{path}"
    else:
        uri = app.builder.get_relative_uri(node["refdoc"], source_page(path))
    return nodes.reference("", "", *node.children, internal=True, refuri=f"{uri}#{anchor}" if anchor else uri)


def source_page(path: str) -> str:
    return f"source/{path}"


def write_sources(app: Sphinx, exception: Exception | None) -> None:
    """A page for every file that some page links to, with numbered lines, and for every folder, with its files."""
    if exception is not None or app.builder.format != "html" or app.config.repository_url:
        return
    for path in sorted({path for files in files_of(app.env).values() for path in files}):
        if page_of(path, app.env) is None:
            _write_source(app.builder, path)


def _write_source(builder: StandaloneHTMLBuilder, path: str) -> None:
    """Not through the theme, whose navigation takes longer to make than all the rest of such a page."""
    target = Path(builder.get_outfilename(source_page(path)))
    target.parent.mkdir(parents=True, exist_ok=True)
    root = builder.get_relative_uri(source_page(path), builder.config.root_doc)
    body = folder_html(builder, path) if (ROOT / path).is_dir() else source_html(path)
    target.write_text(SOURCE_PAGE.format(path=escape(path), root=root, body=body), encoding="utf-8")


def folder_html(builder: StandaloneHTMLBuilder, path: str) -> str:
    links = [
        (builder.get_relative_uri(source_page(path), source_page(file)), Path(file).name) for file in _files_in(path)
    ]
    return "<ul>\n" + "".join(f'<li><a href="{uri}">{escape(name)}</a></li>\n' for uri, name in links) + "</ul>\n"


def source_html(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path.removesuffix(".jinja"), stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
    code = highlight(text, lexer, HtmlFormatter(linenos="inline", anchorlinenos=True, lineanchors="L"))
    return code.replace('id="L-', 'id="L').replace('href="#L-', 'href="#L')


def setup(app: Sphinx) -> None:
    app.add_config_value("repository_url", "", "html", str)
    app.add_config_value("repository_branch", "main", "html", str)
    app.add_transform(RepositoryLinks)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("missing-reference", resolve)
    app.connect("build-finished", write_sources)
