# SPDX-License-Identifier: Apache-2.0
"""Adapters to look at without a network: small federated runs on the digits, made once and kept in the cache."""

import tempfile
from pathlib import Path

from federation import TRAINING, new_trainer
from names import EMBEDDED, EMBEDDED_PRIVATE
from settings import Settings

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.vit import pretrained_vit_folder


RUNS = {
    EMBEDDED: Settings(clients=4, method="fedavg", rounds=8),
    EMBEDDED_PRIVATE: Settings(clients=4, method="ffa", rounds=8, epsilon=6.0),
}


def embedded_folder(name: str) -> Path:
    """
    The folder of an embedded adapter, made now if it is not there yet.

    Args:
        name (`str`): key of `RUNS`.
    """
    settings = RUNS[name]

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as rounds, TRAINING:
            trainer = new_trainer(settings, rounds, use_cpu=True)
            trainer.eval_dataset = None  # nobody looks at the rounds
            trainer.train()
            trainer.save_pretrained(folder)

    recipe = {"settings": settings.to_dict(), "base": pretrained_vit_folder().name}
    return cached_folder("fedsvd-space", recipe, build)
