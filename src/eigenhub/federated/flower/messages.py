# SPDX-License-Identifier: Apache-2.0
"""What a message of a round says, as Flower records: the request to a client and its reply."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from torch import Tensor

from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.downlink import ROTATION_SUFFIX, num_bytes, rebuilt
from eigenhub.federated.flower.records import (
    arrays_to_peft,
    arrays_to_sums,
    peft_to_arrays,
    sums_to_arrays,
    wire_dtypes,
)
from eigenhub.federated.products import LowRankSum
from eigenhub.federated.updates import ClientUpdate


ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"  # as in Flower's own strategies
BASE, ONCE = "base", "once"
NUM_EXAMPLES = "num-examples"


@dataclass
class RoundRequest:
    """What the server asks of a client.

    Args:
        round (`int`): from 1; the reply has to repeat it.
        factors (`str`): what to train: "A", "B" or "AB".
        config (`FedSVDConfig`): of the run.
        participations (`int`): rounds that a client's privacy budget is planned for.
        fingerprint (`str`): of the factors that the client must leave alone, as [`FederatedServer`] computes it.
        payload (`dict[str, Tensor]`): what changes of the adapter, with rotations in place of A if the configuration says
            so.
        once (`dict[str, Tensor]`): what does not change, for a client that does not have it yet: see
            [`FederatedServer.sent_once`].
        base_sums (`dict[str, LowRankSum]`): what all rounds so far have added to the base weights, by layer.
    """

    round: int
    factors: str
    config: FedSVDConfig
    participations: int
    fingerprint: str
    payload: dict[str, Tensor]
    once: dict[str, Tensor] = field(default_factory=dict)
    base_sums: dict[str, LowRankSum] = field(default_factory=dict)

    def to_records(self, config: ConfigRecord | None = None) -> RecordDict:
        """The content of a message.

        Args:
            config (`ConfigRecord`, *optional*): the user's own settings, sent along.
        """
        settings = ConfigRecord(dict(config or {}))
        settings["server-round"] = self.round  # Flower's own name for it
        settings["factors"] = self.factors
        settings["fedsvd-config"] = json.dumps(self.config.to_dict())
        settings["participations"] = self.participations
        settings["fingerprint"] = self.fingerprint
        settings["dtypes"] = json.dumps(wire_dtypes(self.payload) | wire_dtypes(self.once))
        records = RecordDict({ARRAYS: peft_to_arrays(self.payload), CONFIG: settings})
        if self.once:
            records[ONCE] = peft_to_arrays(self.once)
        if self.base_sums:
            records[BASE] = sums_to_arrays(self.base_sums)
        return records

    @classmethod
    def from_records(cls, content: RecordDict) -> "RoundRequest":
        """The request of [`~RoundRequest.to_records`].

        Args:
            content (`RecordDict`): of a message.

        Raises:
            ValueError: if the message comes from another strategy.
        """
        try:
            settings, dtypes = content[CONFIG], json.loads(str(content[CONFIG]["dtypes"]))
            return cls(
                round=int(settings["server-round"]),
                factors=str(settings["factors"]),
                config=FedSVDConfig.from_dict(json.loads(str(settings["fedsvd-config"]))),
                participations=int(settings["participations"]),
                fingerprint=str(settings["fingerprint"]),
                payload=arrays_to_peft(content[ARRAYS], dtypes),
                once=arrays_to_peft(content[ONCE], dtypes) if ONCE in content else {},
                base_sums=arrays_to_sums(content[BASE]) if BASE in content else {},
            )
        except KeyError as error:
            raise ValueError(f"the message has no {error}: it does not come from a FedSVDStrategy") from None
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"the message cannot be read ({type(error).__name__}: {error})") from None

    def num_bytes(self) -> int:
        """Bytes of all its tensors."""
        base = sum(total.num_bytes() for total in self.base_sums.values())
        return num_bytes(self.payload) + num_bytes(self.once) + base

    def adapter(self, once: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole adapter that was broadcast.

        Args:
            once (`Mapping[str, Tensor]`): what was sent once, kept since then.
            like (`Mapping[str, Tensor]`): the client's own adapter, for shapes and dtypes.

        Raises:
            ValueError: if the client's adapter has other tensors, or what was sent once is not there.
        """
        basis = {key: rows for key, rows in once.items() if key + ROTATION_SUFFIX in self.payload}
        payload = {key: tensor for key, tensor in once.items() if key not in basis} | self.payload
        sent = {key.removesuffix(ROTATION_SUFFIX) for key in payload}
        if differing := sorted(sent ^ set(like)):
            where = "the server's" if differing[0] in sent else "the client's"
            raise ValueError(f"only {where} adapter has `{differing[0]}`: both must be made alike")
        if missing := sorted(key for key in like if key not in payload and key not in basis):
            raise ValueError(f"the basis of `{missing[0]}` is not there")
        return rebuilt(payload, basis, like)


def update_to_records(update: ClientUpdate, share_size: bool = True) -> RecordDict:
    """A client's reply as the content of a message.

    Args:
        update (`ClientUpdate`): what it has come to.
        share_size (`bool`, *optional*, defaults to `True`): tell the number of examples; else 1 stands for it.
    """
    metrics = {NUM_EXAMPLES: update.num_examples if share_size else 1, "num-steps": update.num_steps}
    settings = {
        "server-round": update.round,
        "fingerprint": update.fingerprint,
        "client-id": update.client_id,
        "dtypes": json.dumps(wire_dtypes(update.state)),
    }
    return RecordDict(
        {
            ARRAYS: peft_to_arrays(update.state),
            METRICS: MetricRecord(metrics | update.metrics),
            CONFIG: ConfigRecord(settings),
        }
    )


def records_to_update(content: RecordDict, client_id: str) -> ClientUpdate:
    """The reply of a client, under the name by which the server knows it.

    Args:
        content (`RecordDict`): of the message, from anywhere.
        client_id (`str`): of its sender.

    Raises:
        ValueError: if the content cannot be read.
    """
    try:
        settings, metrics = content[CONFIG], content[METRICS]
        own = {name: float(value) for name, value in metrics.items() if name not in (NUM_EXAMPLES, "num-steps")}
        return ClientUpdate(
            client_id=client_id,
            round=int(settings["server-round"]),
            state=arrays_to_peft(_arrays(content), json.loads(str(settings["dtypes"]))),
            num_examples=int(metrics[NUM_EXAMPLES]),
            num_steps=int(metrics["num-steps"]),
            fingerprint=str(settings["fingerprint"]),
            metrics=own,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the reply cannot be read ({type(error).__name__}: {error})") from None


def _arrays(content: RecordDict) -> ArrayRecord:
    record = content[ARRAYS]
    if not isinstance(record, ArrayRecord):
        raise TypeError(f"`{ARRAYS}` is a {type(record).__name__}")
    return record
