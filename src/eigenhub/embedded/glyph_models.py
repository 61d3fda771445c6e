# SPDX-License-Identifier: Apache-2.0
"""An old and a better new image embedder for the glyphs, trained in seconds and kept: what an upgrade starts from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import ResNetConfig

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.glyphs import NUM_CLASSES, Glyphs, draw_glyphs
from eigenhub.embedded.pretrain import endless_rows, fit
from eigenhub.models.bt2.configuration_bt2 import Bt2EmbedderConfig
from eigenhub.models.bt2.modeling_bt2_embedder import Bt2EmbedderForImageClassification


Generation = Literal["old", "new"]
#: Classes that each generation has learned: the old one knows half of them, as in the published experiments.
CLASSES: dict[Generation, int] = {"old": NUM_CLASSES // 2, "new": NUM_CLASSES}
EMBEDDING_DIM = 32
EPOCHS = 15
BATCH_SIZE = 64
LR = 3e-3
#: Inner products of unit vectors are too small for a softmax over few steps.
LOGIT_SCALE = 10.0


def glyph_backbone(generation: Generation) -> ResNetConfig:
    """Two residual blocks; the new generation has twice the channels of the old one.

    Args:
        generation (`str`): `"old"` or `"new"`.
    """
    width = {"old": 4, "new": 8}[generation]
    return ResNetConfig(
        num_channels=1,
        embedding_size=width,
        hidden_sizes=[2 * width, 4 * width],
        depths=[1, 1],
        layer_type="basic",
    )


def glyph_embedder_folder(generation: Generation, seed: int = 0, epochs: int = EPOCHS) -> Path:
    """
    Folder of a [`Bt2EmbedderForImageClassification`] trained alone on its share of the classes, for `from_pretrained`.

    The first call trains it (three and seven seconds on one idle core), later ones find it in the cache.

    Args:
        generation (`str`): `"old"` or `"new"`.
        seed (`int`, *optional*, defaults to 0): seed of data, weights and order.
        epochs (`int`, *optional*, defaults to 15): passes over the data.

    Example:

    ```python
    >>> from eigenhub.embedded.glyph_models import glyph_embedder_folder
    >>> from eigenhub.models.bt2 import Bt2EmbedderForImageClassification

    >>> model = Bt2EmbedderForImageClassification.from_pretrained(glyph_embedder_folder("old"))
    ```
    """
    if generation not in CLASSES:
        raise ValueError(f"`generation` must be old or new, got {generation!r}")
    config = Bt2EmbedderConfig(
        backbone_config=glyph_backbone(generation),
        embedding_dim=EMBEDDING_DIM,
        num_labels=CLASSES[generation],  # type: ignore[call-arg]  # a property of every configuration
        logit_scale=LOGIT_SCALE,
        label_smoothing=0.1,
    )
    recipe = {
        "data": "glyphs",
        "generation": generation,
        "seed": seed,
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "lr": LR,
        "config": config.to_diff_dict(),
    }

    def build(folder: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Bt2EmbedderForImageClassification(config)
            glyphs = draw_glyphs(seed=seed)["train"].of_classes(CLASSES[generation])
            steps = epochs * (len(glyphs.ids) // BATCH_SIZE)
            fit(model, _batches(glyphs, seed), steps, LR, f"training the embedded {generation} model")
        model.save_pretrained(folder)

    return cached_folder("glyph-embedder", recipe, build)


def _batches(glyphs: Glyphs, seed: int) -> Iterator[dict[str, Tensor]]:
    for rows in endless_rows(len(glyphs.ids), BATCH_SIZE, seed):
        yield {"pixel_values": glyphs.images[rows], "labels": glyphs.labels[rows]}
