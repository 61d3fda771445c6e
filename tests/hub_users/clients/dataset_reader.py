# SPDX-License-Identifier: Apache-2.0
"""Loads every dataset from the Hub and runs its card; prints those whose rows differ from what the package makes."""

import json

from datasets import load_dataset

from eigenhub.hub.datasets import dataset_slugs
from tests.hub.tiny_datasets import tiny
from tests.hub_users.card_code import run_card


def differs(slug: str, config: str) -> bool:
    found, made = load_dataset(f"users/{slug}", config), tiny(slug).load(config)
    if found.num_rows != made.num_rows:
        return True
    return any(
        found[split].features != rows.features
        or not found[split].with_format("arrow")[:].equals(rows.with_format("arrow")[:])
        for split, rows in made.items()
    )


slugs = dataset_slugs()
changed = [f"{slug}, {config}" for slug in slugs for config in tiny(slug).configs if differs(slug, config)]
cards = {slug: run_card(f"users/{slug}", "dataset") for slug in slugs}
print(json.dumps({"slugs": slugs, "changed": changed, "cards": cards}))
