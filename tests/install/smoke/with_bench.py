# SPDX-License-Identifier: Apache-2.0
"""Extra `bench`: the training script takes the peers' optimizers, and the state-space peer imports."""

import subprocess
import sys
from importlib import import_module

from eigenhub import get_method
from eigenhub.hub.resources import find


import_module("s5")
SCRIPT = find(get_method("dct").script_path)
for optimizer in ("galore", "apollo", "fira"):
    command = [sys.executable, SCRIPT, "--optimizer", optimizer, "--rank", "8", "--max_steps", "2"]
    done = subprocess.run([*command, "--output_dir", optimizer], capture_output=True, text=True)
    assert done.returncode == 0, f"{optimizer}\n{done.stdout}\n{done.stderr}"
print("two steps each of GaLore, APOLLO and Fira; s5-pytorch")
