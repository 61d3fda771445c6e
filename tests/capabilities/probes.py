# SPDX-License-Identifier: Apache-2.0
"""The probes of one method: one function per column. A method overrides what its kind does not know."""

import json
import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from eigenhub.methods import get_method
from tests.capabilities.cells import PATIENCE, Failed
from tests.capabilities.strangers import Export
from tests.common.script_tester import HEAVY
from tests.support.distributed import run_script
from tests.support.processes import ROOT, Finished, run_python


if TYPE_CHECKING:
    from tests.capabilities.shared import Shared


class Probes:
    """Base of all probes. Each takes an empty folder, raises where the method cannot do what the column asks (or
    [`DoesNotApply`] where it cannot mean anything), and may return a note.

    Attributes:
        slug (`str`): row of the table of methods.
        script_arguments (`tuple[str, ...]`): what makes a run of it tiny.
        shared (`Shared`): processes that the probes of all methods share.
    """

    slug: ClassVar[str]
    script_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.shared: Shared

    def export_to(self, folder: Path) -> Export:
        """Write the exported form."""
        raise NotImplementedError(f"{type(self).__name__} exports nothing")

    def export(self, folder: Path) -> str | None:
        self.shared.strangers.check(self.slug)
        return None

    def space(self, folder: Path) -> str | None:
        return self.shared.spaces.check(self.slug)

    def script(self, folder: Path) -> str | None:
        """`--help` with nothing installed, and two steps."""
        script = ROOT / get_method(self.slug).script_path
        check_ended(run_python(script, "--help", folder=folder / "help", block=HEAVY, check=False, timeout=PATIENCE))
        arguments = self.prepare_script(folder)
        out = folder / "run"
        counts = ["--max_steps", "2", "--checkpoint_every", "2", "--seed", "0", "--output_dir", str(out)]
        finished = run_script(
            script, *self.script_arguments, *arguments, *counts, nproc=1, folder=folder, check=False, timeout=PATIENCE
        )
        check_ended(finished)
        losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        if len(losses) != 2 or not all(math.isfinite(loss) for loss in losses):
            raise AssertionError(f"two steps gave the losses {losses}")
        if not (out / "summary.json").is_file():
            raise AssertionError("the run wrote no summary.json")
        return None

    def prepare_script(self, folder: Path) -> list[str]:
        """Data or models of the run, as further arguments."""
        return []


def check_ended(finished: Finished) -> None:
    """Raise the last line that a process wrote if it failed."""
    if finished.returncode:
        lines = finished.stderr.strip().splitlines()
        raise Failed(lines[-1] if lines else f"exit code {finished.returncode}")


def probes_of(slug: str) -> Probes:
    """The probes of a method: `PROBES` of `tests/capabilities/methods/<slug>.py`."""
    kind: type[Probes] = import_module(f"tests.capabilities.methods.{slug}").PROBES
    return kind()
