# SPDX-License-Identifier: Apache-2.0
"""What a run looks at on its way: a grid of images, and their Frechet distance from the data."""

import argparse
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from gan_data import MODES, ImageRows
from gan_features import InceptionFeatures, fit_features
from gan_frechet import FeatureSums, frechet_distance
from torch import Tensor
from torch.nn.functional import one_hot


#: Seeds of the images that are looked at; training draws from other streams.
GRID_SEED, DISTANCE_SEED = 0, 1_000_000


class Evaluation:
    """Grids in `samples/`, and distances.

    Args:
        args (`argparse.Namespace`): with the options of the evaluation.
        accelerator (`Accelerator`): shares the work out.
        rows ([`ImageRows`]): the data.
    """

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator, rows: ImageRows) -> None:
        self.args, self.accelerator, self.rows = args, accelerator, rows

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        """Writes the grid; returns the distance, if there is one. Collective over the processes.

        Args:
            model ([`StyleGAN2Generator`]): averaged generator.
            step (`int`): number of the step.
        """
        if self.accelerator.is_main_process:
            path = self.args.output_dir / "samples" / f"step_{step:06d}.png"
            write_grid(path, self.grid(model), self.args.grid)
        if self.args.eval_features == "none":
            return {}
        name = "fid" if self.args.eval_features == "inception" else "frechet_distance"
        return {name: frechet_distance(self.real, self.sums_of(self.fake_batches(model)))}

    def load(self) -> None:
        """Makes the network of the features now, so that what it lacks shows before the training and not after it."""
        if self.args.eval_features != "none":
            _ = self.network

    def grid(self, model: Any) -> Tensor:
        """Images of fixed latents; of a conditional model, one class per column."""
        count = self.args.grid**2
        labels = torch.arange(count) % self.args.grid % max(1, model.config.c_dim)
        return model.sample(count, GRID_SEED, self._conditions(model, labels), batch_size=self.args.eval_batch_size)

    @cached_property
    def network(self) -> Any:
        """Features, on the device."""
        if self.args.eval_features == "inception":
            network: Any = InceptionFeatures(self.args.inception_weights)
        else:
            network, loss = fit_features(self.rows)
            self.accelerator.print(f"features: loss {loss:.4f} on the data that they were trained on")
        return network.to(self.accelerator.device)

    @cached_property
    def real(self) -> FeatureSums:
        """Features of all images of the data."""
        mine = range(self.accelerator.process_index, len(self.rows), self.accelerator.num_processes)
        size = self.args.eval_batch_size
        chunks = (mine[start : start + size] for start in range(0, len(mine), size))
        return self.sums_of(torch.stack([self.rows.image(row) for row in chunk]) for chunk in chunks)

    def fake_batches(self, model: Any) -> Any:
        """This process's share of the generated images, the same for the same weights."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        mine = len(range(rank, self.args.eval_samples, processes))
        draws = torch.Generator().manual_seed(DISTANCE_SEED + rank)
        size = self.args.eval_batch_size
        for number, start in enumerate(range(0, mine, size)):
            count = min(size, mine - start)
            labels = torch.zeros(count, dtype=torch.long)
            if self.rows.labels is not None:
                labels = self.rows.labels[torch.randint(len(self.rows), (count,), generator=draws)]
            seed = DISTANCE_SEED + (number + 1) * processes + rank
            yield model.sample(count, seed, self._conditions(model, labels), batch_size=count)

    @torch.no_grad()
    def sums_of(self, batches: Any) -> FeatureSums:
        """Features of batches of images, summed over the processes."""
        found = FeatureSums(self.network.width)
        for images in batches:
            found.add(self.network(images.to(self.accelerator.device).float()))
        if self.accelerator.num_processes == 1:
            return found
        device = self.accelerator.device
        return found.reduced(lambda sums: self.accelerator.reduce(sums.to(device), reduction="sum").cpu())

    def _conditions(self, model: Any, labels: Tensor) -> Tensor | None:
        size = model.config.c_dim
        return one_hot(labels, size).float().to(self.accelerator.device) if size else None


def write_grid(path: Path, images: Tensor, columns: int) -> None:
    """A PNG file with images side by side, whole or not at all.

    Args:
        path (`Path`): the file.
        images (`Tensor` of shape `(images, channels, side, side)`): from -1 to 1.
        columns (`int`): images per row.
    """
    from PIL import Image

    count, channels, side, _ = images.shape
    cells = images.new_ones(-(-count // columns) * columns, channels, side, side)
    cells[:count] = images
    pixels = (cells * 127.5 + 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    grid = pixels.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    array = grid.squeeze(2).numpy() if channels == 1 else grid.numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    Image.fromarray(array, MODES[channels]).save(temporary, format="PNG")
    os.replace(temporary, path)
