# SPDX-License-Identifier: Apache-2.0
"""Letters and signs by two small networks of this package, and a head between them."""

from functools import lru_cache

import numpy as np
import torch
from material import Material, Vectors, through
from names import IMAGE_METRIC
from pictures import to_pixels
from PIL import Image
from torch import Tensor

from eigenhub.embedded.glyph_models import glyph_embedder_folder
from eigenhub.embedded.glyphs import Glyphs, class_names, draw_glyphs
from eigenhub.models.bt2 import (
    Bt2EmbedderForImageClassification,
    EncoderIdentity,
    HeadRecipe,
    Relevance,
    TeacherVectors,
    fit_head,
)


RECIPE = HeadRecipe(added_dim=16, batch_size=64)


@lru_cache(maxsize=1)
def image_material() -> Material:
    """The upgrade between the two embedded networks, whose test images search each other."""
    old, new = (_network(generation) for generation in ("old", "new"))
    splits = draw_glyphs()
    train, test = splits["train"], splits["test"]
    old_train, new_train = _embed(old, train.images), _embed(new, train.images)
    partner = _next_of_class(train)
    head = fit_head(TeacherVectors(new_train, old_train, new_train[partner], old_train[partner]), RECIPE)
    old_items, new_items = _embed(old, test.images), _embed(new, test.images)
    labels, ids = test.labels.numpy(), np.arange(len(test.labels))
    names = class_names()

    def encode(image: Image.Image) -> tuple[Vectors, Vectors]:
        pixels = to_pixels(image)
        return _embed(old, pixels), through(head, _embed(new, pixels))

    identity = EncoderIdentity("embedded/glyphs-old", old_items.shape[1])
    items = through(head, new_items)
    return Material(
        metric=IMAGE_METRIC,
        old=identity,
        new=EncoderIdentity("embedded/glyphs-new+bt2", head.embedding_dim, compatible_with=identity),
        old_queries=old_items,
        queries=items,
        old_items=old_items,
        items=items,
        independent=(new_items, new_items),
        relevance=Relevance.of_labels(labels, labels, ids, ids),
        contents=list(test.images.numpy()),
        labels=[names[label] for label in labels],
        encode=encode,
    )


def sample_positions(count: int = 12) -> list[int]:
    """Positions of some test images of different classes, evenly spaced."""
    total = len(draw_glyphs()["test"].labels)
    return [i * total // count for i in range(count)]


def _network(generation: str) -> Bt2EmbedderForImageClassification:
    folder = glyph_embedder_folder(generation)  # type: ignore[arg-type]  # one of two words
    return Bt2EmbedderForImageClassification.from_pretrained(folder).eval()


@torch.inference_mode()
def _embed(model: Bt2EmbedderForImageClassification, images: Tensor) -> Vectors:
    return model(pixel_values=images).embedding.numpy()


def _next_of_class(glyphs: Glyphs) -> np.ndarray:
    """Another image of the same class for each image: the pairs that a head is fitted on."""
    partner = np.empty(len(glyphs.labels), np.int64)
    for label in glyphs.labels.unique():
        rows = (glyphs.labels == label).nonzero().flatten().numpy()
        partner[rows] = np.roll(rows, 1)
    return partner
