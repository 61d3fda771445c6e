# SPDX-License-Identifier: Apache-2.0
"""The embedded generator. It comes with the Space, so that there are pictures at once; run this file to train it again."""

import shutil
from pathlib import Path

from eigenhub.embedded.shape_generator import UNPROJECTED_FOLDER, pretrained_shape_generator_folder


SHAPES_FOLDER = Path(__file__).parent / "shapes"
UNPROJECTED_SHAPES_FOLDER = SHAPES_FOLDER / UNPROJECTED_FOLDER


def trained() -> Path:
    """A folder with the generator, trained for longer than by default: only then are squares told from discs."""
    return pretrained_shape_generator_folder(num_steps=5000, tuning_steps=2000)


if __name__ == "__main__":
    shutil.copytree(trained(), SHAPES_FOLDER, copy_function=shutil.copyfile, dirs_exist_ok=True)
