# SPDX-License-Identifier: Apache-2.0
"""From two sentence encoders and some texts to one encoder that searches the old one's index."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigenhub.models.bt2.head_fitting import HeadRecipe, fit_head
from eigenhub.models.bt2.index_identity import EncoderIdentity
from eigenhub.models.bt2.index_vectors import Vectors
from eigenhub.models.bt2.text_base import SentenceTransformer, with_modules
from eigenhub.models.bt2.text_identity import identity_of
from eigenhub.models.bt2.text_module import BasisTransformation
from eigenhub.models.bt2.text_pairs import TextPairs
from eigenhub.models.bt2.vector_training import TeacherVectors
from eigenhub.nn import BasisTransformationHead


@dataclass(frozen=True)
class Encoded:
    """
    Vectors of some texts by one encoder, and what they cost.

    Args:
        queries (`NDArray` of shape `(q, d)`): unit vectors.
        documents (`NDArray` of shape `(g, d)`, *optional*): unit vectors.
        documents_per_second (`float`): rate of the documents, or of the queries where there are none.
    """

    queries: Vectors
    documents: Vectors | None
    documents_per_second: float


def encode_texts(
    model: SentenceTransformer, texts: TextPairs, batch_size: int = 32, progress: bool = False
) -> Encoded:
    """
    Unit vectors of texts, each side with the model's own prompt.

    Args:
        model (`SentenceTransformer`): any encoder.
        texts (`TextPairs`): the texts; without documents they are encoded as documents.
        batch_size (`int`, *optional*, defaults to 32): texts at a time.
        progress (`bool`, *optional*, defaults to `False`): whether to show a bar.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": progress, "normalize_embeddings": True}
    queries = None
    if texts.documents is not None:
        queries = np.asarray(model.encode_query(texts.queries, **options), np.float32)
    begin = time.perf_counter()
    documents = np.asarray(model.encode_document(texts.documents or texts.queries, **options), np.float32)
    rate = len(documents) / (time.perf_counter() - begin)
    return Encoded(documents, None, rate) if queries is None else Encoded(queries, documents, rate)


def teacher_vectors(new: Encoded, old: Encoded) -> TeacherVectors:
    """
    What a head is fitted on.

    Args:
        new (`Encoded`): by the new encoder.
        old (`Encoded`): by the old one.
    """
    return TeacherVectors(new.queries, old.queries, new.documents, old.documents)


def attach_head(
    model: SentenceTransformer, head: BasisTransformationHead, old_identity: EncoderIdentity | None = None
) -> SentenceTransformer:
    """
    The new encoder with a fitted head behind it; the other modules are shared with `model`.

    Args:
        model (`SentenceTransformer`): the new encoder.
        head (`BasisTransformationHead`): from [`fit_head`].
        old_identity (`EncoderIdentity`, *optional*): the old encoder, kept with the model.
    """
    modules = OrderedDict(model.named_children())
    modules[str(len(modules))] = BasisTransformation.of_head(head, old_identity).to(model.device)
    upgraded = with_modules(model, modules)
    upgraded.model_card_data.model_id = None  # it is another model now
    return upgraded.eval()


def fit_sentence_transformer(
    new_model: SentenceTransformer,
    old_model: SentenceTransformer,
    queries: Sequence[str],
    documents: Sequence[str] | None = None,
    recipe: HeadRecipe | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> SentenceTransformer:
    """
    A head-only upgrade: both encoders stay frozen, and only vectors of the texts are needed.

    Args:
        new_model (`SentenceTransformer`): the better encoder.
        old_model (`SentenceTransformer`): the encoder behind the index.
        queries (`Sequence[str]`): a thousand texts or more; with documents, their queries.
        documents (`Sequence[str]`, *optional*): document i answers query i. With them the head becomes better.
        recipe (`HeadRecipe`, *optional*, defaults to `HeadRecipe()`): how to fit.
        batch_size (`int`, *optional*, defaults to 32): texts encoded at a time.
        progress (`bool`, *optional*, defaults to `False`): whether to show bars.

    Returns:
        `SentenceTransformer`: `encode(..., truncate_dim=old_dim)` for the old index, `encode(...)` for a new one.

    Example:

    ```python
    >>> model = fit_sentence_transformer(new_model, old_model, questions, answers)  # doctest: +SKIP
    >>> index.search(model.encode_query("how do I pad a batch?"))  # doctest: +SKIP
    ```
    """
    texts = TextPairs(list(queries), None if documents is None else list(documents))
    new, old = (encode_texts(model, texts, batch_size, progress) for model in (new_model, old_model))
    head = fit_head(teacher_vectors(new, old), recipe, progress)
    return attach_head(new_model, head, identity_of(old_model))
