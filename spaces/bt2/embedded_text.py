# SPDX-License-Identifier: Apache-2.0
"""An old and a better text encoder that need no download: trained here in seconds on docstrings, kept in the cache."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers.normalizers import Lowercase
from torch import Tensor, nn
from torch.nn import functional as F

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.pretrain import endless_rows, fit
from eigenhub.embedded.tokenizer import train_tokenizer
from eigenhub.models.bt2 import TextPairs, docstring_pairs


BATCH_SIZE = 256
TEMPERATURE = 20.0
INIT_STD = 0.1
PAIRS_FILE = "pairs.json"


@dataclass(frozen=True)
class Recipe:
    """How an embedded encoder, a mean of token vectors, is trained: on every `stride`-th pair."""

    width: int
    stride: int
    num_steps: int
    lr: float
    vocab_size: int = 4000
    seed: int = 0


#: The new encoder is the next version of the old one: it goes on from its token vectors, with more width and more texts.
RECIPES = {"old": Recipe(64, 3, 24, 1e-2), "new": Recipe(96, 1, 120, 5e-3)}


@lru_cache(maxsize=1)
def text_splits() -> tuple[TextPairs, TextPairs]:
    """Pairs to fit on, and every fourth one held out."""

    def build(folder: Path) -> None:
        pairs = docstring_pairs()
        (folder / PAIRS_FILE).write_text(json.dumps(pairs), encoding="utf-8")

    # The pairs are those of the running Python.
    folder = cached_folder("docstring-pairs", {"python": sys.version}, build)
    rows = json.loads((folder / PAIRS_FILE).read_text(encoding="utf-8"))
    splits = ([row for i, row in enumerate(rows) if i % 4], rows[::4])
    fit_pairs, held_out = (TextPairs([row[0] for row in part], [row[1] for row in part]) for part in splits)
    return fit_pairs, held_out


def encoder_folder(generation: str) -> Path:
    """
    Folder of an embedded encoder, trained now if it is not in the cache.

    Args:
        generation (`str`): `"old"` or `"new"`.
    """
    recipe = RECIPES[generation]

    def build(folder: Path) -> None:
        pairs, _ = text_splits()
        queries, documents = (side[:: recipe.stride] for side in (pairs.queries, pairs.documents or []))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            module = (
                _untrained(pairs, recipe) if generation == "old" else _widened(encoder_folder("old"), recipe.width)
            )
            batches = _batches(module, queries, documents, recipe.seed)
            fit(Contrastive(module), batches, recipe.num_steps, recipe.lr, f"training the {generation} encoder")  # type: ignore[arg-type]  # any module with a loss
        SentenceTransformer(modules=[module, Normalize()], device="cpu").save(str(folder), create_model_card=False)

    recipes = {name: asdict(RECIPES[name]) for name in ("old", generation)}
    return cached_folder("bt2-text-encoder", {"python": sys.version, "generation": generation, **recipes}, build)


class Contrastive(nn.Module):
    """The loss of finding each query's document in the batch, and the other way round."""

    def __init__(self, module: StaticEmbedding) -> None:
        super().__init__()
        self.module = module

    def forward(self, queries: dict[str, Tensor], documents: dict[str, Tensor]) -> SimpleNamespace:
        sides = (self.module(side)["sentence_embedding"] for side in (queries, documents))
        left, right = (F.normalize(side, dim=-1) for side in sides)
        scores = TEMPERATURE * left @ right.mT
        right_ones = torch.arange(len(scores))
        return SimpleNamespace(loss=F.cross_entropy(scores, right_ones) + F.cross_entropy(scores.mT, right_ones))


def _untrained(pairs: TextPairs, recipe: Recipe) -> StaticEmbedding:
    texts = (text.lower() for text in [*pairs.queries, *(pairs.documents or [])])
    tokenizer = train_tokenizer(texts, recipe.vocab_size).backend_tokenizer
    tokenizer.normalizer = Lowercase()
    module = StaticEmbedding(tokenizer, embedding_dim=recipe.width)
    nn.init.normal_(module.embedding.weight, std=INIT_STD)
    return module


def _widened(folder: Path, width: int) -> StaticEmbedding:
    """The old encoder with further coordinates, small at first."""
    old = SentenceTransformer(str(folder), device="cpu")[0]
    weight = torch.empty(old.num_embeddings, width).normal_(std=0.3 * INIT_STD)
    weight[:, : old.embedding_dim] = old.embedding.weight.detach()
    return StaticEmbedding(old.tokenizer, embedding_weights=weight)


def _batches(
    module: StaticEmbedding, queries: list[str], documents: list[str], seed: int
) -> Iterator[dict[str, dict[str, Tensor]]]:
    for rows in endless_rows(len(queries), BATCH_SIZE, seed):
        chosen = rows.tolist()
        yield {
            "queries": module.preprocess([queries[row] for row in chosen]),
            "documents": module.preprocess([documents[row] for row in chosen]),
        }
