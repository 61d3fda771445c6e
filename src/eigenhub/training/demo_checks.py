# SPDX-License-Identifier: Apache-2.0
"""What every demo proves at its end: a resumed run equals the straight one, and a fresh process can load what was saved."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def in_fresh_process(*arguments: str) -> str:
    """Standard output of this Python with other arguments; ends the program with what the process said if it fails.

    Args:
        arguments (`str`): such as `"-c"` and a program, or the path of one, then what it is given.
    """
    finished = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"the fresh process failed:\n{finished.stderr}")
    return finished.stdout


def check_resume(title: str, main: Callable, arguments: Sequence[str], straight: Path, resumed: Path) -> None:
    """Repeat the steps after the one checkpoint of a run; ends the program unless the weights are equal to the bit.

    Args:
        title (`str`): name of the run.
        main (`Callable`): of the training script.
        arguments (`Sequence[str]`): those of the straight run, without `--output_dir`.
        straight (`Path`): its folder.
        resumed (`Path`): folder of the repetition, made anew.
    """
    from safetensors.torch import load_file

    shutil.rmtree(resumed, ignore_errors=True)
    (checkpoint,) = (straight / "checkpoints").glob("step_*")
    print(f"repeating the last steps of {title} from {checkpoint.name}")
    main([*arguments, "--output_dir", str(resumed), "--resume", str(checkpoint)])
    first, second = (load_file(folder / "model.safetensors") for folder in (straight, resumed))
    difference = max((first[name] - second[name]).abs().max().item() for name in first)
    print(f"resumed from a checkpoint: largest difference of the weights {difference:g}")
    if difference != 0.0:
        raise SystemExit("the resumed run differs from the uninterrupted one")
