# SPDX-License-Identifier: Apache-2.0
"""Common tests of a training script.

    class TestSorsaScript(ScriptTester):
        slug = "sorsa"
        script = "train_sorsa.py"
        arguments = ("--task", "digits")
        bad_flags = ((("--r", "0"), "at least 1"),)
        load_code = "import sys, eigenhub.auto; ..."  # loads the folder sys.argv[1]

The script takes `--output_dir --max_steps --checkpoint_every --resume --seed`. It writes one JSON line with `step` and
`loss` per step into `metrics.jsonl`, each step once, also over a resume, and `summary.json`, the weights and the card at
the end. On a resume it prints a line with `resumed` and `step <number>`.
"""

import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.support.distributed import cpu_environment, run_script, torchrun_command
from tests.support.kills import kill_after
from tests.support.processes import ROOT, child_environment, run_python


HEAVY = ("accelerate", "datasets", "gradio", "matplotlib", "peft", "sklearn", "torch", "transformers")


@dataclass(frozen=True)
class Run:
    """The output folder of a script that ran in `nproc` processes."""

    folder: Path
    nproc: int

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.finished_lines()]

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in self.metrics]

    def finished_lines(self) -> list[str]:
        """Lines of `metrics.jsonl` that end in a newline: a killed run may leave half a line."""
        path = self.folder / "metrics.jsonl"
        return path.read_text().rpartition("\n")[0].splitlines() if path.is_file() else []

    def weights(self) -> dict[str, Any]:
        """Every tensor of the output folder itself, by file and name."""
        files = sorted(self.folder.glob("*.safetensors"))
        return {f"{file.name}:{name}": tensor for file in files for name, tensor in load_file(file).items()}


