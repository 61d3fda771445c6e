# SPDX-License-Identifier: Apache-2.0
"""Atomic, rotating checkpoints over `accelerator.save_state` and `accelerator.load_state`."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError

from accelerate import Accelerator
from accelerate.utils import load
from torch import Tensor, nn

from eigenhub.files import lock_folder, replace_folder
from eigenhub.training.checkpoint_files import (
    check_settings,
    checkpoint_name,
    latest_checkpoint,
    read_manifest,
    rotate,
    write_manifest,
)
from eigenhub.training.setup import is_deepspeed, is_sharded


class Checkpoints:
    """
    The checkpoints of one run.

    A checkpoint is written under a temporary name and renamed when every process has finished, so a folder called
    `step_*` is complete, or at least was: the sizes in its manifest tell. All processes must see the same folder, and no
    other run may write there meanwhile: that is a `BlockingIOError`.

    Args:
        accelerator (`Accelerator`): with model and optimizer prepared.
        folder (`Path`): where the `step_*` folders go.
        settings (`Mapping[str, object]`):
            What has to be the same when the run is resumed (JSON values); a difference is an error that names it.
        keep (`int`, *optional*, defaults to 2): number of checkpoints kept.
        left_out (`Collection[str]`, *optional*):
            Parameters of the unwrapped model that are not written because the run restores them by itself, such as
            the frozen base of an adapter. FSDP and DeepSpeed write their shards whole.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: Path,
        settings: Mapping[str, object],
        keep: int = 2,
        left_out: Collection[str] = (),
    ) -> None:
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1, got {keep}")
        self.accelerator = accelerator
        self.folder = folder
        self.settings = {**settings, "num_processes": accelerator.num_processes}
        self.keep = keep
        self.left_out = frozenset(left_out)
        self._lock = lock_folder(folder) if accelerator.is_main_process else None
        accelerator.register_save_state_pre_hook(self._drop_left_out)

    def save(self, step: int) -> Path:
        """Writes the state after an optimizer step; collective over the processes."""
        final = self.folder / checkpoint_name(step)
        workplace = final.with_name(f"{final.name}.tmp")
        if self.accelerator.is_main_process:
            for left in self.folder.glob("step_*.tmp"):  # by a process that died
                shutil.rmtree(left)
            workplace.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(workplace))
        self.accelerator.wait_for_everyone()  # the random state of every process is in
        if self.accelerator.is_main_process:
            write_manifest(workplace, step, self.settings)
            replace_folder(workplace, final)
            rotate(self.folder, self.keep)
        self.accelerator.wait_for_everyone()
        return final

    def restore(self, checkpoint: Path) -> int:
        """Loads a checkpoint into the prepared objects and the random generators; returns its step."""
        manifest = read_manifest(checkpoint)
        if manifest is None:
            raise ValueError(f"{checkpoint} is not a complete checkpoint")
        check_settings(checkpoint, manifest["settings"], self.settings)
        _check_pickles(checkpoint)
        # FSDP and DeepSpeed load what they have written, whole; elsewhere the file lacks the parameters left out.
        partial = self.left_out and not is_sharded(self.accelerator)
        self.accelerator.load_state(str(checkpoint), **({"strict": False} if partial else {}))
        if is_deepspeed(self.accelerator):
            _partition_again(self.accelerator.deepspeed_engine_wrapped.engine.optimizer)
        return manifest["step"]

    def resume(self, asked: str | Path | None) -> int:
        """Restores a checkpoint if there is one to restore, and says so; returns the number of steps done.

        Args:
            asked (`str`, *optional*): a checkpoint, or `"auto"` for the newest one in the folder.
        """
        newest = latest_checkpoint(self.folder) if asked == "auto" else asked
        if newest is None:
            return 0
        step = self.restore(Path(newest))
        self.accelerator.print(f"resumed after step {step} from {newest}")
        return step

    def _drop_left_out(self, models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        for state in weights:  # empty where FSDP or DeepSpeed has already written its own
            for name in [name for name in state if name.removeprefix("module.") in self.left_out]:
                del state[name]


def _check_pickles(checkpoint: Path) -> None:
    """Accelerate would run what the ones bring, and go on without a word where the others are damaged."""
    for path in sorted([*checkpoint.glob("custom_checkpoint_*.pkl"), *checkpoint.glob("random_states_*.pkl")]):
        try:
            load(path, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
            raise ValueError(f"{path} cannot be read safely: {error}") from error


def _partition_again(optimizer: object) -> None:
    """
    Brings ZeRO-3 back to the state before its first forward.

    It comes out of loading with small parameters gathered. Those that a module keeps in a `ParameterDict` it gets to
    know only by having to gather them in the first forward; otherwise they are missing from the first backward.
    """
    if hasattr(optimizer, "checkpoint_event_prologue"):
        optimizer.checkpoint_event_prologue()
