# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import pytest

from eigenhub.federated import FedSVDConfig
from eigenhub.federated.sampling import clients_per_round, most_participations, sample_clients


def rounds(count: int, num_clients: int, **options) -> list[list[str]]:
    clients = [f"c{i:02d}" for i in range(num_clients)]
    config = FedSVDConfig(num_rounds=count, **options)
    return [sample_clients(clients, round, config) for round in range(1, count + 1)]


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_a_round_takes_each_client_once_and_depends_on_the_seed(sampling):
    first, again = (rounds(20, 7, client_fraction=0.4, client_sampling=sampling, seed=1) for _ in range(2))
    assert first == again and all(len(set(r)) == len(r) == 3 for r in first) and all(r == sorted(r) for r in first)
    assert rounds(20, 7, client_fraction=0.4, client_sampling=sampling, seed=2) != first


@pytest.mark.parametrize(("num_clients", "fraction"), [(7, 0.4), (6, 0.5), (10, 0.9), (5, 1.0), (3, 0.01)])
def test_balanced_sampling_asks_everyone_equally_often(num_clients, fraction):
    options = {"client_fraction": fraction, "client_sampling": "balanced"}
    chosen = rounds(23, num_clients, **options)
    counts = Counter(client for r in chosen for client in r)
    assert len(counts) == num_clients and max(counts.values()) - min(counts.values()) <= 1
    assert max(counts.values()) <= most_participations(num_clients, FedSVDConfig(num_rounds=23, **options))


def test_uniform_sampling_reaches_everyone_unevenly():
    counts = Counter(client for r in rounds(100, 6, client_sampling="uniform") for client in r)
    assert len(counts) == 6 and max(counts.values()) > 50


def test_at_least_one_client():
    assert clients_per_round(3, 0.01) == 1 and clients_per_round(1000, 0.05) == 50


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_others_take_the_place_of_those_that_may_not(sampling):
    clients = [f"c{i}" for i in range(6)]
    config = FedSVDConfig(client_fraction=0.5, client_sampling=sampling)
    for round in range(1, 9):
        assert sample_clients(clients, round, config, allowed=clients[:3]) == clients[:3]
        assert sample_clients(clients, round, config, allowed=clients[4:]) == clients[4:]
        assert sample_clients(clients, round, config, allowed=[]) == []
        assert sample_clients(clients, round, config, allowed=clients) == sample_clients(clients, round, config)