def falls(losses: list[float], min_drop: float) -> bool:
    """Whether the mean of the last quarter lies `min_drop` below that of the first, and not by chance of the batches.

    The means alone let noise pass for learning: a third of the runs of a linear regression with learning rate zero. So
    88 % of the pairs of a step of the first quarter with one of the second half must fall too (Mann-Whitney: one such run
    in a hundred at 20 steps). Against the second half, not the last quarter alone: a run that learns fast spends it on a
    plateau. A run that has learned all within three steps is not told from noise: give it a smaller learning rate.
    """
    quarter = max(1, len(losses) // 4)
    first, last, later = losses[:quarter], losses[-quarter:], losses[len(losses) // 2 :]
    pairs = [late < early for early in first for late in later]
    return sum(last) <= (1 - min_drop) * sum(first) and sum(pairs) >= 0.88 * len(pairs)


class ScriptTester:
    """Base of the tests of one training script; subclasses are collected, this class is not.

    Attributes:
        slug (`str`): folder below `scripts/`.
        script (`str`): file name of the script.
        arguments (`tuple[str, ...]`): what makes the run tiny and offline.
        max_steps (`int`): steps of a run.
        checkpoint_every (`int`): steps between checkpoints.
        resume_arguments (`tuple[str, ...]`): what continues the newest checkpoint.
        min_drop (`float`): share by which the mean loss of the last quarter lies below that of the first.
        tolerance (`float`): largest difference between resumed and straight weights; 0 means to the bit.
        help_cpu_seconds (`float`): processor time that `--help` may take.
        bad_flags (`tuple`): pairs of arguments and a pattern that the error message matches.
        load_code (`str`): program that loads the output folder `sys.argv[1]` in a fresh process, and fails if it is wrong.
    """

    slug: ClassVar[str]
    script: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]]
    bad_flags: ClassVar[tuple[tuple[tuple[str, ...], str], ...]]
    load_code: ClassVar[str]
    max_steps: ClassVar[int] = 20
    checkpoint_every: ClassVar[int] = 6
    resume_arguments: ClassVar[tuple[str, ...]] = ("--resume", "auto")
    min_drop: ClassVar[float] = 0.05
    tolerance: ClassVar[float] = 0.0
    help_cpu_seconds: ClassVar[float] = 1.0

    @classmethod
    def path(cls) -> Path:
        return ROOT / "scripts" / cls.slug / cls.script

    @classmethod
    def run_arguments(cls, folder: Path) -> list[str]:
        counts = ["--max_steps", str(cls.max_steps), "--checkpoint_every", str(cls.checkpoint_every)]
        return [*cls.arguments, "--output_dir", str(folder), *counts, "--seed", "0"]

    @classmethod
    def launch(cls, folder: Path, nproc: int, *more: str) -> str:
        """Run the script to its end and give back what it printed."""
        folder.mkdir(parents=True, exist_ok=True)
        finished = run_script(cls.path(), *cls.run_arguments(folder), *more, nproc=nproc, folder=folder)
        return finished.stdout + finished.stderr

    @pytest.fixture(
        scope="class", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["1-process", "2-processes"]
    )
    @classmethod
    def straight(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
        return cls.uninterrupted(request.param, tmp_path_factory)

    @classmethod
    def uninterrupted(cls, nproc: int, tmp_path_factory: pytest.TempPathFactory) -> Run:
        """A run from its start to its end."""
        run = Run(tmp_path_factory.mktemp(f"{cls.slug}-{nproc}"), nproc)
        cls.launch(run.folder, run.nproc)
        return run

    def test_help_is_light(self, tmp_path: Path) -> None:
        finished = run_python(self.path(), "--help", folder=tmp_path, block=HEAVY, check=False)
        assert finished.returncode == 0, f"--help needs a heavy package: {finished}"
        flags = ("--output_dir", "--max_steps", "--checkpoint_every", "--resume", "--seed")
        missing = [flag for flag in flags if flag not in finished.stdout]
        assert not missing, f"--help does not name {missing}"
        assert finished.cpu_seconds < self.help_cpu_seconds, f"--help took {finished.cpu_seconds:.2f} CPU seconds"

    def test_bad_flags(self, tmp_path: Path) -> None:
        for flags, said in (*self.bad_flags, (("--no_such_flag", "1"), "no_such_flag")):
            arguments = [*self.run_arguments(tmp_path), *flags]
            finished = run_python(self.path(), *arguments, folder=tmp_path, check=False)
            assert finished.returncode != 0, f"{flags} were accepted"
            assert re.search(said, finished.stderr), f"{flags}: no {said!r} in the message: {finished}"
            assert "Traceback" not in finished.stderr, f"{flags} end in a traceback: {finished}"

    def test_loss_falls(self, straight: Run) -> None:
        steps = [row["step"] for row in straight.metrics]
        assert steps == list(range(1, self.max_steps + 1)), f"metrics.jsonl holds the steps {steps}"
        losses = straight.losses
        assert all(math.isfinite(loss) for loss in losses), f"losses that are not finite: {losses}"
        assert falls(losses, self.min_drop), f"the loss does not fall, or only by chance: {losses}"
        assert isinstance(json.loads((straight.folder / "summary.json").read_text()), dict)

    def test_kill_and_resume(self, straight: Run, tmp_path: Path) -> None:
        resumed = Run(tmp_path, straight.nproc)
        self.kill_in_mid_run(resumed)
        before = len(resumed.finished_lines())
        assert self.checkpoint_every < before < self.max_steps, f"killed after {before} of {self.max_steps} steps"
        said = re.search(r"resumed.*step (\d+)", self.launch(tmp_path, resumed.nproc, *self.resume_arguments))
        assert said, "the script did not say that it resumed, and at which step"
        assert self.checkpoint_every <= int(said[1]) <= before, f"resumed at step {said[1]}, killed after {before}"
        assert [row["step"] for row in resumed.metrics] == [row["step"] for row in straight.metrics]
        assert_close(resumed.losses, straight.losses, rtol=0, atol=self.tolerance)
        assert straight.weights(), "the run left no weights"
        assert_close(resumed.weights(), straight.weights(), rtol=0, atol=self.tolerance)

    def kill_in_mid_run(self, run: Run) -> None:
        arguments = self.run_arguments(run.folder)
        plain = [sys.executable, str(self.path()), *arguments]
        command = plain if run.nproc == 1 else torchrun_command(self.path(), run.nproc, *arguments)
        # the row after the one at which a checkpoint was due tells that the checkpoint is complete
        soon, due = self.checkpoint_every, self.checkpoint_every + 1
        environment = child_environment(cpu_environment())
        killed = kill_after(command, environment, run.folder, lambda: len(run.finished_lines()), soon, due)
        log = (run.folder / "killed.log").read_text()
        assert killed, f"the run ended before it could be killed; give it more steps:\n{log}"
        assert not (run.folder / "summary.json").exists(), "summary.json was written before the end"

    def test_output_loads_in_a_fresh_process(self, straight: Run, tmp_path: Path) -> None:
        run_python(self.load_code, str(straight.folder), folder=tmp_path)

    def test_card(self, straight: Run) -> None:
        card = ModelCard.load(straight.folder / "README.md")
        missing = [key for key in ("library_name", "license", "tags") if not card.data.get(key)]
        assert not missing, f"the card's front matter lacks {missing}"
        left = [mark for mark in ("[More Information Needed]", "{%") if mark in card.content]
        assert not left, f"the card still holds {left}"


class SlowScriptTester(ScriptTester):
    """The same for a script whose runs are left to the slow tests."""

    @pytest.fixture(
        scope="class",
        params=[pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)],
        ids=["1-process", "2-processes"],
    )
    @classmethod
    def straight(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
        return cls.uninterrupted(request.param, tmp_path_factory)
