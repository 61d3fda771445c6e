# SPDX-License-Identifier: Apache-2.0
"""The datasets of this package with settings that make them small."""

import dataclasses
from typing import Any

from eigenhub.hub.datasets import EmbeddedDataset, get_dataset


FEW: dict[str, dict[str, Any]] = {
    "arithmetic": {"num_train": 8, "num_test": 4},
    "discs": {"num_train": 6, "num_test": 4},
    "docstrings": {"packages": ["email"]},
    "facts": {"num_known": 2, "num_unknown": 1, "num_new": 3, "num_replay": 4},
    "glyphs": {"train_per_class": 2, "test_per_class": 1},
    "listops": {"num_train": 6, "num_validation": 2, "num_test": 2},
    "pathfinder": {"num_train": 4, "num_test": 2},
    "pendulum": {"num_train": 4, "num_test": 2},
    "shapes": {"num_train": 6, "num_test": 4},
}


def tiny(slug: str) -> EmbeddedDataset:
    """A dataset with the smaller settings, where it has any."""
    dataset = get_dataset(slug)
    configs = {name: settings | FEW.get(slug, {}) for name, settings in dataset.configs.items()}
    return dataclasses.replace(dataset, configs=configs)
