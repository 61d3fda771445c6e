# SPDX-License-Identifier: Apache-2.0
"""A small Vision Transformer for 8 x 8 digits, pretrained on turned digits in seconds and kept in the cache."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.digits import IMAGE_SIZE, NUM_CLASSES, load_digits
from eigenhub.embedded.pretrain import endless_rows, fit


#: The linear layers that adapters go into: all projections of the encoder, not the classification head.
TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


def small_vit_config() -> ViTConfig:
    """Two layers of width 64 on 16 patches of 2 x 2 pixels: about 69,000 parameters."""
    return ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=IMAGE_SIZE,
        patch_size=2,
        num_channels=1,
        num_labels=NUM_CLASSES,  # type: ignore[call-arg]  # a property of every configuration
    )


def pretrained_vit_folder(
    quarter_turns: int = 1, num_steps: int = 500, batch_size: int = 64, lr: float = 2e-3, seed: int = 0
) -> Path:
    """
    Folder of a [`ViTForImageClassification`] pretrained on turned digits, for `from_pretrained`.

    The first call trains it (some five seconds on one core), later ones find it in the cache.

    Args:
        quarter_turns (`int`, *optional*, defaults to 1): orientation of the digits it is trained on.
        num_steps (`int`, *optional*, defaults to 500): optimizer steps.
        batch_size (`int`, *optional*, defaults to 64): digits per step.
        lr (`float`, *optional*, defaults to 2e-3): peak learning rate of AdamW.
        seed (`int`, *optional*, defaults to 0): seed of the weights and of the order of the digits.

    Example:

    ```python
    >>> from transformers import AutoModelForImageClassification
    >>> from eigenhub.embedded.vit import pretrained_vit_folder

    >>> model = AutoModelForImageClassification.from_pretrained(pretrained_vit_folder())
    ```
    """
    recipe = {
        "data": "sklearn-digits",
        "quarter_turns": quarter_turns,
        "num_steps": num_steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "config": small_vit_config().to_diff_dict(),
    }

    def build(folder: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ViTForImageClassification(small_vit_config())
            fit(model, _batches(quarter_turns, batch_size, seed), num_steps, lr, "pretraining the embedded ViT")
        model.save_pretrained(folder)

    return cached_folder("vit-digits", recipe, build)


def _batches(quarter_turns: int, batch_size: int, seed: int) -> Iterator[dict[str, Tensor]]:
    columns = load_digits(quarter_turns)["train"][:]
    for rows in endless_rows(len(columns["labels"]), batch_size, seed):
        yield {name: column[rows] for name, column in columns.items()}
