# SPDX-License-Identifier: Apache-2.0
"""Old against old, new against old, new against new, and the way from one to the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eigenhub.files import append_line
from eigenhub.models.bt2.backfill_curves import backfill_curve
from eigenhub.models.bt2.index_vectors import Vectors
from eigenhub.models.bt2.retrieval_metrics import TEXT_METRICS, rank, update_gain
from eigenhub.models.bt2.retrieval_relevance import Relevance
from eigenhub.models.bt2.text_base import BaseEvaluator, SentenceTransformer
from eigenhub.models.bt2.text_module import basis_transformation


CSV_FILE = "backward_compatibility_results.csv"
MAIN_METRIC = "ndcg@10"


class BackwardCompatibilityEvaluator(BaseEvaluator):
    """
    How well an encoder searches the vectors of an old one, its own, and an index that is on its way.

    Args:
        queries (`Mapping[str, str]`): queries by id.
        corpus (`Mapping[str, str]`): documents by id.
        relevant_docs (`Mapping[str, Sequence[str]]`): ids of the documents that answer each query.
        old_model (`SentenceTransformer`): the old encoder; its vectors are computed once.
        new_model (`SentenceTransformer`, *optional*): the independent new encoder, for the update gain; without it the
            gain is measured against the evaluated model itself.
        old_scale (`float`, *optional*, defaults to 1.0): factor of old vectors in the mixed index.
        name (`str`, *optional*, defaults to `""`): put in front of the names of the metrics.
        batch_size (`int`, *optional*, defaults to 32): texts encoded at a time.
        write_csv (`bool`, *optional*, defaults to `True`): whether to add a line to a file when an output path is given.

    Calling it with a model returns `old_old_…`, `new_old_…` and `new_new_…` for recall@1, recall@10, mrr@10 and ndcg@10,
    with `update_gain` (where the new encoder is better), `backfill_auc` and `backfill_dip` (of ndcg@10). The primary
    metric is `new_old_ndcg@10`: what users get on the first day.

    Example:

    ```python
    >>> evaluator = BackwardCompatibilityEvaluator(queries, corpus, relevant_docs, old_model)  # doctest: +SKIP
    >>> evaluator(model)["new_old_ndcg@10"]  # doctest: +SKIP
    ```
    """

    def __init__(
        self,
        queries: Mapping[str, str],
        corpus: Mapping[str, str],
        relevant_docs: Mapping[str, Sequence[str]],
        old_model: SentenceTransformer,
        new_model: SentenceTransformer | None = None,
        old_scale: float = 1.0,
        name: str = "",
        batch_size: int = 32,
        write_csv: bool = True,
    ) -> None:
        super().__init__()
        place = {document: row for row, document in enumerate(corpus)}
        if unknown := {document for query in queries for document in relevant_docs.get(query, ())} - set(place):
            raise ValueError(f"`relevant_docs` must name documents of `corpus`, got {sorted(unknown)[0]!r}")
        if not any(relevant_docs.get(query) for query in queries):
            raise ValueError("`relevant_docs` must name an answer to at least one of the `queries`")
        answers = [[place[document] for document in relevant_docs.get(query, ())] for query in queries]
        self.relevance = Relevance.of_lists(answers, len(corpus))
        self.queries, self.corpus = list(queries.values()), list(corpus.values())
        self.old_model, self.new_model, self.old_scale = old_model, new_model, old_scale
        self.name, self.batch_size, self.write_csv = name, batch_size, write_csv
        self.primary_metric = f"new_old_{MAIN_METRIC}"
        self._cached: dict[str, tuple[Vectors, Vectors]] = {}

    def __call__(  # type: ignore[override]  # sentences only, like its peers in sentence-transformers
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        old_dim = basis_transformation_dim(model, self.old_model)
        old_queries, old = self._teacher("old", self.old_model)
        new_queries, new = self._encode(model)
        sides = {
            "old_old": (old_queries, old),
            "new_old": (new_queries[:, :old_dim], old),
            "new_new": (new_queries, new),
        }
        metrics = {
            f"{side}_{metric}": value
            for side, (queries, gallery) in sides.items()
            for metric, value in rank(queries, gallery, self.relevance).metrics(TEXT_METRICS).items()
        }
        metrics |= self._on_the_way(metrics, new_queries, old, new)
        named = self.prefix_name_to_metrics(metrics, self.name)
        self.store_metrics_in_model_card_data(model, named, epoch, steps)
        if output_path is not None and self.write_csv:
            self._add_line(Path(output_path), {"epoch": epoch, "steps": steps} | metrics)
        return named

    def _on_the_way(
        self, metrics: Mapping[str, float], new_queries: Vectors, old: Vectors, new: Vectors
    ) -> dict[str, float]:
        best = metrics[f"new_new_{MAIN_METRIC}"]
        if self.new_model is not None:
            queries, gallery = self._teacher("new", self.new_model)
            best = rank(queries, gallery, self.relevance).metric(MAIN_METRIC)
        ends = {"old/old": metrics[f"old_old_{MAIN_METRIC}"], "new/old": metrics[f"new_old_{MAIN_METRIC}"]}
        gain = update_gain(ends | {"new/new": best})
        curve = backfill_curve(new_queries, old, new, self.relevance, metric=MAIN_METRIC, old_scale=self.old_scale)
        found = {"backfill_auc": curve.auc, "backfill_dip": curve.dip}
        return found if gain is None else found | {"update_gain": gain}

    def _teacher(self, key: str, model: SentenceTransformer) -> tuple[Vectors, Vectors]:
        if key not in self._cached:
            self._cached[key] = self._encode(model)
        return self._cached[key]

    def _encode(self, model: SentenceTransformer) -> tuple[Vectors, Vectors]:
        options: dict[str, Any] = {"batch_size": self.batch_size, "normalize_embeddings": True}
        queries = model.encode_query(self.queries, **options)
        return np.asarray(queries), np.asarray(model.encode_document(self.corpus, **options))

    def _add_line(self, folder: Path, row: Mapping[str, float]) -> None:
        path = folder / (f"{self.name}_{CSV_FILE}" if self.name else CSV_FILE)
        # an encoder that is not better has no gain: the columns are the same all the same
        columns = [*(name for name in row if name != "update_gain"), "update_gain"]
        if not path.is_file():
            append_line(path, ",".join(columns))
        append_line(path, ",".join(str(row.get(name, "")) for name in columns))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"old_scale": self.old_scale}


def basis_transformation_dim(model: SentenceTransformer, old_model: SentenceTransformer) -> int:
    """Width of the part that compares with the old encoder, which must be that of its vectors."""
    old_dim = int(old_model.get_embedding_dimension() or 0)
    try:
        found = basis_transformation(model).old_dim
    except ValueError:  # an exported model has no module that says so
        found = old_dim
    if found != old_dim or (model.get_embedding_dimension() or 0) < old_dim:
        raise ValueError(
            f"`model` must begin with the {old_dim} coordinates of the old encoder, got {found} of "
            f"{model.get_embedding_dimension()}"
        )
    return old_dim
