# SPDX-License-Identifier: Apache-2.0
"""From the options of `train_fedsvd.py` to the objects of the package: configuration, arguments, adapter, trainer."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedsvd_checks import client_ranks, rounds_folder
from fedsvd_tasks import Task
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import TrainingArguments

from eigenhub.federated import DPConfig, FederatedCallback, FederatedLoraTrainer, FedSVDConfig


if TYPE_CHECKING:
    from accelerate import Accelerator


def federated_config(args: argparse.Namespace) -> FedSVDConfig:
    """Rounds, clients, method and privacy.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    same = """method refactor_every refactor_warmup init_A sign_rule weighting downlink train_head client_sampling local_steps
        local_epochs min_clients seed checkpoint_every eval_every""".split()
    return FedSVDConfig(
        **{name: getattr(args, name) for name in same},
        client_fraction=args.fraction,
        num_rounds=args.rounds,
        client_ranks=client_ranks(args),
        private_metrics=bool(args.private_metrics),
        dp=_dp_config(args) if args.dp else None,
    )


def _dp_config(args: argparse.Namespace) -> DPConfig:
    same = "noise_multiplier accountant max_participations grad_sample_mode physical_batch_size".split()
    return DPConfig(
        target_epsilon=args.epsilon,
        target_delta=args.delta,
        max_grad_norm=args.dp_max_grad_norm,
        **{name: getattr(args, name) for name in same},
    )


def training_arguments(args: argparse.Namespace, accelerator: "Accelerator") -> TrainingArguments:
    """What the clients train with, on the devices and in the precision of the launcher.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
    """
    return TrainingArguments(
        output_dir=str(rounds_folder(args)),
        per_device_train_batch_size=args.per_device_batch_size,
        per_device_eval_batch_size=args.eval_batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        optim={"sgd": "sgd", "adamw": "adamw_torch"}[args.optimizer],
        learning_rate=args.lr,
        lr_scheduler_type=args.lr_scheduler,
        warmup_steps=args.warmup,
        weight_decay=args.weight_decay,
        max_grad_norm=args.max_grad_norm,
        save_total_limit=args.keep_checkpoints,
        seed=args.seed,
        bf16=accelerator.mixed_precision == "bf16",
        fp16=accelerator.mixed_precision == "fp16",
        use_cpu=accelerator.device.type == "cpu",
        accelerator_config={"use_configured_state": True},  # else it would reset the state of the launcher
        report_to="none",
    )


def add_adapter(args: argparse.Namespace, task: Task) -> PeftModel:
    """The base model with a new LoRA adapter.

    Args:
        args (`argparse.Namespace`): of the script.
        task ([`Task`]): tells the model and its usual layers.
    """
    model = task.model
    if args.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=args.gradient_checkpointing)
    elif args.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    targets = args.target_modules or task.target_modules
    config = LoraConfig(
        r=args.r,
        lora_alpha=args.alpha,
        lora_dropout=args.dropout,
        use_rslora=args.rslora,
        target_modules="all-linear" if targets == ["all-linear"] else targets and list(targets),
        task_type=task.task_type,
        # PEFT knows the head of a task type; another is saved only if it changes
        modules_to_save=list(task.head) if args.train_head and task.head else None,
    )
    return get_peft_model(model, config)


def make_trainer(
    args: argparse.Namespace,
    accelerator: "Accelerator",
    config: FedSVDConfig,
    task: Task,
    callbacks: Sequence[FederatedCallback],
) -> FederatedLoraTrainer:
    """The trainer of a run.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
        config (`FedSVDConfig`): from [`federated_config`].
        task ([`Task`]): model and data.
        callbacks (`Sequence[FederatedCallback]`): what looks on.
    """
    return FederatedLoraTrainer(
        add_adapter(args, task),
        training_arguments(args, accelerator),
        task.clients,
        task.collate,
        config,
        task.compute_metrics,
        eval_dataset=next(iter(task.tests.values()), None),
        client_eval_datasets=task.held_out or None,
        processing_class=task.tokenizer,
        callbacks=callbacks,
    )
