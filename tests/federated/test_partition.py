# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from eigenhub.federated.partition import dirichlet, iid, natural_id, shard


ROWS = 600
CLASSES = 10


@pytest.fixture(scope="module")
def digits():
    """Rows that are numbered and sorted by class, the worst order to cut in."""
    labels = np.random.default_rng(5).integers(0, CLASSES, ROWS)
    owners = [f"ward {label % 3}" for label in sorted(labels)]
    return Dataset.from_dict({"row": list(range(ROWS)), "labels": sorted(labels), "owner": owners})


SPLITS = {
    "iid": lambda data, seed: iid(data, 7, seed=seed),
    "dirichlet": lambda data, seed: dirichlet(data, 7, alpha=0.5, seed=seed),
    "balancing": lambda data, seed: dirichlet(data, 7, alpha=0.5, seed=seed, self_balancing=True),
    "shard": lambda data, seed: shard(data, 7, seed=seed),
    "natural_id": lambda data, seed: list(natural_id(data, "owner").values()),
}


def rows_of(clients):
    return [list(client["row"]) for client in clients]


def mixtures(clients):
    """Share of each class in each client, [clients, classes]."""
    return np.array([np.bincount(client["labels"], minlength=CLASSES) / len(client) for client in clients])


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_belongs_to_exactly_one_client(split, digits):
    clients = SPLITS[split](digits, 0)
    assert sorted(row for rows in rows_of(clients) for row in rows) == list(range(ROWS))
    assert all(client.features == digits.features for client in clients)


@pytest.mark.parametrize("split", SPLITS)
def test_clients_are_views(split, digits):
    def addresses(data):
        return {chunk.buffers()[1].address for chunk in data.data.column("row").chunks}

    for client in SPLITS[split](digits, 0):
        assert addresses(client) == addresses(digits)


