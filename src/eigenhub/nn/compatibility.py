# SPDX-License-Identifier: Apache-2.0
r"""The losses of backward-compatible training, each by itself.

$\hat b$ is the normalised compatible part, $o$ an old vector, $v$ a vector of the new teacher, $y$ a class. All vectors are
normalised here, class prototypes are not.
"""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from eigenhub.nn.basis_head import BasisTransformationOutput


IGNORED = -100


class ClassPrototypes(NamedTuple):
    """Mean old vector of every class.

    Args:
        vectors (`Tensor` of shape `(classes, old_dim)`): means, shorter than one; zero for a class without items.
        present (`Tensor` of shape `(classes,)`): whether the class has items.
    """

    vectors: Tensor
    present: Tensor


def class_prototypes(old: Tensor, labels: Tensor, num_classes: int) -> ClassPrototypes:
    """The mean of the old vectors of each class, not normalised again; warns of classes without items.

    Args:
        old (`Tensor` of shape `(items, old_dim)`): old vectors, normalised here.
        labels (`Tensor` of shape `(items,)`): classes in `[0, num_classes)`.
        num_classes (`int`): number of classes.

    Returns:
        [`ClassPrototypes`], float32.
    """
    if len(old) != len(labels):
        raise ValueError(f"`old` and `labels` must have one row per item, got {len(old)} and {len(labels)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"`labels` must be in [0, {num_classes}), got {int(labels.min())} to {int(labels.max())}")
    counts = torch.bincount(labels, minlength=num_classes)
    sums = torch.zeros(num_classes, old.shape[1], dtype=torch.float64, device=old.device)
    sums.index_add_(0, labels, F.normalize(old.double(), dim=-1))
    present = counts > 0
    if not present.all():
        missing = (~present).nonzero().flatten().tolist()
        warnings.warn(
            f"{len(missing)} of {num_classes} classes have no items and are left out of the influence loss: "
            f"{missing[:10]}",
            stacklevel=2,
        )
    return ClassPrototypes((sums / counts.clamp(min=1)[:, None]).float(), present)


def new_teacher_loss(new: Tensor, teacher: Tensor) -> Tensor:
    r"""$\mathrm{mean}(1 - f \cdot v)$: the new embedding follows the independently trained new model.

    Args:
        new (`Tensor` of shape `(batch, new_dim)`): $f$.
        teacher (`Tensor` of shape `(batch, new_dim)`): $v$.
    """
    return _cosine_distance("teacher", new, teacher)


def old_match_loss(compat: Tensor, old: Tensor) -> Tensor:
    r"""$\mathrm{mean}(1 - \hat b \cdot o)$: the compatible part follows the old model, item by item.

    Args:
        compat (`Tensor` of shape `(batch, old_dim)`): compatible part, of any length.
        old (`Tensor` of shape `(batch, old_dim)`): $o$.
    """
    return _cosine_distance("old", compat, old)


def influence_loss(compat: Tensor, prototypes: Tensor, labels: Tensor, present: Tensor | None = None) -> Tensor:
    r"""$\mathrm{CE}(\hat b A^\top, y)$ on class means $A$ of old vectors, without a temperature (Shen et al., 2003.11942).

    Args:
        compat (`Tensor` of shape `(batch, old_dim)`): compatible part, of any length.
        prototypes (`Tensor` of shape `(classes, old_dim)`): $A$, see [`class_prototypes`].
        labels (`Tensor` of shape `(batch,)`): $y$.
        present (`Tensor` of shape `(classes,)`, *optional*): classes with items; the others get no column, and rows of
            such a class no loss.
    """
    logits = F.normalize(compat, dim=-1) @ prototypes.to(compat.dtype).mT
    if present is None:
        return F.cross_entropy(logits, labels)
    logits = logits.masked_fill(~present, float("-inf"))
    labels = torch.where(present[labels], labels, IGNORED)
    return F.cross_entropy(logits, labels, reduction="sum") / (labels != IGNORED).sum().clamp(min=1)


def contrastive_influence_loss(compat: Tensor, documents: Tensor, temperature: float = 20.0) -> Tensor:
    r"""$\mathrm{CE}(t\,\hat b(q_i) \cdot o(d_j),\ i)$: queries find their old document among those of the batch (no labels).

    Args:
        compat (`Tensor` of shape `(batch, old_dim)`): compatible parts of the queries.
        documents (`Tensor` of shape `(documents, old_dim)`): old document vectors; the first `batch` belong to the
            queries in order, further ones are negatives.
        temperature (`float`, *optional*, defaults to 20.0): $t$, a multiplier.
    """
    if len(documents) < len(compat):
        raise ValueError(f"`documents` must have a row per query, got {len(documents)} for {len(compat)} queries")
    scores = temperature * F.normalize(compat, dim=-1) @ F.normalize(documents.to(compat.dtype), dim=-1).mT
    return F.cross_entropy(scores, torch.arange(len(compat), device=scores.device))


def compat_losses(
    output: BasisTransformationOutput,
    new: Tensor | None = None,
    old: Tensor | None = None,
    labels: Tensor | None = None,
    prototypes: ClassPrototypes | None = None,
    documents: Tensor | None = None,
    temperature: float = 20.0,
) -> dict[str, Tensor]:
    r"""The terms of backward-compatible training that the given arguments allow, by name.

    | name | needs | formula |
    | --- | --- | --- |
    | `new_teacher` | `new` | $\mathrm{mean}(1 - f \cdot v)$ |
    | `influence` | `labels` and `prototypes`, or `documents` | $\mathrm{CE}(\hat b A^\top, y)$, or the contrastive form |
    | `old_match` | `old` | $\mathrm{mean}(1 - \hat b \cdot o)$ |

    Args:
        output ([`BasisTransformationOutput`]): of the head.
        new (`Tensor` of shape `(batch, new_dim)`, *optional*): vectors of the new teacher.
        old (`Tensor` of shape `(batch, old_dim)`, *optional*): vectors of the old model.
        labels (`Tensor` of shape `(batch,)`, *optional*): classes.
        prototypes ([`ClassPrototypes`], *optional*): class means of old vectors.
        documents (`Tensor` of shape `(documents, old_dim)`, *optional*): old document vectors, instead of classes.
        temperature (`float`, *optional*, defaults to 20.0): of the contrastive form.

    Returns:
        `dict[str, Tensor]`: unweighted scalars; the published weights are `PAPER_WEIGHTS`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.nn import BasisTransformationHead, compat_losses
    >>> head = BasisTransformationHead(16, new_dim=16, old_dim=8, added_dim=4, new_proj=False)
    >>> terms = compat_losses(head(torch.randn(6, 16)), new=torch.randn(6, 16), old=torch.randn(6, 8))
    >>> list(terms)
    ['new_teacher', 'old_match']
    ```
    """
    terms = {}
    if new is not None:
        terms["new_teacher"] = new_teacher_loss(output.new, new)
    if documents is not None:
        terms["influence"] = contrastive_influence_loss(output.compat, documents, temperature)
    elif labels is not None and prototypes is not None:
        terms["influence"] = influence_loss(output.compat, prototypes.vectors, labels, prototypes.present)
    if old is not None:
        terms["old_match"] = old_match_loss(output.compat, old)
    return terms


#: Weights of the terms in the published configurations; the classification loss has weight one.
PAPER_WEIGHTS = {"new_teacher": 1.0, "influence": 10.0, "old_match": 5.0}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum of named terms, each times its weight.

    Args:
        terms (`Mapping[str, Tensor]`): scalars, at least one.
        weights (`Mapping[str, float]`): a weight for every one of them.
    """
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def _cosine_distance(name: str, x: Tensor, target: Tensor) -> Tensor:
    if x.shape != target.shape:
        raise ValueError(f"`{name}` must have shape {tuple(x.shape)}, got {tuple(target.shape)}")
    return (1 - (F.normalize(x, dim=-1) * F.normalize(target.to(x.dtype), dim=-1)).sum(-1)).mean()
