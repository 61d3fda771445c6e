# SPDX-License-Identifier: Apache-2.0
"""eigenhub: spectral and orthogonal methods for the Hugging Face ecosystem.

Public names load on first use, so `import eigenhub` is instant. Loading does not mean registering: run
`import eigenhub.auto` before asking PEFT or transformers to load something saved with this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


__version__ = "0.1.0.dev0"

_EXPORTS = {
    "CompatibleIndex": "eigenhub.models.bt2",
    "METHODS": "eigenhub.methods",
    "FedSVDConfig": "eigenhub.federated",
    "FederatedLoraTrainer": "eigenhub.federated",
    "HallucinationScorer": "eigenhub.metrics",
    "Method": "eigenhub.methods",
    "SenDTrainer": "eigenhub.training.send",
    "SorsaConfig": "eigenhub.tuners.sorsa",
    "SorsaModel": "eigenhub.tuners.sorsa",
    "StyleGAN2Generator": "eigenhub.models.stylegan2",
    "apply_householder_projector": "eigenhub.nn",
    "get_method": "eigenhub.methods",
    "load_sentence_transformer": "eigenhub.models.bt2",
}

__all__ = [
    "METHODS",
    "CompatibleIndex",
    "FedSVDConfig",
    "FederatedLoraTrainer",
    "HallucinationScorer",
    "Method",
    "SenDTrainer",
    "SorsaConfig",
    "SorsaModel",
    "StyleGAN2Generator",
    "__version__",
    "apply_householder_projector",
    "get_method",
    "load_sentence_transformer",
]

if TYPE_CHECKING:
    from eigenhub.federated import FederatedLoraTrainer, FedSVDConfig
    from eigenhub.methods import METHODS, Method, get_method
    from eigenhub.metrics import HallucinationScorer
    from eigenhub.models.bt2 import CompatibleIndex, load_sentence_transformer
    from eigenhub.models.stylegan2 import StyleGAN2Generator
    from eigenhub.nn import apply_householder_projector
    from eigenhub.training.send import SenDTrainer
    from eigenhub.tuners.sorsa import SorsaConfig, SorsaModel


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'eigenhub' has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value  # later look-ups skip this function
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
