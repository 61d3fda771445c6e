# SPDX-License-Identifier: Apache-2.0
"""A head between two frozen encoders, fitted on their vectors in seconds."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenhub.models.bt2.vector_training import Batch, TeacherVectors, all_rows, contrastive, train_on_vectors
from eigenhub.nn import BasisTransformationHead, BasisTransformationOutput, compat_losses, weighted_sum


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadRecipe:
    """
    How a head is fitted.

    Args:
        added_dim (`int`, *optional*, defaults to 32): coordinates beyond those of the new encoder; 0 gives the orthogonal
            Procrustes map, in closed form.
        scale (`float`, *optional*, defaults to 2.0): weight of the new encoder's space.
        added (`str`, *optional*, defaults to `"linear"`): `"linear"` folds into one matrix; `"normalized"` is that of the
            paper and a little better.
        epochs (`int`, *optional*, defaults to 10): passes over the pairs.
        batch_size (`int`, *optional*, defaults to 256): pairs per step.
        lr (`float`, *optional*, defaults to 1e-3): peak learning rate of Adam, with a cosine to zero.
        ranking (`float`, *optional*, defaults to 1.0): weight of the contrastive loss between whole vectors.
        influence (`float`, *optional*, defaults to 1.0): weight of the contrastive loss against old documents.
        old_match (`float`, *optional*, defaults to 5.0): weight of the cosine distance to the old vector of each text.
        temperature (`float`, *optional*, defaults to 20.0): factor of the cosines in both contrastive losses.
        seed (`int`, *optional*, defaults to 0): of the order of the pairs and of the added part.
    """

    added_dim: int = 32
    scale: float = 2.0
    added: str = "linear"
    epochs: int = 10
    batch_size: int = 256
    lr: float = 1e-3
    ranking: float = 1.0
    influence: float = 1.0
    old_match: float = 5.0
    temperature: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"`lr` must be positive, got {self.lr}")


def fit_head(
    vectors: TeacherVectors, recipe: HeadRecipe | None = None, progress: bool = False
) -> BasisTransformationHead:
    r"""
    Fit a [`BasisTransformationHead`] on vectors of two frozen encoders.

    Both changes of basis start at the orthogonal Procrustes map. With pairs $(q_i, d_i)$ the head is then trained on

    $$\mathrm{CE}(t\, z(q_i) \cdot z(d_j), i) + \lambda_2\, \mathrm{CE}(t\, \hat b(q_i) \cdot o(d_j), i)
    + \lambda_3\, \mathrm{mean}(1 - \hat b \cdot o)$$

    and without pairs on the last term alone, which is weaker. About a thousand texts are needed.

    Args:
        vectors (`TeacherVectors`): the vectors.
        recipe (`HeadRecipe`, *optional*, defaults to `HeadRecipe()`): how to fit.
        progress (`bool`, *optional*, defaults to `False`): whether to show a bar.

    Returns:
        `BasisTransformationHead` without a projection of its own, in evaluation mode.

    Example:

    ```python
    >>> import numpy as np
    >>> from eigenhub.models.bt2 import HeadRecipe, TeacherVectors, fit_head
    >>> rng = np.random.default_rng(0)
    >>> new = rng.normal(size=(64, 8))
    >>> head = fit_head(TeacherVectors(new, new[:, :6]), HeadRecipe(added_dim=2, epochs=1))
    >>> head.embedding_dim
    10
    ```
    """
    recipe = recipe or HeadRecipe()
    new, old = all_rows(vectors.tensors())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        sizes = new.shape[1], new.shape[1], old.shape[1]
        head = BasisTransformationHead(*sizes, recipe.added_dim, recipe.scale, added=recipe.added, new_proj=False)
    head.procrustes_init_(new, old)
    if recipe.added_dim:
        if not vectors.has_pairs:
            logger.warning("without pairs the head only follows the old vectors; queries with answers make it better")
        train_on_vectors(
            head.parameters(),
            vectors,
            lambda batch: _loss(head, batch, recipe),
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            lr=recipe.lr,
            seed=recipe.seed,
            progress=progress,
            description="fitting the head",
        )
    return head.eval().requires_grad_(False)


def _loss(head: BasisTransformationHead, batch: Batch, recipe: HeadRecipe) -> Tensor:
    new, old = all_rows(batch)
    output = head(new)
    terms = compat_losses(output, old=old)
    if "new_documents" in batch:
        count = len(batch["new_queries"])
        queries = BasisTransformationOutput(*(part[:count] for part in output))
        terms |= compat_losses(queries, documents=batch["old_documents"], temperature=recipe.temperature)
        terms["ranking"] = contrastive(queries.embedding, output.embedding[count:], recipe.temperature)
    weights = {"ranking": recipe.ranking, "influence": recipe.influence, "old_match": recipe.old_match}
    return weighted_sum(terms, weights)
