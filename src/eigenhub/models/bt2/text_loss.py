# SPDX-License-Identifier: Apache-2.0
"""The loss with which a sentence encoder learns to search the vectors of an old one."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.models.bt2.text_base import SentenceTransformer
from eigenhub.models.bt2.text_module import basis_transformation
from eigenhub.nn import contrastive_influence_loss, new_teacher_loss, old_match_loss


class BackwardCompatibleLoss(nn.Module):
    r"""
    Keeps the first coordinates of an embedding comparable with old vectors, beside a loss of your own.

    $$L = L_{base}(z) + \lambda_2\, \mathrm{CE}(t\, \hat b(q_i) \cdot o(d_j),\ i) + \lambda_3\, \mathrm{mean}(1 - \hat b \cdot o)$$

    $z$ is the whole embedding, $\hat b$ its normalised compatible part, $o$ the old vector of the same text. The second
    term, which needs two columns, is the decisive one: queries have to find their document among *old* document vectors.

    Args:
        model (`SentenceTransformer`): with a [`BasisTransformation`][eigenhub.models.bt2.BasisTransformation] at its end.
        base_loss (`nn.Module`, *optional*): any loss of sentence-transformers that needs no labels, such as
            `MultipleNegativesRankingLoss(model)`.
        l2 (`float`, *optional*, defaults to 1): weight of the influence term.
        l3 (`float`, *optional*, defaults to 5): weight of the match with old vectors.
        temperature (`float`, *optional*, defaults to 20): $t$.
        l1 (`float`, *optional*, defaults to 1): weight of the match with vectors of the independent new encoder, where
            the labels hold them.

    Inputs:
        One or more columns of text, the first one the queries, the second one their documents, further ones negatives. A
        column `label` with the old vectors of shape `[rows, columns, old_dim]`; with `old_dim + new_dim` numbers, the
        vector of the independent new encoder follows, for an encoder that is trained itself.

    Example:

    ```python
    >>> from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss  # doctest: +SKIP
    >>> loss = BackwardCompatibleLoss(model, MultipleNegativesRankingLoss(model))  # doctest: +SKIP
    >>> def add_old(batch):  # doctest: +SKIP
    ...     sides = old_model.encode_query(batch["query"]), old_model.encode_document(batch["document"])
    ...     return {"label": np.stack(sides, axis=1)}
    >>> trainer = SentenceTransformerTrainer(model, train_dataset=pairs.map(add_old, batched=True), loss=loss)  # doctest: +SKIP
    ```

    The influence term on documents takes the place of the class prototypes of the paper, 2211.03989.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        base_loss: nn.Module | None = None,
        l2: float = 1.0,
        l3: float = 5.0,
        temperature: float = 20.0,
        l1: float = 1.0,
    ) -> None:
        super().__init__()
        module = basis_transformation(model)
        for name, value in (("l1", l1), ("l2", l2), ("l3", l3)):
            if value < 0:
                raise ValueError(f"`{name}` must not be negative, got {value}")
        self.model, self.base_loss = model, base_loss
        self.l1, self.l2, self.l3, self.temperature = l1, l2, l3, temperature
        self._old_dim, self._new_dim = module.old_dim, module.new_dim

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        terms = self.terms(sentence_features, labels)
        weights = {"base": 1.0, "new_teacher": self.l1, "influence": self.l2, "old_match": self.l3}
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def terms(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None) -> dict[str, Tensor]:
        """
        The terms by name, without their weights.

        Args:
            sentence_features (`Iterable[dict[str, Tensor]]`): tokenised columns.
            labels (`Tensor` of shape `(rows, columns, old_dim)`): old vectors, see above.
        """
        columns = list(sentence_features)
        old, teacher = self._teachers(labels, len(columns))
        # Into copies: a base loss that runs the model itself must find the features as they came.
        outputs = [self.model(dict(column)) for column in columns]
        compat = [output["compat_embedding"] for output in outputs]
        terms = {"old_match": torch.stack([old_match_loss(b, o) for b, o in zip(compat, old, strict=True)]).mean()}
        if len(columns) > 1:
            documents = torch.cat(old[1:])
            terms["influence"] = contrastive_influence_loss(compat[0], documents, self.temperature)
        if teacher:
            pairs = zip((output["new_embedding"] for output in outputs), teacher, strict=True)
            terms["new_teacher"] = torch.stack([new_teacher_loss(f, v) for f, v in pairs]).mean()
        if self.base_loss is not None:
            terms["base"] = _value(self.base_loss, columns, [output["sentence_embedding"] for output in outputs])
        return terms

    def _teachers(self, labels: Tensor | None, columns: int) -> tuple[list[Tensor], list[Tensor]]:
        """Old vectors, and those of the new encoder if there are any, column by column."""
        widths = (self._old_dim, self._old_dim + self._new_dim)
        if labels is not None and labels.ndim == 2 and columns == 1:
            labels = labels[:, None]
        if labels is None or labels.ndim != 3 or labels.shape[1] != columns or labels.shape[2] not in widths:
            given = None if labels is None else tuple(labels.shape)
            raise ValueError(
                f"`labels` must hold the old vectors in a column `label` of shape (rows, {columns}, {widths[0]}), with "
                f"those of the new encoder behind them (rows, {columns}, {widths[1]}); got {given}"
            )
        old, teacher = labels[..., : widths[0]], labels[..., widths[0] :]
        return list(old.unbind(1)), list(teacher.unbind(1)) if teacher.shape[2] else []

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        base = type(self.base_loss).__name__ if self.base_loss is not None else None
        return {"base_loss": base, "l1": self.l1, "l2": self.l2, "l3": self.l3, "temperature": self.temperature}

    @property
    def citation(self) -> str:
        """The paper, for the model card."""
        return """
@inproceedings{zhou2023bt2,
    title = "BT\\textasciicircum 2: Backward-compatible Training with Basis Transformation",
    author = "Zhou, Yifei and Li, Zilu and Shrivastava, Abhinav and Zhao, Hengshuang and Torralba, Antonio and Tian, Taipeng and Lim, Ser-Nam",
    booktitle = "Proceedings of the IEEE/CVF International Conference on Computer Vision",
    year = "2023",
    url = "https://arxiv.org/abs/2211.03989",
}
"""


def _value(loss: nn.Module, columns: list[dict[str, Tensor]], embeddings: list[Tensor]) -> Tensor:
    """A loss of sentence-transformers, on embeddings that are there already if it can take them."""
    from_embeddings = getattr(loss, "compute_loss_from_embeddings", None)
    value = from_embeddings(embeddings, None) if from_embeddings else loss(columns, None)
    return torch.stack(list(value.values())).sum() if isinstance(value, dict) else value
