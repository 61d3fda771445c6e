# SPDX-License-Identifier: Apache-2.0
"""N processes on the CPU with torchrun: a script with its arguments, or a function of a test module.

`accelerate launch --cpu --num_processes 2` silently starts a single process; `ACCELERATE_USE_CPU` under torchrun does not.
"""

import inspect
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import Finished, child_environment, run


WORKER = Path(__file__).resolve().parent / "child" / "worker.py"


def torchrun_command(script: Path, nproc: int, *arguments: str) -> list[str]:
    """Command line for `nproc` local processes on a port that torchrun finds free by itself."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    return [*launcher, "--nproc-per-node", str(nproc), str(script), *arguments]


def cpu_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment in which accelerate, torch and gloo stay on the CPU and on the loopback interface."""
    base = dict(os.environ if environment is None else environment)
    return base | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}


def run_script(
    script: Path,
    *arguments: str,
    nproc: int,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = 240,
) -> Finished:
    """Run a script in `nproc` processes to its end; one process is started without torchrun.

    Args:
        script (`Path`):
            Path of the script.
        arguments (`str`):
            Its command-line arguments.
        nproc (`int`):
            Number of processes.
        folder (`Path`):
            Working directory.
        environment (`Mapping[str, str]`, *optional*):
            Environment to start from; defaults to that of this process.
        check (`bool`, *optional*, defaults to `True`):
            Whether a non-zero exit code raises.
        timeout (`float`, *optional*, defaults to 240):
            Seconds until all processes are killed.
    """
    plain = [sys.executable, str(script), *arguments]
    command = plain if nproc == 1 else torchrun_command(script, nproc, *arguments)
    return run(command, child_environment(cpu_environment(environment)), folder, check, timeout)


def run_function(function: Callable[..., Any], nproc: int, timeout: float = 240, **keywords: Any) -> list[Any]:
    """Call a function of a test module in `nproc` processes of one gloo group.

    The function must stand at the top level of a module that imports from its siblings by absolute names only; its
    keywords and its return value must be JSON.

    Returns:
        `list`: the return values by rank.
    """
    source = inspect.getsourcefile(function)
    if source is None or "." in function.__qualname__:
        raise ValueError(f"{function.__qualname__} must be a function at the top level of a module")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(Path(source).resolve()), function.__name__, folder, json.dumps(keywords)]
        command = torchrun_command(WORKER, nproc, *arguments)
        run(command, child_environment(cpu_environment()), Path(folder), timeout=timeout)
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(nproc)]
