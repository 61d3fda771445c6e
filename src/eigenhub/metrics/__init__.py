# SPDX-License-Identifier: Apache-2.0
"""Scores of what a model gives out; none needs a Hugging Face library to be imported.

[`eigenscore`] takes embeddings, [`EigenScore`] collects them over a data set, [`HallucinationScorer`] takes a model and
prompts (arXiv 2402.03744). [`ees`] is the approximation of arXiv 2410.15460. [`auroc`] and [`prediction_rejection_ratio`]
judge scores.
"""

from eigenhub.metrics.decoder_blocks import decoder_blocks
from eigenhub.metrics.detection import auroc, prediction_rejection_ratio
from eigenhub.metrics.ees import ees
from eigenhub.metrics.eigenscore import eigenscore
from eigenhub.metrics.eigenscore_metric import EigenScore
from eigenhub.metrics.embeddings import sentence_embedding
from eigenhub.metrics.feature_clipper import FeatureClipper
from eigenhub.metrics.hallucination_score import HallucinationScore, abstain_above, best_of_k
from eigenhub.metrics.hallucination_scorer import HallucinationScorer
from eigenhub.metrics.polygraph import polygraph_estimator


__all__ = [
    "EigenScore",
    "FeatureClipper",
    "HallucinationScore",
    "HallucinationScorer",
    "abstain_above",
    "auroc",
    "best_of_k",
    "decoder_blocks",
    "ees",
    "eigenscore",
    "polygraph_estimator",
    "prediction_rejection_ratio",
    "sentence_embedding",
]
