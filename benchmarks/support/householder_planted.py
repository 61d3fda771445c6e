# SPDX-License-Identifier: Apache-2.0
"""Single runs of the planted-factor study, with the weights that they ended at."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from eigenhub.models.stylegan2 import StyleGAN2Generator


sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "householder"))

from planted import ARMS, PlantedWorld, new_generator, pretrained, tuned  # noqa: E402
from planted_measures import measured  # noqa: E402


PRETRAINED, PROJECTED = "pretrained", "projected"


def planted_run(arm: str, seed: int, pretrain_steps: int, tune_steps: int, folder: Path) -> dict[str, Any]:
    """What one arm has learned.

    Args:
        arm (`str`): one of [`ARMS`], `"pretrained"`, or `"projected"` for the projector before it is tuned.
        seed (`int`): of the world and of all weights.
        pretrain_steps (`int`): steps with ordinary affines.
        tune_steps (`int`): steps after that.
        folder (`Path`): where weights are kept.
    """
    started = time.process_time()
    model = planted_model(arm, seed, pretrain_steps, tune_steps, folder)
    return {**measured(model, PlantedWorld(seed)), "seconds": time.process_time() - started}


def planted_model(arm: str, seed: int, pretrain_steps: int, tune_steps: int, folder: Path) -> StyleGAN2Generator:
    """The generator of one arm, trained now or read.

    Args:
        arm (`str`): see [`planted_run`], as for the others.
        seed (`int`): seed.
        pretrain_steps (`int`): steps with ordinary affines.
        tune_steps (`int`): steps after that.
        folder (`Path`): where weights are kept.
    """
    world = PlantedWorld(seed)
    if arm == PRETRAINED:
        model, steps = new_generator(seed), str(pretrain_steps)
    else:
        model, steps = (
            planted_model(PRETRAINED, seed, pretrain_steps, tune_steps, folder),
            f"{pretrain_steps}-{tune_steps}",
        )
    if arm == PROJECTED:
        ARMS["projector"].prepare(model)
        return model
    path = folder / "weights" / f"{arm}-seed{seed}-{steps}.safetensors"
    if path.is_file():
        if arm != PRETRAINED:
            ARMS[arm].prepare(model)
        model.load_state_dict(load_file(path))
        return model
    model = pretrained(world, pretrain_steps) if arm == PRETRAINED else tuned(model, world, ARMS[arm], tune_steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, unfinished)
    os.replace(unfinished, path)
    return model
