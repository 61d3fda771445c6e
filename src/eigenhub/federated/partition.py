# SPDX-License-Identifier: Apache-2.0
"""One data set as the private data of many clients: at random, skewed by class, in shards, or by a column that says whose.

The parts are views of the data set (`Dataset.select`): no row is copied, every row belongs to exactly one client, and the
same seed gives the same clients on every machine.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from datasets import Dataset


#: How often [`dirichlet`] draws anew before it says that `min_size` is out of reach.
MAX_DRAWS = 1000


def iid(dataset: Dataset, num_clients: int, seed: int = 0) -> list[Dataset]:
    """
    Equal parts of a shuffled data set; sizes differ by one row at most.

    Args:
        dataset (`Dataset`): one split.
        num_clients (`int`): number of parts, at most one per row.
        seed (`int`, *optional*, defaults to 0): of the shuffle.

    Returns:
        `list[Dataset]`: one per client.
    """
    _check_clients(dataset, num_clients)
    order = np.random.default_rng(seed).permutation(len(dataset))
    return _views(dataset, np.array_split(order, num_clients))


def dirichlet(
    dataset: Dataset,
    num_clients: int,
    alpha: float,
    label_column: str = "labels",
    min_size: int = 10,
    seed: int = 0,
    self_balancing: bool = False,
) -> list[Dataset]:
    r"""
    Clients with different mixtures of classes: the rows of class c are cut by $p_c \sim \mathrm{Dir}(\alpha 1_K)$.

    A large `alpha` gives every client the same mixture, an `alpha` near zero gives each class to one client. All classes
    are drawn anew until each client has `min_size` rows. For the same seed the clients are those of `flwr-datasets`'
    `DirichletPartitioner` (arXiv 1909.06335), which gives up after eleven draws.

    Args:
        dataset (`Dataset`): one split.
        num_clients (`int`): number K of clients.
        alpha (`float`): concentration, above zero.
        label_column (`str`, *optional*, defaults to `"labels"`): column with one class per row.
        min_size (`int`, *optional*, defaults to 10): rows that each client must have.
        seed (`int`, *optional*, defaults to 0): of the draws and of the order of each client's rows.
        self_balancing (`bool`, *optional*, defaults to `False`):
            Whether a client that has more than its share of rows gets none of the classes that come later.

    Returns:
        `list[Dataset]`: one per client.

    Raises:
        ValueError: too few rows, an unknown column, `alpha` not above zero, or no draw with `min_size` rows everywhere.

    Example:

    ```python
    >>> from datasets import Dataset
    >>> from eigenhub.federated import dirichlet
    >>> rows = Dataset.from_dict({"labels": [0, 1] * 50})
    >>> sum(len(client) for client in dirichlet(rows, num_clients=4, alpha=0.5))
    100
    ```
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"`alpha` must be a finite number above 0, got {alpha}")
    _check_clients(dataset, num_clients, min_size)
    classes = _rows_by_class(dataset, label_column)
    rng = np.random.default_rng(seed)
    for _ in range(MAX_DRAWS):
        sizes = _draw_sizes([len(rows) for rows in classes], num_clients, alpha, self_balancing, rng)
        if sizes.sum(0).min() >= min_size:
            return _views(dataset, _deal(classes, sizes, rng))
    raise ValueError(
        f"none of {MAX_DRAWS} draws gave each of {num_clients} clients `min_size`={min_size} of {len(dataset)} rows at "
        f"`alpha`={alpha}: lower `min_size` or raise `alpha`"
    )


def shard(
    dataset: Dataset, num_clients: int, shards_per_client: int = 2, label_column: str = "labels", seed: int = 0
) -> list[Dataset]:
    """
    Clients that know few classes: rows sorted by class, cut into equal shards, some shards for each client at random.

    This is the split of the paper on federated averaging (McMahan et al., 2017, arXiv 1602.05629).

    Args:
        dataset (`Dataset`): one split.
        num_clients (`int`): number of clients.
        shards_per_client (`int`, *optional*, defaults to 2): shards for each, so at most so many classes and a few more.
        label_column (`str`, *optional*, defaults to `"labels"`): column with one class per row.
        seed (`int`, *optional*, defaults to 0): of who gets which shard and of the order of each client's rows.

    Returns:
        `list[Dataset]`: one per client; sizes differ by `shards_per_client` rows at most.
    """
    if shards_per_client < 1:
        raise ValueError(f"`shards_per_client` must be at least 1, got {shards_per_client}")
    _check_clients(dataset, num_clients, shards_per_client, "shards_per_client")
    rng = np.random.default_rng(seed)
    by_class = np.concatenate(_rows_by_class(dataset, label_column))
    shards = np.array_split(by_class, num_clients * shards_per_client)
    dealt = rng.permutation(len(shards)).reshape(num_clients, shards_per_client)
    return _views(dataset, [rng.permutation(np.concatenate([shards[i] for i in mine])) for mine in dealt])


