# SPDX-License-Identifier: Apache-2.0
"""The accuracy of a run as `results.yaml` beside its weights, which the model card shows."""

import argparse
import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator

from eigenhub.files import write_text
from eigenhub.training.text_source import is_local


VERSIONED = ("torch", "transformers", "peft", "accelerate", "datasets")


def write_accuracy(
    args: argparse.Namespace,
    accelerator: Accelerator,
    accuracy: float,
    setting: str,
    task: str,
    dataset: str,
    split: str,
) -> None:
    """
    Writes one measured figure with everything needed to repeat it.

    Args:
        args (`argparse.Namespace`): with `output_dir`, `method`, `seed` and `command`.
        accelerator (`Accelerator`): tells the hardware.
        accuracy (`float`): share of right answers.
        setting (`str`): the run in a few words.
        task (`str`): task name of the Hub, such as `text-generation`.
        dataset (`str`): what was evaluated on; of a local path only the name is kept.
        split (`str`): split of it.
    """
    name = Path(dataset).stem if is_local(dataset) else dataset
    figure = {
        "id": "accuracy",
        "method": args.method,
        "task": task,
        "dataset": {"id": name, "name": name, "split": split},
        "metric": "accuracy",
        "value": round(accuracy, 4),
        "seeds": [args.seed],
        "setting": setting,
        "command": args.command,
        "hardware": hardware(accelerator),
        "date": datetime.date.today().isoformat(),
        "versions": {package: version(package) for package in VERSIONED},
    }
    text = yaml.safe_dump({"method": args.method, "measured": [figure]}, sort_keys=False, width=1000)
    write_text(args.output_dir / "results.yaml", text)


def hardware(accelerator: Accelerator) -> str:
    """Such as `2 x NVIDIA L40S` or `1 process on x86_64, 2 cores`."""
    if accelerator.device.type == "cuda":
        return f"{accelerator.num_processes} x {torch.cuda.get_device_name(accelerator.device)}"
    processes = f"{accelerator.num_processes} process{'es' if accelerator.num_processes > 1 else ''}"
    return f"{processes} on {platform.machine()}, {os.cpu_count()} cores"
