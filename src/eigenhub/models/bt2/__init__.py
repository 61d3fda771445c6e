# SPDX-License-Identifier: Apache-2.0
"""BT2: a new embedding model that searches the old model's index (arXiv 2211.03989).

Importing this package registers the image models with transformers. What needs the extra `search` (text, indexes) loads
on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from eigenhub.models.bt2.bt2_outputs import Bt2EmbedderOutput, Bt2ImageClassifierOutput, Bt2ModelOutput
from eigenhub.models.bt2.bt2_training import bt2_param_groups, rebase_long_rotations_, warm_start_
from eigenhub.models.bt2.configuration_bt2 import Bt2Config, Bt2EmbedderConfig
from eigenhub.models.bt2.item_vectors import ItemVectors, cached_vectors, weights_fingerprint
from eigenhub.models.bt2.losses import (
    ClassPrototypes,
    class_prototypes,
    compat_losses,
    contrastive_influence_loss,
    influence_loss,
    new_teacher_loss,
    old_match_loss,
)
from eigenhub.models.bt2.modeling_bt2 import Bt2ForImageClassification, Bt2Model
from eigenhub.models.bt2.modeling_bt2_embedder import Bt2EmbedderForImageClassification, teacher_of


if TYPE_CHECKING:
    from eigenhub.models.bt2.backfill_curves import BackfillCurve, backfill_curve
    from eigenhub.models.bt2.baselines import PATHS, UpgradePath, fit_paths
    from eigenhub.models.bt2.bt2_callback import RebaseCallback
    from eigenhub.models.bt2.calibration import Calibration, calibrate_old_scale
    from eigenhub.models.bt2.comparison import PathResult, compare_paths
    from eigenhub.models.bt2.head_fitting import HeadRecipe, fit_head
    from eigenhub.models.bt2.index import CompatibleIndex
    from eigenhub.models.bt2.index_identity import EncoderIdentity, IdentityError
    from eigenhub.models.bt2.index_merge import merge_cosine_results
    from eigenhub.models.bt2.index_reports import BackfillReport, IndexStatus, SearchResult
    from eigenhub.models.bt2.migration import EncodedTexts, MigrationReport, migration_report
    from eigenhub.models.bt2.migration_text import report_text
    from eigenhub.models.bt2.retrieval_metrics import Ranking, rank, update_gain
    from eigenhub.models.bt2.retrieval_relevance import Relevance
    from eigenhub.models.bt2.text_docstrings import docstring_pairs
    from eigenhub.models.bt2.text_evaluation import evaluate_upgrade
    from eigenhub.models.bt2.text_evaluator import BackwardCompatibilityEvaluator
    from eigenhub.models.bt2.text_export import fold, push_to_hub, save_folded
    from eigenhub.models.bt2.text_identity import identity_of, load_identity
    from eigenhub.models.bt2.text_loading import load_sentence_transformer
    from eigenhub.models.bt2.text_loss import BackwardCompatibleLoss
    from eigenhub.models.bt2.text_module import BasisTransformation
    from eigenhub.models.bt2.text_pairs import TextPairs, read_pairs
    from eigenhub.models.bt2.text_upgrade import attach_head, fit_sentence_transformer
    from eigenhub.models.bt2.vector_training import TeacherVectors

# name -> module, for everything that needs the extra `search`, or all of `Trainer`
_SEARCH_EXPORTS: dict[str, str] = {
    "RebaseCallback": "eigenhub.models.bt2.bt2_callback",
    "attach_head": "eigenhub.models.bt2.text_upgrade",
    "backfill_curve": "eigenhub.models.bt2.backfill_curves",
    "BackfillCurve": "eigenhub.models.bt2.backfill_curves",
    "BackfillReport": "eigenhub.models.bt2.index_reports",
    "BackwardCompatibilityEvaluator": "eigenhub.models.bt2.text_evaluator",
    "BackwardCompatibleLoss": "eigenhub.models.bt2.text_loss",
    "BasisTransformation": "eigenhub.models.bt2.text_module",
    "calibrate_old_scale": "eigenhub.models.bt2.calibration",
    "Calibration": "eigenhub.models.bt2.calibration",
    "compare_paths": "eigenhub.models.bt2.comparison",
    "CompatibleIndex": "eigenhub.models.bt2.index",
    "docstring_pairs": "eigenhub.models.bt2.text_docstrings",
    "EncodedTexts": "eigenhub.models.bt2.migration",
    "EncoderIdentity": "eigenhub.models.bt2.index_identity",
    "evaluate_upgrade": "eigenhub.models.bt2.text_evaluation",
    "fit_head": "eigenhub.models.bt2.head_fitting",
    "fit_paths": "eigenhub.models.bt2.baselines",
    "fit_sentence_transformer": "eigenhub.models.bt2.text_upgrade",
    "fold": "eigenhub.models.bt2.text_export",
    "HeadRecipe": "eigenhub.models.bt2.head_fitting",
    "identity_of": "eigenhub.models.bt2.text_identity",
    "IdentityError": "eigenhub.models.bt2.index_identity",
    "IndexStatus": "eigenhub.models.bt2.index_reports",
    "load_identity": "eigenhub.models.bt2.text_identity",
    "load_sentence_transformer": "eigenhub.models.bt2.text_loading",
    "merge_cosine_results": "eigenhub.models.bt2.index_merge",
    "migration_report": "eigenhub.models.bt2.migration",
    "MigrationReport": "eigenhub.models.bt2.migration",
    "PathResult": "eigenhub.models.bt2.comparison",
    "PATHS": "eigenhub.models.bt2.baselines",
    "push_to_hub": "eigenhub.models.bt2.text_export",
    "rank": "eigenhub.models.bt2.retrieval_metrics",
    "Ranking": "eigenhub.models.bt2.retrieval_metrics",
    "read_pairs": "eigenhub.models.bt2.text_pairs",
    "Relevance": "eigenhub.models.bt2.retrieval_relevance",
    "report_text": "eigenhub.models.bt2.migration_text",
    "save_folded": "eigenhub.models.bt2.text_export",
    "SearchResult": "eigenhub.models.bt2.index_reports",
    "TeacherVectors": "eigenhub.models.bt2.vector_training",
    "TextPairs": "eigenhub.models.bt2.text_pairs",
    "update_gain": "eigenhub.models.bt2.retrieval_metrics",
    "UpgradePath": "eigenhub.models.bt2.baselines",
}

AutoConfig.register("bt2", Bt2Config, exist_ok=True)
AutoConfig.register("bt2_embedder", Bt2EmbedderConfig, exist_ok=True)
AutoModel.register(Bt2Config, Bt2Model, exist_ok=True)
AutoModelForImageClassification.register(Bt2Config, Bt2ForImageClassification, exist_ok=True)
AutoModelForImageClassification.register(Bt2EmbedderConfig, Bt2EmbedderForImageClassification, exist_ok=True)

__all__ = [
    "PATHS",
    "BackfillCurve",
    "BackfillReport",
    "BackwardCompatibilityEvaluator",
    "BackwardCompatibleLoss",
    "BasisTransformation",
    "Bt2Config",
    "Bt2EmbedderConfig",
    "Bt2EmbedderForImageClassification",
    "Bt2EmbedderOutput",
    "Bt2ForImageClassification",
    "Bt2ImageClassifierOutput",
    "Bt2Model",
    "Bt2ModelOutput",
    "Calibration",
    "ClassPrototypes",
    "CompatibleIndex",
    "EncodedTexts",
    "EncoderIdentity",
    "HeadRecipe",
    "IdentityError",
    "IndexStatus",
    "ItemVectors",
    "MigrationReport",
    "PathResult",
    "Ranking",
    "RebaseCallback",
    "Relevance",
    "SearchResult",
    "TeacherVectors",
    "TextPairs",
    "UpgradePath",
    "attach_head",
    "backfill_curve",
    "bt2_param_groups",
    "cached_vectors",
    "calibrate_old_scale",
    "class_prototypes",
    "compare_paths",
    "compat_losses",
    "contrastive_influence_loss",
    "docstring_pairs",
    "evaluate_upgrade",
    "fit_head",
    "fit_paths",
    "fit_sentence_transformer",
    "fold",
    "identity_of",
    "influence_loss",
    "load_identity",
    "load_sentence_transformer",
    "merge_cosine_results",
    "migration_report",
    "new_teacher_loss",
    "old_match_loss",
    "push_to_hub",
    "rank",
    "read_pairs",
    "rebase_long_rotations_",
    "report_text",
    "save_folded",
    "teacher_of",
    "update_gain",
    "warm_start_",
    "weights_fingerprint",
]


def __getattr__(name: str) -> Any:
    if name not in _SEARCH_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_SEARCH_EXPORTS[name]), name)
    globals()[name] = value  # later look-ups skip this function
    return value