def natural_id(dataset: Dataset, column: str) -> dict[Hashable, Dataset]:
    """
    The clients that the data itself names: one per value of a column, such as a writer, a hospital or a device.

    Args:
        dataset (`Dataset`): one split.
        column (`str`): column with the owner of each row.

    Returns:
        `dict[Hashable, Dataset]`: by owner, in the order in which they appear; each keeps the order of its rows.
    """
    owners = _column(dataset, column)
    _check_clients(dataset, 1)
    rows = _rows_by_value(owners)
    return dict(zip(rows, _views(dataset, list(rows.values())), strict=True))


def _check_clients(dataset: Dataset, num_clients: int, rows_each: int = 1, name: str = "min_size") -> None:
    """Raise `ValueError` unless each client can have its rows."""
    if not isinstance(dataset, Dataset):
        raise ValueError(f"`dataset` must be one split, a `datasets.Dataset`; got {type(dataset).__name__}")
    if num_clients < 1:
        raise ValueError(f"`num_clients` must be at least 1, got {num_clients}")
    if rows_each < 0:
        raise ValueError(f"`{name}` must not be negative, got {rows_each}")
    if len(dataset) < num_clients * max(rows_each, 1):
        each = f"{num_clients} clients with `{name}`={rows_each}" if rows_each > 1 else f"{num_clients} clients"
        raise ValueError(f"`dataset` has {len(dataset)} rows, too few for `num_clients`: {each}")


def _column(dataset: Dataset, name: str) -> list[Hashable]:
    """The values of a column that has one for each row."""
    if name not in dataset.column_names:
        raise ValueError(f"`dataset` has no column {name!r}; its columns: {', '.join(dataset.column_names)}")
    values = dataset.with_format(None)[name][:]
    bad = next((row for row, value in enumerate(values) if not _names_a_group(value)), None)
    if bad is not None:
        raise ValueError(
            f"column {name!r} must hold one number or string for each row, got {values[bad]!r} in row {bad}"
        )
    return values


def _names_a_group(value: object) -> bool:
    return isinstance(value, Hashable) and value is not None and value == value  # NaN differs from itself


def _rows_by_value(values: Sequence[Hashable]) -> dict[Hashable, np.ndarray]:
    """Row numbers of each value, values in the order in which they appear."""
    rows: dict[Hashable, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(value, []).append(row)
    return {value: np.array(of_value) for value, of_value in rows.items()}


def _rows_by_class(dataset: Dataset, label_column: str) -> list[np.ndarray]:
    """Row numbers of each class, classes in ascending order."""
    rows = _rows_by_value(_column(dataset, label_column))
    return [rows[label] for label in sorted(rows)]  # type: ignore[type-var]  # a column has one type


def _draw_sizes(
    class_sizes: Sequence[int], num_clients: int, alpha: float, self_balancing: bool, rng: np.random.Generator
) -> np.ndarray:
    """Rows of each class for each client, [classes, clients]."""
    sizes = np.zeros((len(class_sizes), num_clients), dtype=np.int64)
    fair_share = sum(class_sizes) / num_clients
    for index, size in enumerate(class_sizes):
        shares = rng.dirichlet(np.full(num_clients, alpha))
        if self_balancing:
            shares = _without_the_full(shares, sizes.sum(0) <= fair_share)
        ends = (shares.cumsum()[:-1] * size).astype(np.int64)
        sizes[index] = np.diff(ends, prepend=0, append=size)
    return sizes


def _without_the_full(shares: np.ndarray, has_room: np.ndarray) -> np.ndarray:
    """Shares of the clients that have room only; they divide equally what is drawn for the full ones alone."""
    shares = np.where(has_room, shares, 0.0)
    return shares / shares.sum() if shares.sum() > 0 else has_room / has_room.sum()


def _deal(classes: Sequence[np.ndarray], sizes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Each client's rows, shuffled: a client's data are not sorted by class."""
    cut = [np.split(rows, of_class.cumsum()[:-1]) for rows, of_class in zip(classes, sizes, strict=True)]
    clients = [np.concatenate(parts) for parts in zip(*cut, strict=True)]
    for rows in clients:
        rng.shuffle(rows)
    return clients


def _views(dataset: Dataset, rows: Sequence[np.ndarray]) -> list[Dataset]:
    return [dataset.select(of_client) for of_client in rows]
