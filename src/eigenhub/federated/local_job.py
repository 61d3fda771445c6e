# SPDX-License-Identifier: Apache-2.0
"""What one client has to do in one round, what it tells of it, and on which machine."""

import hashlib
from dataclasses import dataclass, field

from accelerate import Accelerator
from accelerate.utils import DistributedType, GradientAccumulationPlugin
from transformers import TrainingArguments


@dataclass(frozen=True)
class LocalJob:
    """What one client has to do in one round.

    Args:
        client_id (`str`): who.
        round (`int`): from 1.
        num_steps (`int`): optimizer steps.
        seed (`int`): of the order of its data and of dropout.
        noise_multiplier (`float`, *optional*): noise over the clipping norm under differential privacy.
    """

    client_id: str
    round: int
    num_steps: int
    seed: int
    noise_multiplier: float | None = None


@dataclass(frozen=True)
class LocalOutcome:
    """What local training tells about itself.

    Args:
        num_steps (`int`): optimizer steps that were taken.
        metrics (`dict[str, float]`): such as the mean loss; nothing under differential privacy unless asked for.
    """

    num_steps: int
    metrics: dict[str, float] = field(default_factory=dict)


def job_seed(seed: int, round: int, client_id: str) -> int:
    """A seed of its own for every client and round.

    Args:
        seed (`int`): of the run.
        round (`int`): from 1.
        client_id (`str`): who.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {round} {client_id}".encode()).digest()[:4], "big")


def accumulation_plugin(args: TrainingArguments) -> GradientAccumulationPlugin:
    """How many batches make an optimizer step, also across the end of a pass.

    Args:
        args (`TrainingArguments`): of the local training.
    """
    return GradientAccumulationPlugin(num_steps=args.gradient_accumulation_steps, sync_with_dataloader=False)


def make_federated_accelerator(args: TrainingArguments) -> Accelerator:
    """An accelerator for local training, with the precision and the accumulation of the arguments.

    Args:
        args (`TrainingArguments`): of the local training.

    Raises:
        ValueError: under FSDP or DeepSpeed, whose shards the server cannot average.
    """
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
    accelerator = Accelerator(
        gradient_accumulation_plugin=accumulation_plugin(args), mixed_precision=precision, cpu=args.use_cpu
    )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            f"federated training runs data-parallel inside a client, not under {accelerator.distributed_type.value}: "
            "launch it with a multi-GPU configuration"
        )
    return accelerator
