# SPDX-License-Identifier: Apache-2.0
"""A cache whose embedded model of facts is a smaller one, trained in seconds: it knows some facts and confuses others."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

from eigenhub.embedded import fact_model
from eigenhub.embedded.cache import RECIPE_FILE, recipe_key


STEPS, WIDTH, LAYERS = 260, 32, 3


def fill_cache(home: Path) -> None:
    """Put a smaller model where the embedded one would be looked for; it is kept between runs of the tests.

    Args:
        home (`Path`): to be named by `EIGENHUB_HOME`.
    """
    asked: dict[str, object] = {}

    def note(name: str, recipe: Mapping[str, object], build: Callable[[Path], None]) -> Path:
        asked.update(recipe)
        return home / name / recipe_key(recipe)

    with mock.patch.object(fact_model, "cached_folder", note):
        folder = fact_model.pretrained_fact_folder()
    made = fact_model.pretrained_fact_folder(num_steps=STEPS, hidden_size=WIDTH, num_layers=LAYERS, lr=5e-3)
    shutil.copytree(made, folder)
    assert asked and (folder / RECIPE_FILE).is_file()
