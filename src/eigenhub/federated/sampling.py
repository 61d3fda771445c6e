# SPDX-License-Identifier: Apache-2.0
"""Which clients take part in a round."""

import math
from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np

from eigenhub.federated.config import FedSVDConfig


def clients_per_round(num_clients: int, fraction: float) -> int:
    """How many clients take part in a round, at least one.

    Args:
        num_clients (`int`): of the federation.
        fraction (`float`): share of them, in (0, 1].
    """
    return max(1, round(fraction * num_clients))


def sample_clients(
    clients: Sequence[str], round: int, config: FedSVDConfig, allowed: Collection[str] | None = None
) -> list[str]:
    """The clients of a round, in the order of `clients`: a function of seed, round and `allowed`.

    Args:
        clients (`Sequence[str]`): all of them.
        round (`int`): from 1.
        config (`FedSVDConfig`): tells fraction, seed, and whether the draw is uniform or balanced.
        allowed (`Collection[str]`, *optional*): take only these, in place of others that are drawn.
    """
    allowed = set(clients if allowed is None else allowed)
    count = clients_per_round(len(clients), config.client_fraction)
    order = np.random.RandomState([config.seed, round]).permutation(len(clients)).tolist()
    if config.client_sampling == "balanced":
        first = _balanced(len(clients), count, round, config.seed)
        order = first + [index for index in order if index not in set(first)]
    drawn = [index for index in order if clients[index] in allowed][:count]
    return [clients[index] for index in sorted(drawn)]


def most_participations(num_clients: int, config: FedSVDConfig) -> int:
    """In how many rounds of the run a client is asked at most, as planned for the privacy budget.

    Balanced sampling reaches this number and never more. Uniform sampling has it as the expectation, rounded up: the
    ledger stops clients that are drawn more often.

    Args:
        num_clients (`int`): of the federation.
        config (`FedSVDConfig`): tells rounds and fraction.
    """
    return math.ceil(config.num_rounds * clients_per_round(num_clients, config.client_fraction) / num_clients)


def _balanced(num_clients: int, count: int, round: int, seed: int) -> list[int]:
    """Everyone once before anyone twice; a round that reaches into the next cycle takes nobody a second time."""
    waiting: list[int] = []
    cycle = 0
    chosen: list[int] = []
    for _ in range(round):
        chosen = list(islice(waiting, count))
        waiting = waiting[count:]
        if len(chosen) < count:
            order = np.random.RandomState([seed, cycle]).permutation(num_clients).tolist()
            cycle += 1
            fresh = [index for index in order if index not in set(chosen)][: count - len(chosen)]
            taken = set(fresh)
            waiting = [index for index in order if index not in taken]
            chosen += fresh
    return chosen
