# SPDX-License-Identifier: Apache-2.0
"""Extra `track`: a training script writes to TensorBoard and to Trackio."""

import subprocess
import sys
from pathlib import Path

from eigenhub import get_method
from eigenhub.hub.resources import find


SCRIPT = find(get_method("dct").script_path)
STEPS = ("--max_steps", "2", "--logging_steps", "1")

for tracker in ("tensorboard", "trackio"):
    command = [sys.executable, SCRIPT, *STEPS, "--report_to", tracker, "--output_dir", tracker]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{tracker}\n{done.stdout}\n{done.stderr}"
assert list(Path("tensorboard").rglob("events.out.tfevents*"))
assert list((Path.home() / ".cache" / "huggingface" / "trackio").rglob("*.db"))
print("two steps each with TensorBoard and Trackio")
