# SPDX-License-Identifier: Apache-2.0
"""From the arguments of `train_lra.py` to a model and its parameter groups."""

import argparse
from importlib import import_module
from typing import Any

from lra_options import S4D_ONLY, S5_ONLY, S5_OPTIMIZER, SHARED, TASKS, given
from lra_tasks import TaskData
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel


PACKAGES = {"s5": ("eigenhub.models.s5_ptd", "S5"), "s4d": ("eigenhub.models.s4d", "S4D")}
HEADS = {
    "sequence": "ForSequenceClassification",
    "pair": "ForSequencePairClassification",
    "image": "ForImageClassification",
    "audio": "ForAudioClassification",
    "series": "ForTimeSeriesRegression",
}


def build_model(args: argparse.Namespace, data: TaskData) -> PreTrainedModel:
    """A new model for the task, in float32."""
    package, prefix = PACKAGES[args.model]
    module = import_module(package)
    config = getattr(module, f"{prefix}Config")(**model_settings(args), **data.inputs, **_labels(data))
    return getattr(module, f"{prefix}{HEADS[TASKS[args.task].head]}")(config)


def model_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the arguments say about the architecture."""
    own = given(args, (*SHARED, *(S5_ONLY if args.model == "s5" else S4D_ONLY)))
    return own | ({"ssm_lr": args.ssm_lr} if args.model == "s4d" else {})


def _labels(data: TaskData) -> dict[str, Any]:
    if not data.label_names:
        return {"num_labels": 1}
    return {
        "id2label": dict(enumerate(data.label_names)),
        "label2id": {name: number for number, name in enumerate(data.label_names)},
    }


def build_optimizer(model: PreTrainedModel, args: argparse.Namespace) -> Optimizer:
    """AdamW with the groups of the family; at `--ssm_lr 0` the state space parameters are frozen instead."""
    package, prefix = PACKAGES[args.model]
    groups = getattr(import_module(package), f"{prefix.lower()}_param_groups")
    options = given(args, S5_OPTIMIZER) if args.model == "s5" else {}
    found = groups(model, lr=args.lr, ssm_lr=args.ssm_lr, weight_decay=args.weight_decay, **options)
    if args.ssm_lr == 0:
        for parameter in (p for group in found if group["lr"] == 0 for p in group["params"]):
            parameter.requires_grad_(False)
        found = [group for group in found if group["lr"] > 0]
    return AdamW(found, lr=args.lr)


def group_summary(optimizer: Optimizer) -> str:
    """How many tensors and numbers learn at which rate, in a line."""
    parts = []
    for group in optimizer.param_groups:
        numbers = sum(parameter.numel() for parameter in group["params"])
        where = f"lr {group['lr']:g}, decay {group['weight_decay']:g}"
        parts.append(f"{group['name']}: {len(group['params'])} tensors, {numbers:,} numbers, {where}")
    return "; ".join(parts)
