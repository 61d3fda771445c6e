# SPDX-License-Identifier: Apache-2.0
"""All Spaces, each imported from its own folder, in one process: gradio changes other libraries when it is imported.

Run as a program with slugs as arguments, it prints verdicts as JSON.
"""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.capabilities.cells import PATIENCE, Failed, first_line
from tests.support.processes import run_python


class Spaces:
    """Verdicts by method; the process starts when the first is asked for.

    Args:
        slugs (`Sequence[str]`): methods whose Spaces are built.
        folder (`Path`): working directory of the process.
    """

    def __init__(self, slugs: Sequence[str], folder: Path) -> None:
        self.slugs, self.folder = list(slugs), folder
        self.verdicts: dict[str, dict[str, str]] | None = None

    def check(self, slug: str) -> str:
        """The named endpoints of a Space; raises what went wrong."""
        if self.verdicts is None:
            self.verdicts = run_python(Path(__file__), *self.slugs, folder=self.folder, timeout=PATIENCE).result
        verdict = self.verdicts[slug]
        if "error" in verdict:
            raise Failed(verdict["error"])
        return verdict["endpoints"]


def verdict_of(slug: str) -> dict[str, str]:
    try:
        return {"endpoints": endpoints_of(slug)}
    except (Exception, SystemExit) as error:
        return {"error": first_line(error)}


def endpoints_of(slug: str) -> str:
    """Raise unless the app builds, stays closed, and has the named endpoints that its tests call."""
    import gradio as gr

    from tests.spaces.conftest import modules_of

    with modules_of(slug) as modules:
        demo = modules.app.demo
        if not isinstance(demo, gr.Blocks):
            raise AssertionError(f"`demo` is {type(demo).__name__}, not gradio.Blocks")
        if demo.is_running:
            raise AssertionError("the import launched the app")
        found = {f"/{fn.api_name}" for fn in demo.fns.values() if fn.api_visibility == "public"}
    expected = set(names_in_tests(slug))
    if found != expected or not found:
        raise AssertionError(f"endpoints {sorted(found)}, expected {sorted(expected)}")
    return ", ".join(f"`{name}`" for name in sorted(found))


def names_in_tests(slug: str) -> Sequence[str]:
    """Endpoints named by the class that tests a Space."""
    from tests.common.space_tester import SpaceTester

    module = import_module(f"tests.spaces.test_{slug}_space")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, SpaceTester)]
    return next(kind.api_names for kind in kinds if getattr(kind, "slug", None) == slug)


if __name__ == "__main__":
    print(json.dumps({slug: verdict_of(slug) for slug in sys.argv[1:]}))
