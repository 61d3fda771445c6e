# SPDX-License-Identifier: Apache-2.0
"""The accelerator and the data loader of a script, such that a resumed run repeats the uninterrupted one exactly."""

import argparse
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedType, GradientAccumulationPlugin
from torch import nn
from torch.utils.data import DataLoader

from eigenhub.files import lock_folder
from eigenhub.training.engines import EngineAccelerator
from eigenhub.training.options import as_settings


def make_accelerator(args: argparse.Namespace, project: str) -> Accelerator:
    """
    An accelerator by the shared options, with its trackers started and the output folder made and locked to other runs.

    Args:
        args (`argparse.Namespace`): with the options of [`eigenhub.training.options`].
        project (`str`): project name for the trackers.
    """
    accelerator = EngineAccelerator(
        # Every step takes the same number of batches, also across the end of an epoch.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=args.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.seed),
        log_with=None if args.report_to == "none" else args.report_to,
        project_dir=args.output_dir,
    )
    if is_deepspeed(accelerator):  # clips inside of its own step, by its own setting
        accelerator.deepspeed_plugin.deepspeed_config["gradient_clipping"] = args.max_grad_norm
    if args.tf32:
        torch.set_float32_matmul_precision("high")
    if accelerator.is_main_process:
        accelerator.output_lock = lock_folder(args.output_dir)  # as long as the accelerator lives
    if args.report_to != "none":
        accelerator.init_trackers(project, {name: str(value) for name, value in as_settings(args).items()})
    return accelerator


def make_loader(
    args: argparse.Namespace,
    accelerator: Accelerator,
    rows: Sequence,
    collate: Callable | None = None,
    workers: int = 0,
) -> DataLoader:
    """
    A shuffling loader of full batches, to be prepared by the accelerator.

    Args:
        args (`argparse.Namespace`): with the options of [`eigenhub.training.options`].
        accelerator (`Accelerator`): tells the number of processes.
        rows (`Sequence`): training examples.
        collate (`Callable`, *optional*): makes a batch of a list of rows.
        workers (`int`, *optional*, defaults to 0): processes that read rows; none reads them in the loop.
    """
    per_step = args.per_device_batch_size * accelerator.num_processes
    if len(rows) < per_step:
        raise ValueError(f"{len(rows)} rows do not fill one batch of {per_step} over all processes")
    return DataLoader(
        rows,  # type: ignore[arg-type]  # any sequence has what a map-style dataset needs
        batch_size=args.per_device_batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=workers > 0 and accelerator.device.type == "cuda",
        # Without one, each epoch would draw from the global stream, and a resumed run at another point of it.
        generator=torch.Generator().manual_seed(args.seed),
    )


@torch.no_grad()
def average_statistics(accelerator: Accelerator, model: nn.Module) -> None:
    """
    Makes running statistics, such as those of batch norm, the mean over the processes, each of which has seen its own rows.

    To be called before the model is evaluated or saved: without DistributedDataParallel nobody hands them round, so that
    processes would evaluate different models, and only those of the main process would be saved.

    Args:
        accelerator (`Accelerator`): of the script.
        model (`nn.Module`): perhaps wrapped or sharded; buffers are in neither case.
    """
    if accelerator.num_processes == 1:
        return
    for name, buffer in model.named_buffers():
        if name.rpartition(".")[2] in ("running_mean", "running_var"):
            buffer.copy_(accelerator.reduce(buffer.clone(), reduction="mean"))


def is_deepspeed(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed runs the training; it then steps inside of `accelerator.backward`."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether an engine places the parameters by itself, so that the script must not move the model."""
    return is_deepspeed(accelerator) or accelerator.distributed_type == DistributedType.FSDP
