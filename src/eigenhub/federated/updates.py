# SPDX-License-Identifier: Apache-2.0
"""What a client sends back, and why the server may not take it."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eigenhub.federated.lora_keys import pair_lora_keys


@dataclass
class ClientUpdate:
    """The reply of one client in one round.

    Args:
        client_id (`str`): who sends it.
        round (`int`): the round it answers.
        state (`dict[str, Tensor]`): the trained tensors only, under the keys of a saved adapter.
        num_examples (`int`): rows of the client's data.
        num_steps (`int`): optimizer steps it has taken.
        fingerprint (`str`): [`fingerprint`] of the factors it was given and must not change; empty for none.
        metrics (`dict[str, float]`): what else it tells; under differential privacy nothing by default.
    """

    client_id: str
    round: int
    state: dict[str, Tensor]
    num_examples: int
    num_steps: int = 0
    fingerprint: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class RejectedUpdate(ValueError):
    """One client's reply cannot enter the average.

    Args:
        client_id (`str`): whose.
        reason (`str`): why.
    """

    def __init__(self, client_id: str, reason: str) -> None:
        super().__init__(f"client {client_id}: {reason}")
        self.client_id = client_id
        self.reason = reason


class QuorumError(RuntimeError):
    """Fewer clients than the quorum gave a usable reply: the round is not averaged, the state before it is kept."""


def uploaded_keys(state: Mapping[str, Tensor], factors: str, with_extras: bool = False) -> list[str]:
    """The keys that clients train and send.

    Args:
        state (`Mapping[str, Tensor]`): the whole state of the adapter.
        factors (`str`): "A", "B" or "AB".
        with_extras (`bool`, *optional*, defaults to `False`): also what is no factor, such as a trained head.
    """
    pairs = pair_lora_keys(state)
    keys = [getattr(pair, factor) for pair in pairs.values() for factor in factors]
    known = {key for pair in pairs.values() for key in pair}
    return sorted(keys + [key for key in state if with_extras and key not in known])


def fingerprint(state: Mapping[str, Tensor], keys: list[str]) -> str:
    """A hash of the values under some keys, equal on server and client while nobody has changed them.

    Args:
        state (`Mapping[str, Tensor]`): holds them.
        keys (`list[str]`): which; their order does not matter.
    """
    digest = hashlib.sha256()
    for key in sorted(keys):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def check_update(
    update: ClientUpdate, round: int, state: Mapping[str, Tensor], keys: list[str], expected_fingerprint: str = ""
) -> None:
    """Raise [`RejectedUpdate`] unless a reply may enter the average of a round.

    Args:
        update (`ClientUpdate`): the reply.
        round (`int`): the round that is being averaged.
        state (`Mapping[str, Tensor]`): what was broadcast.
        keys (`list[str]`): from [`uploaded_keys`].
        expected_fingerprint (`str`, *optional*): of what clients must leave alone.
    """
    if update.round != round:
        raise RejectedUpdate(update.client_id, f"answers round {update.round}, this is round {round}")
    if update.num_examples < 1:
        raise RejectedUpdate(update.client_id, f"has {update.num_examples} examples, at least 1 is needed")
    if expected_fingerprint and update.fingerprint != expected_fingerprint:
        raise RejectedUpdate(update.client_id, "has changed tensors that are shared and frozen in this round")
    try:
        check_tensors(update.state, state, keys)
    except ValueError as error:
        raise RejectedUpdate(update.client_id, str(error)) from None


def check_tensors(upload: Mapping[str, Tensor], state: Mapping[str, Tensor], keys: list[str]) -> None:
    """Raise `ValueError` for missing, surplus, misshapen or non-finite tensors of an upload.

    A client of lower rank sends the first columns of B and the first rows of A, the same number everywhere in a layer.

    Args:
        upload (`Mapping[str, Tensor]`): one client's tensors.
        state (`Mapping[str, Tensor]`): the server's.
        keys (`list[str]`): what the upload has to consist of.
    """
    if missing := sorted(set(keys) - set(upload)):
        raise ValueError(f"{len(missing)} tensors are missing, such as `{missing[0]}`")
    if surplus := sorted(set(upload) - set(keys)):
        raise ValueError(f"{len(surplus)} tensors were not asked for, such as `{surplus[0]}`")
    rank_dims = _rank_dimensions(state)
    for key in keys:
        given, wanted = upload[key], state[key]
        if not _fits(given.shape, wanted.shape, rank_dims.get(key)):
            raise ValueError(f"`{key}` has shape {tuple(given.shape)}, expected {tuple(wanted.shape)}")
        if not torch.isfinite(given).all():
            raise ValueError(f"`{key}` has entries that are NaN or infinite")
    for name, pair in pair_lora_keys(state).items():
        ranks = {upload[key].shape[dim] for key, dim in zip(pair, (0, 1), strict=True) if key in upload}
        if len(ranks) > 1:
            raise ValueError(f"layer `{name}`: A and B have different ranks {sorted(ranks)}")


def _rank_dimensions(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Which dimension of a factor counts the rank."""
    pairs = pair_lora_keys(state).values()
    return {pair.A: 0 for pair in pairs} | {pair.B: 1 for pair in pairs}


def _fits(given: torch.Size, wanted: torch.Size, rank_dim: int | None) -> bool:
    if rank_dim is None or len(given) != len(wanted):
        return given == wanted
    rest = [i for i in range(len(wanted)) if i != rank_dim]
    return 1 <= given[rank_dim] <= wanted[rank_dim] and all(given[i] == wanted[i] for i in rest)


def check_weight(weight: float) -> float:
    """A client's weight, or `ValueError` unless it is positive and finite.

    Args:
        weight (`float`): what its tensors are multiplied with before the sum is divided by that of all weights.
    """
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"`weights` must be positive and finite, got {weight}")
    return float(weight)
