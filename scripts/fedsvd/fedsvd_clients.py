# SPDX-License-Identifier: Apache-2.0
"""One data set dealt out to clients, and the part of each client's rows that is only evaluated on."""

import argparse

import numpy as np
from datasets import Dataset
from fedsvd_checks import numbered

from eigenhub.federated import dirichlet, iid, natural_id, shard


def deal(args: argparse.Namespace, rows: Dataset, label_column: str | None) -> dict[str, Dataset]:
    """Rows by client, as `--partition` says.

    Args:
        args (`argparse.Namespace`): of the script.
        rows (`Dataset`): everything that belongs to clients.
        label_column (`str`, *optional*): column of classes, for `dirichlet` and `shard`.
    """
    if args.partition == "natural_id":
        return {str(owner): of_owner for owner, of_owner in natural_id(rows, args.client_column).items()}
    if args.partition == "iid":
        parts = iid(rows, args.clients, seed=args.seed)
    elif args.partition == "dirichlet":
        options = {"min_size": args.min_client_size, "seed": args.seed}
        parts = dirichlet(rows, args.clients, args.dirichlet_alpha, str(label_column), **options)
    else:
        parts = shard(rows, args.clients, args.shards_per_client, str(label_column), seed=args.seed)
    return dict(zip(numbered(args.clients), parts, strict=True))


def hold_out(args: argparse.Namespace, clients: dict[str, Dataset]) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
    """Training rows and held-out rows of every client; a client keeps at least one row to train on.

    Args:
        args (`argparse.Namespace`): of the script.
        clients (`dict[str, Dataset]`): all rows by client.
    """
    if not args.client_eval_share:
        return clients, {}
    kept, held_out = {}, {}
    for position, (name, rows) in enumerate(clients.items()):
        if len(rows) < 2:
            raise ValueError(f"--client_eval_share: client {name} has {len(rows)} rows, of which none can be held out")
        order = np.random.default_rng([args.seed, position]).permutation(len(rows))
        count = min(max(1, round(args.client_eval_share * len(rows))), len(rows) - 1)
        kept[name], held_out[name] = rows.select(order[count:]), rows.select(order[:count])
    return kept, held_out


def set_public_aside(args: argparse.Namespace, rows: Dataset) -> tuple[Dataset | None, Dataset]:
    """The public rows, whose text a model may be pretrained on, and those of the clients.

    Args:
        args (`argparse.Namespace`): of the script.
        rows (`Dataset`): the training split.
    """
    count = round(args.public_share * len(rows))
    if not count:
        return None, rows
    order = np.random.default_rng(args.seed).permutation(len(rows))
    return rows.select(order[:count]), rows.select(order[count:])
