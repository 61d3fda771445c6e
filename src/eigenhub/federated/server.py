# SPDX-License-Identifier: Apache-2.0
"""The server of a federated run without any transport: state, rounds, quorum, saving."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eigenhub.federated.aggregate import AggregateResult, RoundAggregator
from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.downlink import basis_of, rebuilt, rotations_of
from eigenhub.federated.lora_keys import pair_lora_keys
from eigenhub.federated.products import LowRankSum
from eigenhub.federated.recipes import recipe_of, trained_factors
from eigenhub.federated.updates import (
    ClientUpdate,
    QuorumError,
    RejectedUpdate,
    check_update,
    fingerprint,
    uploaded_keys,
)
from eigenhub.files import check_entries, naming, read_json, read_tensors, write_tensors, write_text


STATE_FILE = "adapter_state.safetensors"
BASE_FILE = "base_sums.safetensors"
BASIS_FILE = "downlink_basis.safetensors"
ROUND_FILE = "server.json"


class FederatedServer:
    """
    The state of the adapter over the rounds.

    A round is `broadcast()`, then `open_round()`, `accept(update)` for each reply, and `close_round()`. The embedded
    trainer and the Flower strategy both drive this object.

    Args:
        config (`FedSVDConfig`): method and schedule.
        state (`Mapping[str, Tensor]`): the whole adapter before the first round.
        scalings (`Mapping[str, float]`): `lora_alpha / r` by layer, from [`lora_scalings`].

    Attributes:
        round (`int`): rounds that are finished.
        attempts (`int`): rounds that were opened, those below the quorum among them: privacy is spent in these too.
        state (`dict[str, Tensor]`): the whole adapter after them.
        base_sums (`dict[str, LowRankSum]`): what was added to the base weights, by layer.
        failures (`dict[str, str]`): of the open round: client and why its reply was not taken.
    """

    def __init__(self, config: FedSVDConfig, state: Mapping[str, Tensor], scalings: Mapping[str, float]) -> None:
        self.config = config
        self.scalings = dict(scalings)
        self.round = self.attempts = 0
        self.base_sums: dict[str, LowRankSum] = {}
        self.failures: dict[str, str] = {}
        self.basis = basis_of(state) if config.downlink == "rotation" else {}
        self.state = dict(state)
        self.rotations: dict[str, Tensor] = {}
        self._rotate()
        self._aggregator: RoundAggregator | None = None
        self._seen: set[str] = set()

    @property
    def factors(self) -> str:
        """What clients train in the coming or open round: "A", "B" or "AB"."""
        return trained_factors(self.config.method, self.round + 1)

    @property
    def upload_keys(self) -> list[str]:
        """The keys that clients send in the coming or open round."""
        return uploaded_keys(self.state, self.factors, self.config.train_head)

    @property
    def frozen_keys(self) -> list[str]:
        """The LoRA factors that clients must leave alone in the coming or open round."""
        pairs = pair_lora_keys(self.state).values()
        return sorted({key for pair in pairs for key in pair} - set(self.upload_keys))

    def broadcast(self) -> dict[str, Tensor]:
        """What clients are sent: the whole adapter, or its rotation (see `downlink` of the configuration)."""
        return {key: tensor for key, tensor in self.state.items() if key not in self.basis} | self.rotations

    def base_bytes(self) -> int:
        """Bytes, as float32, of what all rounds so far have added to the base weights; every client needs it."""
        return sum(total.num_bytes() for total in self.base_sums.values())

    def sent_once(self) -> dict[str, Tensor]:
        """What a client keeps from its first round on: a head that is not trained, and the basis of a rotation."""
        factors = {key for pair in pair_lora_keys(self.state).values() for key in pair}
        head = {} if self.config.train_head else {k: tensor for k, tensor in self.state.items() if k not in factors}
        return head | self.basis

    def fingerprint(self) -> str:
        """Of the factors that clients must leave alone."""
        return fingerprint(self.state, self.frozen_keys) if self.frozen_keys else ""

    def open_round(self) -> None:
        """Begin to collect replies; those of a round that was not closed are forgotten."""
        self._aggregator = RoundAggregator(
            self.config.method,
            self.state,
            round=self.round + 1,
            scaling=self.scalings,
            refactor=self.config.refactors_in(self.round + 1),
            with_extras=self.config.train_head,
            sign_rule=self.config.sign_rule,
            generator=torch.Generator().manual_seed(self.config.seed + self.round + 1),
        )
        self.attempts += 1
        self.failures, self._seen, self._frozen = {}, set(), self.fingerprint()

    def accept(self, update: ClientUpdate) -> None:
        """Take a reply into the open round.

        Args:
            update (`ClientUpdate`): from a client; take them in the order of their ids to get the same bits again.

        Raises:
            RejectedUpdate: if it cannot enter the average; it is noted in `failures` and the round stays open.
        """
        if self._aggregator is None:
            raise ValueError("no round is open: call `open_round` first")
        try:
            if update.client_id in self._seen:
                raise RejectedUpdate(update.client_id, f"has already replied in round {self.round + 1}")
            check_update(update, self.round + 1, self.state, self._aggregator.keys, self._frozen)
            weight = 1.0 if self.config.weighting == "uniform" else float(update.num_examples)
            self._aggregator.add(update.state, weight)
        except RejectedUpdate as error:
            self.note_failure(error.client_id, error.reason)
            raise
        self._seen.add(update.client_id)

    def note_failure(self, client_id: str, reason: str) -> None:
        """Note that a client of the open round gave nothing usable.

        Args:
            client_id (`str`): who.
            reason (`str`): why.
        """
        self.failures.setdefault(client_id, reason)

    def close_round(self) -> AggregateResult:
        """Average the replies and go on to the next round.

        Raises:
            QuorumError: fewer replies than `min_clients`; the state is that before the round.
        """
        if self._aggregator is None:
            raise ValueError("no round is open: call `open_round` first")
        aggregator, self._aggregator = self._aggregator, None
        if aggregator.num_clients < self.config.min_clients:
            named = "; ".join(f"{client}: {reason}" for client, reason in self.failures.items())
            raise QuorumError(
                f"round {self.round + 1}: {aggregator.num_clients} usable replies, `min_clients` is "
                f"{self.config.min_clients} ({named or 'nobody else was asked'})"
            )
        result = aggregator.finish()
        self.state = result.state
        self._rotate()
        result.state = self.state
        for name, (left, right) in result.base_update.items():
            total = self.base_sums.get(name, LowRankSum())
            total.add(left, right)
            # in the precision that clients are sent, so that they rebuild the same weights
            self.base_sums[name] = LowRankSum(*(factor.float() for factor in total.compressed()))
        self.round += 1
        return result

    def _rotate(self) -> None:
        """Under a rotation downlink, go on from the adapter that clients will rebuild, to the bit."""
        self.rotations = rotations_of(self.state, self.basis)
        self.state = rebuilt(self.broadcast(), self.basis, self.state)

    def save(self, folder: Path) -> None:
        """Write everything that the next round depends on.

        Args:
            folder (`Path`): made if necessary.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / STATE_FILE, self.state)
        if self.basis:
            write_tensors(folder / BASIS_FILE, self.basis | self.rotations)
        sums = {f"{side}.{name}": part for name, total in self.base_sums.items() for side, part in _sides(total)}
        if sums:
            write_tensors(folder / BASE_FILE, sums)
        content = {"round": self.round, "attempts": self.attempts, "failures": self.failures}
        content |= {"config": self.config.to_dict()}
        write_text(folder / ROUND_FILE, json.dumps(content, indent=2) + "\n")

    def load(self, folder: Path) -> None:
        """Go on from what [`~FederatedServer.save`] wrote.

        Args:
            folder (`Path`): holds it.

        Raises:
            ValueError: if it was written with another configuration or for another adapter.
        """
        content = read_json(folder / ROUND_FILE, {"config": dict, "round": int, "attempts": int})
        if differing := differing_settings(content["config"], self.config.to_dict()):
            raise ValueError(f"{folder} was written by another run ({differing})")
        state = read_tensors(folder / STATE_FILE)
        if shapes_of(state) != shapes_of(self.state):
            raise ValueError(f"{folder} holds the state of another adapter: names or shapes differ")
        if broken := [key for key, tensor in state.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{folder / STATE_FILE} has values that are not finite in `{broken[0]}`")
        self.state, self.round = {key: state[key] for key in self.state}, content["round"]
        self.attempts = content["attempts"]
        if self.basis:
            saved = read_tensors(folder / BASIS_FILE)
            if shapes_of(saved) != shapes_of(self.basis | self.rotations):
                raise ValueError(f"{folder / BASIS_FILE} is of another adapter: names or shapes differ")
            self.basis = {key: saved[key] for key in self.basis}
            self.rotations = {key: saved[key] for key in self.rotations}
        if recipe_of(self.config.method).moves_base and self.round:
            sums = read_tensors(folder / BASE_FILE)
            names = [key.removeprefix("left.") for key in sums if key.startswith("left.")]
            with naming(folder / BASE_FILE):
                check_entries(sums, {f"right.{name}": Tensor for name in names})
            self.base_sums = {name: LowRankSum(sums[f"left.{name}"], sums[f"right.{name}"]) for name in names}


#: May differ between a run and its continuation.
FREE_ON_RESUME = ("num_rounds", "checkpoint_every", "eval_every", "min_clients")


def differing_settings(written: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """The settings in which a saved run and this one differ, as text; empty if they may be one run.

    Args:
        written (`Mapping[str, Any]`): of the saved run.
        current (`Mapping[str, Any]`): of this one.
    """
    names = [name for name in current if name not in FREE_ON_RESUME and written.get(name) != current[name]]
    return "; ".join(f"{name}: {written.get(name)!r} there, {current[name]!r} here" for name in names)


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor.

    Args:
        state (`Mapping[str, Tensor]`): by key.
    """
    return {key: tuple(tensor.shape) for key, tensor in sorted(state.items())}


def _sides(total: LowRankSum) -> list[tuple[str, Tensor]]:
    left, right = total.factors()
    return [("left", left.float().contiguous()), ("right", right.float().contiguous())]
