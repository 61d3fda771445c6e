# SPDX-License-Identifier: Apache-2.0
"""The embedded task: clients with upright digits, a model that has seen other digits, turned by a quarter.

Of scikit-learn's 1,797 digits the first 600 are for pretraining, 900 belong to the clients and 297 are for the test. The
three sets are disjoint: a base model that had seen the clients' own digits would make their privacy claim untrue.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets
from fedsvd_clients import deal, hold_out
from fedsvd_tasks import Task, accuracy, first_rows
from torch import Tensor
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.digits import as_rows, load_digits
from eigenhub.embedded.pretrain import endless_rows, fit
from eigenhub.embedded.vit import small_vit_config
from eigenhub.training.options import EMBEDDED


NUM_PRETRAINING, NUM_CLIENT_ROWS = 600, 900
TARGET_MODULES = ("q_proj", "v_proj")


def load_digits_task(args: argparse.Namespace) -> Task:
    """Base model, clients and test of the digits.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    folder = turned_vit_folder() if args.model == EMBEDDED else args.model
    model = AutoModelForImageClassification.from_pretrained(folder, dtype=args.dtype)
    clients, held_out = hold_out(args, deal(args, federated_digits("clients"), "labels"))
    test = first_rows(federated_digits("test"), args.eval_samples)
    return Task(
        model=model,
        task_type=None,
        target_modules=TARGET_MODULES,
        clients={name: as_rows(rows) for name, rows in clients.items()},
        held_out={name: as_rows(rows) for name, rows in held_out.items()},
        tests={"test": as_rows(test)},
        hub_task="image-classification",
        dataset="sklearn/digits",
        compute_metrics=accuracy,
        head=("classifier",),
    )


def federated_digits(part: str, quarter_turns: int = 0) -> Dataset:
    """One of three disjoint sets of digits.

    Args:
        part (`str`): `"pretraining"`, `"clients"` or `"test"`.
        quarter_turns (`int`, *optional*, defaults to 0): turns by 90 degrees.
    """
    splits = load_digits(quarter_turns)
    rows = concatenate_datasets([splits["train"], splits["test"]])
    first, last = NUM_PRETRAINING, NUM_PRETRAINING + NUM_CLIENT_ROWS
    return rows.select({"pretraining": range(first), "clients": range(first, last)}.get(part, range(last, len(rows))))


def federated_vit_config() -> ViTConfig:
    """Three layers of width 64 on 16 patches of 2 x 2 pixels."""
    config = small_vit_config()
    config.num_hidden_layers = 3
    return config


def turned_vit_folder(num_steps: int = 600, batch_size: int = 64, lr: float = 2e-3, seed: int = 0) -> Path:
    """Folder of a ViT pretrained on the 600 digits, turned; trained now if it is not in the cache.

    Args:
        num_steps (`int`, *optional*, defaults to 600): optimizer steps.
        batch_size (`int`, *optional*, defaults to 64): digits per step.
        lr (`float`, *optional*, defaults to 2e-3): peak learning rate of AdamW.
        seed (`int`, *optional*, defaults to 0): of the weights and of the order of the digits.
    """
    recipe = {
        "data": f"sklearn-digits, first {NUM_PRETRAINING}, turned by 90 degrees",
        "num_steps": num_steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "config": federated_vit_config().to_diff_dict(),
    }

    def build(folder: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ViTForImageClassification(federated_vit_config())
            fit(model, _turned_batches(batch_size, seed), num_steps, lr, "pretraining the embedded ViT")
        model.save_pretrained(folder)

    return cached_folder("vit-digits-federated", recipe, build)


def _turned_batches(batch_size: int, seed: int) -> Iterator[dict[str, Tensor]]:
    columns = federated_digits("pretraining", quarter_turns=1)[:]
    for rows in endless_rows(len(columns["labels"]), batch_size, seed):
        yield {name: column[rows] for name, column in columns.items()}
