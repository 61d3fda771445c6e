# SPDX-License-Identifier: Apache-2.0
"""Docstrings by two text encoders, and a head between them that is fitted on other docstrings."""

from functools import lru_cache

import numpy as np
from embedded_text import encoder_folder, text_splits
from material import Material, Vectors, through
from names import EMBEDDED_NEW, EMBEDDED_OLD, TEXT_METRIC
from sentence_transformers import SentenceTransformer

from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.models.bt2 import (
    EncoderIdentity,
    HeadRecipe,
    TextPairs,
    fit_head,
    identity_of,
    load_sentence_transformer,
)
from eigenhub.models.bt2.text_upgrade import encode_texts, teacher_vectors


EMBEDDED = {EMBEDDED_OLD: "old", EMBEDDED_NEW: "new"}
#: Rows for encoders that a visitor names: a transformer on a CPU takes its time.
NAMED_FIT, NAMED_HELD_OUT = 600, 300
ADDED_DIM = 32


@lru_cache(maxsize=2)
def text_material(old_name: str, new_name: str) -> Material:
    """
    The upgrade between two text encoders; the two most recent ones stay in memory.

    Args:
        old_name (`str`): an embedded name, a Hub id or a folder.
        new_name (`str`): the better encoder.
    """
    fit_pairs, held_out = text_splits()
    if not {old_name, new_name} <= set(EMBEDDED):
        fit_pairs, held_out = _some(fit_pairs, NAMED_FIT), _some(held_out, NAMED_HELD_OUT)
    old, new = _encoder(old_name), _encoder(new_name)
    with shown_to_visitor(f"{new_name} cannot follow {old_name}"):
        teachers = teacher_vectors(encode_texts(new, fit_pairs), encode_texts(old, fit_pairs))
        old_dim, new_dim = (int(model.get_embedding_dimension() or 0) for model in (old, new))
        head = fit_head(teachers, HeadRecipe(added_dim=min(old_dim, max(ADDED_DIM, old_dim - new_dim))))
    by_old, by_new = encode_texts(old, held_out), encode_texts(new, held_out)
    old_items, new_items = (np.asarray(side.documents) for side in (by_old, by_new))

    def encode(text: str) -> tuple[Vectors, Vectors]:
        plain, compatible = (model.encode_query([text], normalize_embeddings=True) for model in (old, new))
        return np.asarray(plain), through(head, np.asarray(compatible))

    identity = identity_of(old, model_id=old_name)
    return Material(
        metric=TEXT_METRIC,
        old=identity,
        new=EncoderIdentity(f"{new_name}+bt2", head.embedding_dim, compatible_with=identity),
        old_queries=by_old.queries,
        queries=through(head, by_new.queries),
        old_items=old_items,
        items=through(head, new_items),
        independent=(by_new.queries, new_items),
        relevance=held_out.relevance(),
        contents=held_out.documents or [],
        labels=held_out.documents or [],
        encode=encode,
    )


def sample_queries(count: int = 12) -> list[str]:
    """Held-out queries, evenly spaced: not chosen by what comes out."""
    queries = text_splits()[1].queries[:NAMED_HELD_OUT]
    return [queries[i * len(queries) // count] for i in range(count)]


def right_answer(query: str) -> str | None:
    """The document of a held-out query."""
    _, held_out = text_splits()
    return dict(zip(held_out.queries, held_out.documents or [], strict=True)).get(query)


def _encoder(name: str) -> SentenceTransformer:
    with shown_to_visitor(f"Cannot load the encoder {name!r}"):
        source = str(encoder_folder(EMBEDDED[name])) if name in EMBEDDED else name
        return load_sentence_transformer(source, device="cpu")


def _some(pairs: TextPairs, count: int) -> TextPairs:
    return TextPairs(pairs.queries[:count], (pairs.documents or [])[:count])
