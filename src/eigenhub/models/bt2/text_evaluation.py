# SPDX-License-Identifier: Apache-2.0
"""From texts and encoders to a [`MigrationReport`]."""

from dataclasses import replace

from eigenhub.models.bt2.baselines import BT2, PATHS, UpgradePath, fit_paths
from eigenhub.models.bt2.comparison import compare_paths
from eigenhub.models.bt2.head_fitting import HeadRecipe
from eigenhub.models.bt2.index_identity import IdentityError
from eigenhub.models.bt2.migration import MAIN, EncodedTexts, MigrationReport, migration_report
from eigenhub.models.bt2.text_base import SentenceTransformer
from eigenhub.models.bt2.text_identity import identity_of
from eigenhub.models.bt2.text_pairs import TextPairs
from eigenhub.models.bt2.text_upgrade import encode_texts, teacher_vectors


def evaluate_upgrade(
    texts: TextPairs,
    old_model: SentenceTransformer,
    new_model: SentenceTransformer,
    model: SentenceTransformer | None = None,
    fit_texts: TextPairs | None = None,
    *,
    baselines: bool = False,
    num_vectors: int = 1_000_000,
    price_per_hour: float | None = None,
    added_dim: int = 32,
    batch_size: int = 32,
    seed: int = 0,
) -> MigrationReport:
    """
    Measure an upgrade, and the other ways of upgrading if they are wanted, on held-out texts.

    Args:
        texts (`TextPairs`): held-out queries with their documents.
        old_model (`SentenceTransformer`): the encoder behind the index.
        new_model (`SentenceTransformer`): the better encoder.
        model (`SentenceTransformer`, *optional*): the backward-compatible encoder; without it a head is fitted now.
        fit_texts (`TextPairs`, *optional*): what to fit the head and the baselines on.
        baselines (`bool`, *optional*, defaults to `False`): whether to measure all ways of
            [`PATHS`][eigenhub.models.bt2.baselines.PATHS] too.
        num_vectors (`int`, *optional*, defaults to 1000000): items of the index.
        price_per_hour (`float`, *optional*): of the machine that embeds.
        added_dim (`int`, *optional*, defaults to 32): of a head that is fitted now.
        batch_size (`int`, *optional*, defaults to 32): texts encoded at a time.
        seed (`int`, *optional*, defaults to 0): of everything random.
    """
    relevance = texts.relevance()
    if fit_texts is None and (model is None or baselines):
        raise ValueError("`fit_texts` are needed to fit the head or the baselines on")
    if model is not None:
        _check_fitted_to(model, old_model)
    old, new = (encode_texts(encoder, texts, batch_size) for encoder in (old_model, new_model))
    recipe = HeadRecipe(added_dim=added_dim, seed=seed)
    paths: dict[str, UpgradePath] = {}
    if fit_texts is not None and (model is None or baselines):
        names = tuple(PATHS) if baselines else (BT2,)
        sides = (encode_texts(encoder, fit_texts, batch_size) for encoder in (new_model, old_model))
        paths = fit_paths(teacher_vectors(*sides), recipe, names)
    if model is None:
        queries, _, documents = paths[BT2].gallery(teacher_vectors(new, old))
        compatible = replace(new, queries=queries, documents=documents)
    else:
        compatible = encode_texts(model, texts, batch_size)
    encoded = [rows for side in (old, new, compatible) for rows in (side.queries, side.documents)]
    return migration_report(
        EncodedTexts(*encoded),  # type: ignore[arg-type]  # the texts have documents
        relevance,
        num_vectors=num_vectors,
        documents_per_second=compatible.documents_per_second,
        price_per_hour=price_per_hour,
        paths=tuple(compare_paths(paths, teacher_vectors(new, old), relevance, MAIN)) if baselines else (),
        seed=seed,
    )


def _check_fitted_to(model: SentenceTransformer, old_model: SentenceTransformer) -> None:
    """Raise where the model says that it was fitted to another old encoder; one may lie in another folder by now."""
    fitted, old = identity_of(model).compatible_with, identity_of(old_model)
    if fitted is not None and (fitted.revision, fitted.dim) != (old.revision, old.dim):
        raise IdentityError(f"`model` was fitted to {fitted.name}, not to {old.name}")
