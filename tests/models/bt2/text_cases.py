# SPDX-License-Identifier: Apache-2.0
"""Tiny sentence encoders, an upgrade between two of them, and texts to search."""

from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from eigenhub.models.bt2.text_module import BasisTransformation
from eigenhub.models.bt2.text_pairs import TextPairs
from tests.support.data import TEXTS
from tests.support.models import tiny_bert, tiny_tokenizer


PROMPTS = {"query": "the ", "document": "a "}


def tiny_encoder(folder: Path, width: int = 16, seed: int = 0, normalize: bool = True) -> SentenceTransformer:
    """A random encoder with mean pooling, its own prompts and unit output."""
    place = folder / f"bert-{width}-{seed}"
    tiny_bert(seed, hidden_size=width).bert.save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    modules = [Transformer(str(place)), Pooling(width, "mean"), *([Normalize()] if normalize else [])]
    return SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS)


def with_head(
    encoder: SentenceTransformer, old_dim: int = 12, added_dim: int = 4, **options: object
) -> SentenceTransformer:
    """The encoder with a random head behind it."""
    module = BasisTransformation(encoder.get_embedding_dimension(), old_dim, added_dim=added_dim, **options)
    modules = [*encoder.children(), module]
    return SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS).eval()


def sentences(count: int = 40, seed: int = 0) -> list[str]:
    """Different sentences of words that the tiny tokenizer knows."""
    rng = np.random.default_rng(seed)
    words = sorted({word for text in TEXTS for word in text.split()})
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(words, rng.integers(4, 9)))] = None
    return list(found)


def pairs(count: int = 60, seed: int = 0) -> TextPairs:
    """Each document answers the query that shares its first words."""
    documents = sentences(count, seed)
    return TextPairs([" ".join(text.split()[:3]) for text in documents], documents)
