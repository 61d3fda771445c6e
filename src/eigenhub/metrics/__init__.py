# SPDX-License-Identifier: Apache-2.0
"""Scores of what a model gives out; none needs a Hugging Face library to be imported.

[`eigenscore`] takes embeddings, [`EigenScore`] collects them over a data set, [`HallucinationScorer`] takes a model and
prompts (arXiv 2402.03744). [`ees`] is the approximation of arXiv 2410.15460. [`auroc`] and [`prediction_rejection_ratio`]
judge scores. [`dci`] and [`perceptual_path_length`] judge directions and latent spaces of image generators.
"""

from eigenhub.metrics.decoder_blocks import decoder_blocks
from eigenhub.metrics.detection import auroc, prediction_rejection_ratio
from eigenhub.metrics.disentanglement import DCI, Effects, attribute_correlation, dci, effect_matrix
from eigenhub.metrics.ees import ees
from eigenhub.metrics.eigenscore import eigenscore
from eigenhub.metrics.eigenscore_metric import EigenScore
from eigenhub.metrics.embeddings import sentence_embedding
from eigenhub.metrics.factor_regressor import FactorRegressor, fit_factor_regressor, r_squared
from eigenhub.metrics.feature_clipper import FeatureClipper
from eigenhub.metrics.hallucination_score import HallucinationScore, abstain_above, best_of_k
from eigenhub.metrics.hallucination_scorer import HallucinationScorer
from eigenhub.metrics.path_length import (
    PathLength,
    feature_distance,
    interpretable_path_length,
    lpips_distance,
    perceptual_path_length,
    pixel_distance,
)
from eigenhub.metrics.polygraph import polygraph_estimator


__all__ = [
    "DCI",
    "Effects",
    "EigenScore",
    "FactorRegressor",
    "FeatureClipper",
    "HallucinationScore",
    "HallucinationScorer",
    "PathLength",
    "abstain_above",
    "attribute_correlation",
    "auroc",
    "best_of_k",
    "dci",
    "decoder_blocks",
    "ees",
    "effect_matrix",
    "eigenscore",
    "feature_distance",
    "fit_factor_regressor",
    "interpretable_path_length",
    "lpips_distance",
    "perceptual_path_length",
    "pixel_distance",
    "polygraph_estimator",
    "prediction_rejection_ratio",
    "r_squared",
    "sentence_embedding",
]
