# SPDX-License-Identifier: Apache-2.0
"""Federated LoRA: one adapter trained by clients that keep their data (FedSVD, arXiv 2505.12805, and its relatives).

[`FederatedLoraTrainer`] runs all clients in one process. With the extra `flower`, [`eigenhub.federated.flower`] runs the same
server and client code on Flower; its names are found here too. With the extra `dp`, clients train differentially privately.
"""

from importlib import import_module
from typing import Any

from eigenhub.federated.aggregate import AggregateResult, RoundAggregator, aggregate, aggregation_error
from eigenhub.federated.callbacks import FederatedCallback
from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.lora_keys import LoraKeys, pair_lora_keys
from eigenhub.federated.lora_model import freeze_lora_A_
from eigenhub.federated.partition import dirichlet, iid, natural_id, shard
from eigenhub.federated.privacy_ledger import PrivacyLedger
from eigenhub.federated.refactor import RefactorResult, refactor_lora, refactor_state_dict
from eigenhub.federated.refactor_model import orthonormalize_lora_A_, refactor_lora_
from eigenhub.federated.server import FederatedServer
from eigenhub.federated.trainer import FederatedLoraTrainer
from eigenhub.federated.updates import ClientUpdate, QuorumError, RejectedUpdate


__all__ = [
    "AggregateResult",
    "ClientUpdate",
    "DPConfig",
    "FedSVDConfig",
    "FederatedCallback",
    "FederatedLoraTrainer",
    "FederatedServer",
    "LoraKeys",
    "PrivacyLedger",
    "QuorumError",
    "RefactorResult",
    "RejectedUpdate",
    "RoundAggregator",
    "aggregate",
    "aggregation_error",
    "dirichlet",
    "freeze_lora_A_",
    "iid",
    "natural_id",
    "orthonormalize_lora_A_",
    "pair_lora_keys",
    "refactor_lora",
    "refactor_lora_",
    "refactor_state_dict",
    "shard",
]

# Not in `__all__`: they need the extra `flower`.
_FLOWER = ("FedSVDStrategy", "make_client_app")


def __getattr__(name: str) -> Any:
    if name in _FLOWER:
        return getattr(import_module("eigenhub.federated.flower"), name)
    raise AttributeError(f"module 'eigenhub.federated' has no attribute {name!r}")