@pytest.mark.parametrize("split", ["iid", "dirichlet", "balancing", "shard"])
def test_the_seed_decides(split, digits):
    first, again, other = (rows_of(SPLITS[split](digits, seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("split", ["iid", "dirichlet", "shard"])
def test_a_view_of_a_view_is_split_by_its_own_rows(split, digits):
    half = digits.select(range(0, ROWS, 2))
    assert sorted(row for rows in rows_of(SPLITS[split](half, 0)) for row in rows) == list(range(0, ROWS, 2))


def test_iid_parts_are_equal_and_mixed(digits):
    clients = iid(digits, 7)
    assert {len(client) for client in clients} == {ROWS // 7, ROWS // 7 + 1}
    assert np.abs(mixtures(clients) - mixtures([digits])).max() < 0.15


def dirichlet_by_rows(labels, num_clients, alpha, min_size, seed, self_balancing):
    """The partitioner of flwr-datasets, row by row: the oracle, with its order of random numbers."""
    rng = np.random.default_rng(seed)
    while True:
        clients = [[] for _ in range(num_clients)]
        for label in sorted(set(labels)):
            rows = [row for row, of_row in enumerate(labels) if of_row == label]
            shares = list(rng.dirichlet([alpha] * num_clients))
            if self_balancing:
                shares = [0 if len(c) > len(labels) / num_clients else s for c, s in zip(clients, shares, strict=True)]
                shares = [share / sum(shares) for share in shares]
            start = 0
            for client, end in zip(
                clients, [int(x) for x in np.cumsum(shares)[:-1] * len(rows)] + [None], strict=True
            ):
                client.extend(rows[start:end])
                start = end
        if min(map(len, clients)) >= min_size:
            break
    for client in clients:
        rng.shuffle(client)
    return clients


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha, min_size, self_balancing", [(0.5, 10, False), (0.5, 30, True), (100.0, 0, False)])
def test_dirichlet_is_the_known_partitioner(digits, alpha, min_size, self_balancing, seed):
    options = {"alpha": alpha, "min_size": min_size, "seed": seed, "self_balancing": self_balancing}
    expected = dirichlet_by_rows(list(digits["labels"]), 6, **options)
    assert rows_of(dirichlet(digits, 6, **options)) == expected


def test_large_alpha_is_iid(digits):
    clients = dirichlet(digits, 6, alpha=1e6)
    assert np.abs(mixtures(clients) - mixtures([digits])).max() < 0.02
    assert max(len(client) for client in clients) - min(len(client) for client in clients) <= CLASSES


def test_small_alpha_gives_each_class_to_one_client(digits):
    clients = dirichlet(digits, 3, alpha=1e-4, min_size=1)
    owners = (mixtures(clients) > 0).sum(0)
    assert owners.tolist() == [1] * CLASSES


def test_heterogeneity_falls_with_alpha(digits):
    spread = [mixtures(dirichlet(digits, 6, alpha=alpha)).std(0).mean() for alpha in (0.1, 1.0, 10.0, 100.0)]
    assert spread == sorted(spread, reverse=True)


def test_min_size_is_kept(digits):
    assert min(map(len, dirichlet(digits, 6, alpha=0.3, min_size=40, seed=1))) >= 40
    assert min(map(len, dirichlet(digits, 6, alpha=0.3, min_size=0, seed=1))) < 40


def test_self_balancing_keeps_clients_alike_in_size(digits):
    def largest(self_balancing):
        draws = (dirichlet(digits, 6, 0.1, min_size=0, seed=s, self_balancing=self_balancing) for s in range(10))
        return np.mean([max(map(len, clients)) for clients in draws])

    assert largest(True) < 0.8 * largest(False)


def test_self_balancing_survives_shares_for_full_clients_only(digits):
    clients = dirichlet(digits, 6, alpha=1e-5, min_size=0, self_balancing=True)
    assert sum(map(len, clients)) == ROWS


def test_shards_hold_few_classes(digits):
    clients = shard(digits, 10, shards_per_client=2)
    assert (mixtures(clients) > 0).sum(1).max() <= 2 * 2
    assert {len(client) for client in clients} == {ROWS // 10}
    assert shard(digits, 1)[0].num_rows == ROWS


def test_one_client_has_everything(digits):
    for clients in (iid(digits, 1), dirichlet(digits, 1, alpha=0.1), shard(digits, 1)):
        assert [len(client) for client in clients] == [ROWS]


def test_natural_id_names_the_clients(digits):
    clients = natural_id(digits, "owner")
    assert set(clients) == {"ward 0", "ward 1", "ward 2"}
    for owner, client in clients.items():
        assert set(client["owner"]) == {owner}
        assert list(client["row"]) == sorted(client["row"])


def test_labels_may_be_words():
    data = Dataset.from_dict({"kind": ["cat", "dog"] * 50})
    assert sum(map(len, dirichlet(data, 2, alpha=5.0, label_column="kind"))) == 100


def test_tensor_format_is_kept(digits):
    client = shard(digits.with_format("torch"), 3)[0]
    assert client[0]["labels"].ndim == 0


BAD = {
    "no clients": (lambda d: iid(d, 0), "`num_clients` must be at least 1, got 0"),
    "more clients than rows": (lambda d: iid(d, ROWS + 1), "has 600 rows, too few for `num_clients`: 601 clients"),
    "min_size": (lambda d: dirichlet(d, 61, 1.0), "has 600 rows, too few.*61 clients with `min_size`=10"),
    "shards": (lambda d: shard(d, 301), "too few.*301 clients with `shards_per_client`=2"),
    "no shards": (lambda d: shard(d, 2, shards_per_client=0), "`shards_per_client` must be at least 1, got 0"),
    "negative min_size": (lambda d: dirichlet(d, 2, 1.0, min_size=-1), "`min_size` must not be negative, got -1"),
    "alpha zero": (lambda d: dirichlet(d, 2, 0.0), "`alpha` must be a finite number above 0, got 0.0"),
    "alpha NaN": (lambda d: dirichlet(d, 2, float("nan")), "`alpha` must be a finite number above 0, got nan"),
    "unreachable": (lambda d: dirichlet(d, 20, 0.01, min_size=25), "none of 1000 draws.*lower `min_size`"),
    "column": (lambda d: dirichlet(d, 2, 1.0, label_column="label"), "no column 'label'; its columns: row, labels"),
    "shard column": (lambda d: shard(d, 2, label_column="x"), "no column 'x'"),
    "owner column": (lambda d: natural_id(d, "x"), "no column 'x'"),
    "all splits": (lambda d: iid(DatasetDict(train=d), 2), "`dataset` must be one split.*got DatasetDict"),
    "empty": (lambda d: natural_id(d.select([]), "owner"), "has 0 rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case, digits):
    split, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        split(digits)


@pytest.mark.parametrize("values", [["a", None], [[0], [1]], [0.0, float("nan")]])
def test_a_column_without_one_group_per_row_is_named(values):
    data = Dataset.from_dict({"who": values})
    with pytest.raises(ValueError, match="column 'who' must hold one number or string for each row.* in row"):
        natural_id(data, "who")
