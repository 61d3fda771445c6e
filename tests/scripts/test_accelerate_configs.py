# SPDX-License-Identifier: Apache-2.0
"""The ready configurations for `accelerate launch` are read by it, and say what their names say."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

from tests.support.processes import ROOT


FOLDER = ROOT / "scripts" / "accelerate_configs"
TYPES = {
    "cpu": DistributedType.NO,
    "single_gpu": DistributedType.NO,
    "multi_gpu": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


def test_every_file_is_listed() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_config(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.distributed_type == TYPES[name]
    assert config.use_cpu == (name == "cpu")


def launch_arguments(path: Path):
    args = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    return _validate_launch_command(args)[0]


def test_fsdp_is_version_two_and_every_process_sees_the_weights() -> None:
    args = launch_arguments(FOLDER / "fsdp2.yaml")
    assert args.use_fsdp and int(args.fsdp_version) == 2
    assert str(args.fsdp_cpu_ram_efficient_loading).lower() == "false"


@pytest.mark.parametrize(("name", "stage"), [("deepspeed_zero2", 2), ("deepspeed_zero3", 3)])
def test_deepspeed_leaves_accumulation_and_clipping_to_the_script(name: str, stage: int) -> None:
    args = launch_arguments(FOLDER / f"{name}.yaml")
    assert args.use_deepspeed and int(args.zero_stage) == stage
    assert str(args.zero3_init_flag).lower() == "false"
    config = load_config_from_file(str(FOLDER / f"{name}.yaml")).deepspeed_config
    assert not {"gradient_accumulation_steps", "gradient_clipping"} & set(config)
