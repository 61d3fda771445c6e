# SPDX-License-Identifier: Apache-2.0
"""The networks of one training run, and the folder that holds them."""

import os
from dataclasses import dataclass
from pathlib import Path

from eigenhub.models.stylegan2.modeling_stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator


DISCRIMINATOR_FOLDER = "discriminator"
RAW_FOLDER = "generator_raw"


@dataclass
class StyleGAN2Networks:
    """What a checkpoint of another code holds.

    Args:
        generator_ema ([`StyleGAN2Generator`], *optional*): averaged weights, for images.
        generator ([`StyleGAN2Generator`], *optional*): the last weights, to train on.
        discriminator ([`StyleGAN2Discriminator`], *optional*): its opponent.

    Example:

    ```python
    >>> import tempfile
    >>> from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator, StyleGAN2Networks
    >>> model = StyleGAN2Generator(StyleGAN2Config(z_dim=8, w_dim=8, img_resolution=8, channel_max=4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     StyleGAN2Networks(generator_ema=model).save_pretrained(folder)
    ...     StyleGAN2Networks.from_pretrained(folder).generator_ema.config.img_resolution
    8
    ```
    """

    generator_ema: StyleGAN2Generator | None = None
    generator: StyleGAN2Generator | None = None
    discriminator: StyleGAN2Discriminator | None = None

    @property
    def best_generator(self) -> StyleGAN2Generator:
        """The averaged generator, or the only one."""
        found = self.generator_ema if self.generator_ema is not None else self.generator
        if found is None:
            raise ValueError("the checkpoint holds no generator")
        return found

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes the best generator to the folder, the discriminator and the last generator to folders below it.

        Args:
            folder (`str`): where to write.
        """
        self.best_generator.save_pretrained(folder)
        if self.discriminator is not None:
            self.discriminator.save_pretrained(Path(folder) / DISCRIMINATOR_FOLDER)
        if self.generator is not None and self.generator_ema is not None:
            self.generator.save_pretrained(Path(folder) / RAW_FOLDER)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> "StyleGAN2Networks":
        """Reads what [`save_pretrained`] wrote; for a repository on the Hub see `snapshot_download`.

        Args:
            folder (`str`): a folder on this machine.
        """
        folder = Path(folder)
        below = {name: (folder / name).is_dir() for name in (DISCRIMINATOR_FOLDER, RAW_FOLDER)}
        return cls(
            StyleGAN2Generator.from_pretrained(folder),
            StyleGAN2Generator.from_pretrained(folder / RAW_FOLDER) if below[RAW_FOLDER] else None,
            StyleGAN2Discriminator.from_pretrained(folder / DISCRIMINATOR_FOLDER)
            if below[DISCRIMINATOR_FOLDER]
            else None,
        )
