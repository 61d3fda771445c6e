# SPDX-License-Identifier: Apache-2.0
"""What looks on while `train_send.py` trains: a row of metrics per step, and checkpoints that are surely complete."""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from send_checks import list_trainer_checkpoints
from send_evaluation import Evaluations
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eigenhub.training.checkpoint_files import MANIFEST, write_manifest
from eigenhub.training.metrics_log import MetricsLog


if TYPE_CHECKING:
    from accelerate import Accelerator


class StepLog(TrainerCallback):
    """Writes `metrics.jsonl`, feeds the trackers and moves a progress bar.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
    """

    def __init__(self, args: argparse.Namespace, accelerator: "Accelerator") -> None:
        self.args, self.accelerator = args, accelerator

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        done = state.global_step
        if done:
            self.accelerator.print(f"resumed after step {done} from {self.args.resume}")
        self.log = MetricsLog(self.args.output_dir / "metrics.jsonl", done, self.accelerator.is_main_process)
        hidden = not self.accelerator.is_local_main_process
        self.bar = tqdm(total=state.max_steps, initial=done, desc=self.args.arm, disable=hidden)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:
            return
        row = {"step": state.global_step, "loss": logs["loss"], "lr": logs["learning_rate"]}
        row |= {"grad_norm": logs["grad_norm"]} if "grad_norm" in logs else {}
        self.log.write(row)
        self.accelerator.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])
        self.bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
        self.bar.update(state.global_step - self.bar.n)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.close()


class CheckpointManifests(TrainerCallback):
    """Marks a checkpoint as complete once every process has written its part, and only then deletes the oldest.

    Args:
        accelerator (`Accelerator`): of the script.
        settings (`dict`): that a continued run must share.
        evaluations ([`Evaluations`]): kept with the checkpoint, for they say what the next one is compared with.
        keep (`int`): number of checkpoints kept.
    """

    def __init__(
        self, accelerator: "Accelerator", settings: dict[str, object], evaluations: Evaluations, keep: int
    ) -> None:
        self.accelerator, self.settings, self.evaluations, self.keep = accelerator, settings, evaluations, keep

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checkpoints from behind the one that the run goes on from are about to be written again."""
        if self.accelerator.is_main_process:
            for path in list_trainer_checkpoints(Path(str(args.output_dir))):
                if int(path.name.rpartition("-")[2]) > state.global_step:
                    (path / MANIFEST).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self.accelerator.wait_for_everyone()  # the random state of every process is in
        if self.accelerator.is_main_process:
            self.evaluations.write(folder)
            (folder / MANIFEST).unlink(missing_ok=True)
            write_manifest(folder, state.global_step, self.settings)
            for path in list_trainer_checkpoints(folder.parent)[: -self.keep]:
                (path / MANIFEST).unlink(missing_ok=True)  # first: half a deletion must not look complete
                shutil.rmtree(path)
        self.accelerator.wait_for_everyone()
