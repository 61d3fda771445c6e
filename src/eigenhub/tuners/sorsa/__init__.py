# SPDX-License-Identifier: Apache-2.0
"""SORSA: Singular values and Orthonormal Regularized Singular vectors Adaptation, as a PEFT tuner (arXiv 2409.00055).

Importing this package registers the method with PEFT.
"""

from eigenhub.tuners.registry import EigenhubPeftType, register_tuner
from eigenhub.tuners.sorsa.analysis import Drift, LayerSpectrum, spectrum_report, weight_drift
from eigenhub.tuners.sorsa.bnb import SorsaLinear4bit, SorsaLinear8bitLt
from eigenhub.tuners.sorsa.callback import SorsaRegularizerCallback
from eigenhub.tuners.sorsa.config import SorsaConfig
from eigenhub.tuners.sorsa.export import ExportReport, export_checkpoint, export_lora
from eigenhub.tuners.sorsa.layer import SorsaConv1D, SorsaLayer, SorsaLinear
from eigenhub.tuners.sorsa.model import SorsaModel
from eigenhub.tuners.sorsa.penalty import orthonormality_penalty
from eigenhub.tuners.sorsa.routes import apply_regularizer, lambda_from_gamma, sorsa_param_groups
from eigenhub.tuners.sorsa.svd_cache import build_svd_cache
from eigenhub.tuners.sorsa.trainer import SorsaTrainer, SorsaTrainerMixin


register_tuner(EigenhubPeftType.SORSA, SorsaConfig, SorsaModel)

__all__ = [
    "Drift",
    "ExportReport",
    "LayerSpectrum",
    "SorsaConfig",
    "SorsaConv1D",
    "SorsaLayer",
    "SorsaLinear",
    "SorsaLinear4bit",
    "SorsaLinear8bitLt",
    "SorsaModel",
    "SorsaRegularizerCallback",
    "SorsaTrainer",
    "SorsaTrainerMixin",
    "apply_regularizer",
    "build_svd_cache",
    "export_checkpoint",
    "export_lora",
    "lambda_from_gamma",
    "orthonormality_penalty",
    "sorsa_param_groups",
    "spectrum_report",
    "weight_drift",
]
