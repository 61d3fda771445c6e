# SPDX-License-Identifier: Apache-2.0
"""From the options of `train_send.py` to the objects of the package: settings, arguments, adapter, trainer."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from peft import LoraConfig, get_peft_model
from send_callbacks import CheckpointManifests, StepLog
from send_checks import checkpoints_folder
from send_evaluation import Evaluations, PromptScores
from send_options import SEND_FIELDS
from send_tasks import Task
from torch import nn
from transformers import DataCollatorForSeq2Seq, PrinterCallback, ProgressCallback, TrainingArguments

from eigenhub.metrics import decoder_blocks
from eigenhub.training.checkpoint_files import check_settings, read_manifest
from eigenhub.training.options import fixed_settings
from eigenhub.training.send import SenDConfig, SenDTrainer


if TYPE_CHECKING:
    from accelerate import Accelerator


def send_config(args: argparse.Namespace) -> SenDConfig:
    """The protocol.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    same = {name: getattr(args, name) for name in SEND_FIELDS}
    strategy = "epoch" if args.track_steps is None else "steps"
    return SenDConfig(
        mode=args.arm, track_strategy=strategy, track_fraction=args.track_fraction, seed=args.seed, **same
    )


def training_arguments(args: argparse.Namespace, accelerator: "Accelerator") -> TrainingArguments:
    """What the trainer does, on the devices and in the precision of the launcher.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
    """
    return TrainingArguments(
        output_dir=str(checkpoints_folder(args)),
        per_device_train_batch_size=args.per_device_batch_size,
        per_device_eval_batch_size=args.eval_batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        num_train_epochs=args.epochs,
        max_steps=args.max_steps or -1,
        learning_rate=args.lr,
        lr_scheduler_type=args.lr_scheduler,
        warmup_steps=args.warmup,
        weight_decay=args.weight_decay,
        max_grad_norm=args.max_grad_norm,
        logging_steps=args.logging_steps,
        logging_nan_inf_filter=False,  # a loss that is not finite must be seen
        save_strategy="steps" if args.checkpoint_every else "no",
        save_steps=args.checkpoint_every or 500,
        save_total_limit=None,  # old ones go when the new one is complete, see `CheckpointManifests`
        seed=args.seed,
        data_seed=args.seed,
        bf16=accelerator.mixed_precision == "bf16",
        fp16=accelerator.mixed_precision == "fp16",
        use_cpu=accelerator.device.type == "cpu",
        activation_checkpointing=args.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if args.gradient_checkpointing else None,
        accelerator_config={"use_configured_state": True},  # else it would reset the state of the launcher
        report_to="none",  # the script's own accelerator has the trackers
    )


def prepare_model(args: argparse.Namespace, task: Task) -> nn.Module:
    """The model with its lower blocks frozen, and with an adapter if asked for.

    Args:
        args (`argparse.Namespace`): of the script.
        task ([`Task`]): tells the model.
    """
    model: nn.Module = task.model
    blocks = decoder_blocks(model, args.blocks)
    if args.freeze_layers >= len(blocks):
        raise ValueError(
            f"--freeze_layers must be below {len(blocks)}, the blocks of the model, got {args.freeze_layers}"
        )
    if args.tuning == "lora":
        targets = args.target_modules or ["all-linear"]
        config = LoraConfig(
            r=args.r,
            lora_alpha=args.alpha,
            lora_dropout=args.lora_dropout,
            target_modules="all-linear" if targets == ["all-linear"] else targets,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(task.model, config)
    for block in blocks[: args.freeze_layers]:
        block.requires_grad_(False)
    return model


def make_trainer(args: argparse.Namespace, accelerator: "Accelerator", task: Task) -> tuple[SenDTrainer, Evaluations]:
    """The trainer of a run, and what will have been evaluated.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
        task ([`Task`]): model and data.
    """
    settings = {**fixed_settings(args), "num_processes": accelerator.num_processes}
    if args.resume:
        manifest = read_manifest(Path(args.resume))
        check_settings(Path(args.resume), (manifest or {}).get("settings", {}), settings)
    config = send_config(args)
    model = prepare_model(args, task)
    tracks = config.mode in ("send", "off")
    scores = PromptScores(args, model, task) if args.score_prompts else None
    trainer = SenDTrainer(
        model=model,
        args=training_arguments(args, accelerator),
        train_dataset=task.train,
        data_collator=DataCollatorForSeq2Seq(task.tokenizer, padding=True, label_pad_token_id=-100),
        processing_class=task.tokenizer,
        send_config=config,
        track_dataset=task.track if tracks else None,
        score_function=scores.mean if scores is not None and config.stop_score is not None else None,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    evaluations = Evaluations(args, accelerator, trainer, task, scores)
    # behind the trainer's own: an evaluation sees the step's average
    manifests = CheckpointManifests(accelerator, settings, evaluations, args.keep_checkpoints)
    for added in (evaluations, StepLog(args, accelerator), manifests):
        trainer.add_callback(added)
    return trainer, evaluations
