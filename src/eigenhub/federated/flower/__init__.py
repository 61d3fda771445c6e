# SPDX-License-Identifier: Apache-2.0
"""Federated LoRA on Flower: the same server and the same local training as in one process (extra `flower`)."""

from eigenhub.federated.extras import require


require("flwr.app", "`eigenhub.federated.flower`", extra="flower")

from eigenhub.federated.flower.client_app import make_client_app  # noqa: E402
from eigenhub.federated.flower.client_privacy import ClientDPConfig  # noqa: E402
from eigenhub.federated.flower.in_process import InProcessGrid  # noqa: E402
from eigenhub.federated.flower.records import arrays_to_peft, peft_to_arrays, wire_dtypes  # noqa: E402
from eigenhub.federated.flower.strategy import FedSVDStrategy  # noqa: E402


__all__ = [
    "ClientDPConfig",
    "FedSVDStrategy",
    "InProcessGrid",
    "arrays_to_peft",
    "make_client_app",
    "peft_to_arrays",
    "wire_dtypes",
]
