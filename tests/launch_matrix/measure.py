# SPDX-License-Identifier: Apache-2.0
"""From a program and a column to a cell: the runs and their judges."""

import datetime
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from tests.capabilities.compare import check_close, check_equal
from tests.common.script_tester import Run, ScriptTester
from tests.launch_matrix.cells import Cell, broken, shortened
from tests.launch_matrix.judge import check_configurations, check_figures, check_losses, without_statistics
from tests.launch_matrix.launches import ENGINES, launch, launch_engine
from tests.launch_matrix.programs import Program
from tests.support.processes import Finished, run_python


#: One process more, one batch less.
HALVED = ("--gradient_accumulation_steps", "1")


class Row:
    """The runs of one program.

    Args:
        program (`Program`): the row.
        folder (`Path`): for its runs.
        deepspeed (`str`, *optional*): interpreter that has DeepSpeed.
    """

    def __init__(self, program: Program, folder: Path, deepspeed: str | None) -> None:
        self.program, self.folder, self.deepspeed = program, folder, deepspeed

    @cached_property
    def case(self) -> type[ScriptTester]:
        inputs = self.folder / "inputs"
        inputs.mkdir(parents=True)
        return self.program.case(inputs)

    def cell(self, column: str) -> Cell | None:
        """The cell of a column; None where what it needs is not installed.

        Args:
            column (`str`): key of the column.
        """
        today = datetime.date.today().isoformat()
        if column in self.program.inapplicable:
            return Cell("n/a", self.program.inapplicable[column], today)
        if column.startswith("zero") and self.deepspeed is None:
            return None
        try:
            found = self._killed() if column == "kill" else self._straight(column)
        except AssertionError as error:
            lines = str(error).strip().splitlines() or ["AssertionError"]
            found = Cell("no", shortened(lines[0]))
        return replace(found, date=today)

    @cached_property
    def reference(self) -> tuple[Run, Finished]:
        """The run in one process, which the others are compared with."""
        return self._run("one")

    def _run(self, column: str) -> tuple[Run, Finished]:
        run = Run(self.folder / column, 1 if column == "one" else 2)
        run.folder.mkdir(parents=True)
        script, arguments = self.case.path(), self.case.run_arguments(run.folder)
        if column == "one":
            return run, launch(script, arguments, run.folder, nproc=1)
        arguments += HALVED
        if column == "two":
            return run, launch(script, arguments, run.folder, nproc=2)
        python = (self.deepspeed if column.startswith("zero") else None) or sys.executable
        return run, launch_engine(script, arguments, run.folder, column, python)

    def _straight(self, column: str) -> Cell:
        run, finished = self.reference if column == "one" else self._run(column)
        if finished.returncode:
            return broken(finished)
        self._check_engine(column, finished)
        check_losses(run, self.case.max_steps)
        if column == "one" or self.program.apart:
            run_python(self.case.load_code, str(run.folder), folder=run.folder)
            return Cell("yes", "" if column == "one" else self.program.apart)
        whole = self._whole()
        check_configurations(run, whole)
        check_figures(run, whole, losses_only=self.program.statistics)
        found, expected = (without_statistics(entry.weights()) for entry in (run, whole))
        check_close(found, expected, "weights", atol=self.program.tolerance, rtol=1e-3)
        return Cell("yes", self.program.comparison)

    def _check_engine(self, column: str, finished: Finished) -> None:
        if column not in ENGINES:
            return
        wanted = "FSDP" if column == "fsdp2" else "DEEPSPEED"
        engines = set(re.findall(r"^launch-matrix engine (\w+)", finished.stderr, re.MULTILINE))
        if engines != {wanted}:
            raise AssertionError(f"it trained under {sorted(engines)}, not under {wanted}")

    def _whole(self) -> Run:
        run, finished = self.reference
        if finished.returncode:
            raise AssertionError("there is no run of one process to compare with")
        return run

    def _killed(self) -> Cell:
        whole, resumed = self._whole(), Run(self.folder / "kill", 1)
        resumed.folder.mkdir()
        self.case().kill_in_mid_run(resumed)
        arguments = [*self.case.run_arguments(resumed.folder), *self.case.resume_arguments]
        finished = launch(self.case.path(), arguments, resumed.folder, nproc=1)
        if finished.returncode:
            return broken(finished)
        if re.search(r"resumed.*step (\d+)", finished.stdout + finished.stderr) is None:
            raise AssertionError("it did not say that it resumed")
        if resumed.losses != whole.losses:
            raise AssertionError("losses of the resumed run differ from the straight one")
        check_equal(resumed.weights(), whole.weights(), "weights of the resumed run")
        return Cell("yes")


def own_deepspeed(python: str) -> str | None:
    """This interpreter if it has DeepSpeed.

    Args:
        python (`str`): its path.
    """
    return python if find_spec("deepspeed") is not None else None


def measure(
    programs: list[Program],
    columns: list[str],
    folder: Path,
    deepspeed: str | None,
    tell: Callable[[str, str, Cell | None], None],
) -> None:
    """Measure cells one after the other.

    Args:
        programs (`list[Program]`): rows.
        columns (`list[str]`): keys of columns.
        folder (`Path`): for the runs.
        deepspeed (`str`, *optional*): interpreter that has DeepSpeed.
        tell (`Callable`): gets script, column and cell as soon as it is known.
    """
    for program in programs:
        own = folder / program.script.replace("/", "_").removesuffix(".py")
        row = Row(program, own, deepspeed)
        for column in columns:
            tell(program.script, column, row.cell(column))
        shutil.rmtree(own, ignore_errors=True)
