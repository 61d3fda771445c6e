# SPDX-License-Identifier: Apache-2.0
"""What a client keeps between rounds in `context.state`, which never leaves it: its privacy ledger, and what it was sent once."""

import json

from flwr.app import ConfigRecord, Context
from torch import Tensor

from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.flower.records import arrays_to_peft, peft_to_arrays, wire_dtypes
from eigenhub.federated.privacy_ledger import PrivacyLedger


LEDGER, ONCE = "eigenhub.privacy", "eigenhub.once"


def client_name(context: Context) -> str:
    """The name of a client: `client-id` of its node's configuration, else its partition, else the id of its node.

    Args:
        context (`Context`): of the client.
    """
    config = context.node_config
    if "client-id" in config:
        return str(config["client-id"])
    if "partition-id" in config:
        return str(config["partition-id"]).zfill(len(str(int(config.get("num-partitions", 1)) - 1)))
    return str(context.node_id)


def read_ledger(context: Context, config: DPConfig) -> PrivacyLedger:
    """The client's ledger, empty before its first round.

    Args:
        context (`Context`): of the client.
        config (`DPConfig`): of the coming round.

    Raises:
        ValueError: if it was kept under other settings.
    """
    ledger = PrivacyLedger(config)
    if has_ledger(context):
        ledger.load_state_dict(json.loads(str(context.state[LEDGER]["json"])))
    return ledger


def has_ledger(context: Context) -> bool:
    """Whether the client has trained under differential privacy in this run.

    Args:
        context (`Context`): of the client.
    """
    return LEDGER in context.state


def write_ledger(context: Context, ledger: PrivacyLedger) -> None:
    """Keep the client's ledger for its later rounds.

    Args:
        context (`Context`): of the client.
        ledger (`PrivacyLedger`): with what has just been spent.
    """
    context.state[LEDGER] = ConfigRecord({"json": json.dumps(ledger.state_dict())})


def keep_once(context: Context, sent: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a run sends once: those of this message, which are kept, or else those kept from an earlier one.

    Args:
        context (`Context`): of the client.
        sent (`dict[str, Tensor]`): from the message, mostly empty.
    """
    if sent:
        context.state[ONCE] = peft_to_arrays(sent)
        context.state[f"{ONCE}.dtypes"] = ConfigRecord({"json": json.dumps(wire_dtypes(sent))})
        return sent
    if ONCE not in context.state:
        return {}
    return arrays_to_peft(context.state[ONCE], json.loads(str(context.state[f"{ONCE}.dtypes"]["json"])))
