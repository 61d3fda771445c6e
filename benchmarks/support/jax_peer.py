# SPDX-License-Identifier: Apache-2.0
"""The JAX layer as a contender: a process that runs one forward and backward pass whenever it is asked to."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from support.ssm_peers import parameters


ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class JaxPeer:
    """S5 in JAX, jitted, on one thread.

    Args:
        python (`str`): interpreter that has jax.
        features (`int`): features of the layer.
        states (`int`): complex states.
    """

    def __init__(self, python: str, features: int, states: int) -> None:
        environment = {**os.environ, "XLA_FLAGS": ONE_THREAD, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
        script = Path(__file__).with_name("jax_s5.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([python, str(script)], env=environment, **pipes)
        self.folder = tempfile.TemporaryDirectory()
        self.parameters = {name: tensor.numpy() for name, tensor in parameters(features, states).items()}
        self.version = self._answer()["version"]

    def load(self, u: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """Hand over an input, compile for its shape and run once; returns output and gradient of the input."""
        given, found = (str(Path(self.folder.name) / name) for name in ("given.npz", "found.npz"))
        np.savez(given, u=u.detach().numpy(), upstream=upstream.numpy(), **self.parameters)
        self._ask(load=given, save=found)
        result = np.load(found)
        return torch.from_numpy(result["y"]), torch.from_numpy(result["grad"])

    def __call__(self) -> float:
        """Run once over the input that is loaded; returns the seconds of processor time that it took."""
        return self._ask()["seconds"]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()

    def _ask(self, **job: str) -> dict:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the JAX process ended with status {self.process.wait()}; its message is above")
        return json.loads(line)
