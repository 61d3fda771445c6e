# SPDX-License-Identifier: Apache-2.0
"""The privacy guarantee of a run in words: what it covers and what it does not."""

import math
from collections.abc import Mapping

from eigenhub.federated.client_account import ClientAccount
from eigenhub.federated.dp_config import DPConfig


_SCOPE = (
    "It holds against everyone who sees the clients' uploads and the models of all rounds. Neighbouring data sets differ in "
    "one example added or removed, batches are Poisson samples, and as clients hold disjoint data the largest epsilon "
    "holds for the whole run (parallel composition)."
)
_LIMITS = (
    "It is not client-level (user-level) privacy: that a client took part, and what its examples have in common, is not "
    "hidden. It does not cover numbers of examples, metrics and labels of evaluations on private data, or a search over "
    "hyperparameters."
)


def privacy_claim(config: DPConfig, accounts: Mapping[str, ClientAccount], spent: Mapping[str, float]) -> str:
    """The claim with the figures of the client that has spent most.

    Args:
        config (`DPConfig`): settings of the run.
        accounts (`Mapping[str, ClientAccount]`): plan and history of every client.
        spent (`Mapping[str, float]`): epsilon of every client.

    Returns:
        `str`: some sentences of plain text.
    """
    if not any(account.history for account in accounts.values()):
        return f"Nothing is spent: none of {len(accounts)} enrolled clients has taken a private step."
    worst = max(accounts, key=lambda client_id: (spent[client_id], accounts[client_id].steps))
    if math.isinf(spent[worst]):
        return f"No privacy is guaranteed: the steps of client {worst!r} carried no noise."
    sentences = [_guarantee(config, spent[worst]), _figures(config, worst, accounts), _SCOPE, _LIMITS]
    if config.seed is not None:
        sentences.append(f"The seed was fixed to {config.seed}: there is no guarantee against whoever knows it.")
    return " ".join(sentences)


def _guarantee(config: DPConfig, epsilon: float) -> str:
    target = "" if config.target_epsilon is None else f" (target {config.target_epsilon:g})"
    return (
        f"Example-level (record-level) (epsilon, delta)-differential privacy of each client's data, with epsilon = "
        f"{_rounded_up(epsilon)}{target} and delta = {config.target_delta:g}."
    )


def _figures(config: DPConfig, worst: str, accounts: Mapping[str, ClientAccount]) -> str:
    account = accounts[worst]
    return (
        f"The largest of {len(accounts)} clients is {worst!r}: {account.steps} steps at sample rate {account.sample_rate:.4g} "
        f"with noise multiplier {account.history[-1][0]:.4g} and clipping norm {config.max_grad_norm:g}, in "
        f"{account.participations} of at most {account.max_participations} participations, by the {config.accountant.upper()} "
        "accountant."
    )


def _rounded_up(epsilon: float) -> str:
    """Three decimals, never less than was spent."""
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}"
