# SPDX-License-Identifier: Apache-2.0
"""Launches of a script: in one process, in two with gloo, and with the engines of `scripts/accelerate_configs`."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.distributed import cpu_environment, torchrun_command
from tests.support.processes import ROOT, Finished, child_environment, run


START = Path(__file__).resolve().parent / "start.py"
CONFIGS = ROOT / "scripts" / "accelerate_configs"
#: File of the configuration by column.
ENGINES = {"fsdp2": "fsdp2.yaml", "zero2": "deepspeed_zero2.yaml", "zero3": "deepspeed_zero3.yaml"}
SECONDS = 600


def engine_settings(engine: str) -> dict[str, str]:
    """The environment variables that `accelerate launch` makes of a configuration, in full precision.

    Args:
        engine (`str`): key of `ENGINES`.
    """
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    config = str(CONFIGS / ENGINES[engine])
    given = ["--config_file", config, "--mixed_precision", "no", "--main_process_port", "0", "script.py"]
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(
            defaults.deepspeed_config
        )  # as `accelerate launch` does
    made = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    return {name: value for name, value in made.items() if name.startswith(("ACCELERATE_", "FSDP_"))}


def engine_environment(engine: str) -> dict[str, str]:
    """The environment of two processes on CPUs with an engine.

    Args:
        engine (`str`): key of `ENGINES`.
    """
    environment = cpu_environment() | engine_settings(engine)
    if engine == "fsdp2":
        return environment | {"ACCELERATE_USE_CPU": "true"}
    del environment["ACCELERATE_USE_CPU"]  # it would switch DeepSpeed off
    return environment | {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"}


def with_sources(environment: Mapping[str, str]) -> dict[str, str]:
    """For an interpreter in which the package is not installed.

    Args:
        environment (`Mapping[str, str]`): to start from.
    """
    return child_environment(dict(environment) | {"PYTHONPATH": str(ROOT / "src")})


def launch(script: Path, arguments: list[str], folder: Path, nproc: int) -> Finished:
    """Run a script without an engine.

    Args:
        script (`Path`): the script.
        arguments (`list[str]`): of its command line.
        folder (`Path`): working directory.
        nproc (`int`): number of processes.
    """
    plain = [sys.executable, str(script), *arguments]
    command = plain if nproc == 1 else torchrun_command(script, nproc, *arguments)
    return run(command, child_environment(cpu_environment()), folder, check=False, timeout=SECONDS)


def launch_engine(script: Path, arguments: list[str], folder: Path, engine: str, python: str) -> Finished:
    """Run a script in two processes of an engine.

    Args:
        script (`Path`): the script.
        arguments (`list[str]`): of its command line.
        folder (`Path`): working directory.
        engine (`str`): key of `ENGINES`.
        python (`str`): interpreter that has the engine.
    """
    command = [python, *torchrun_command(START, 2, str(script), *arguments)[1:]]
    return run(command, with_sources(engine_environment(engine)), folder, check=False, timeout=SECONDS)
