# SPDX-License-Identifier: Apache-2.0
"""The page of all named endpoints, from what gradio tells programs: `python -m tests.spaces.api_page` writes it."""

from collections.abc import Iterator
from typing import Any

from gradio.utils import get_function_description

from eigenhub.methods import METHODS
from tests.spaces.conftest import modules_of
from tests.support.processes import ROOT


PAGE = ROOT / "docs" / "spaces_api.md"
BEGINNING = """\
# What programs can ask the Spaces

Every named endpoint of every Space, as `gradio_client` and MCP clients see it. [Spaces](spaces.md) shows how to call them.

This page is written by `python -m tests.spaces.api_page`; do not edit it by hand.
"""


def page() -> str:
    """The whole page."""
    return BEGINNING + "".join(section(method.slug) for method in METHODS)


def section(slug: str) -> str:
    """The endpoints of one Space."""
    with modules_of(slug, "app") as modules:
        demo = modules.app.demo
        functions = {f"/{fn.api_name}": fn.fn for fn in demo.fns.values()}
        endpoints = demo.get_api_info()["named_endpoints"]
        parts = [part for name, info in endpoints.items() for part in endpoint(name, info, functions[name])]
        return f"\n## {demo.title} (`{slug}`)\n" + "".join(f"\n{part}\n" for part in parts)


def endpoint(name: str, info: dict[str, Any], function: Any) -> Iterator[str]:
    """What one endpoint does, takes and gives."""
    description, words, returns = get_function_description(function)
    yield f"### `{name}`"
    yield description
    rows = [
        f"| `{p['parameter_name']}` | {kind(p)} | {default(p)} | {words[p['parameter_name']]} |"
        for p in info["parameters"]
    ]
    yield "\n".join(["| argument | type | default | |", "| --- | --- | --- | --- |", *rows])
    yield f"Returns: {' '.join(returns)}"


def kind(parameter: dict[str, Any]) -> str:
    """Type of an argument; what travels as a file is called so."""
    if parameter["component"] in ("File", "Image"):
        return "file"
    return "`" + parameter["python_type"]["type"].replace(" | ", "` or `") + "`"


def default(parameter: dict[str, Any]) -> str:
    """Value of an argument that is left out."""
    return f"`{parameter['parameter_default']!r}`" if parameter["parameter_has_default"] else "needed"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
