# SPDX-License-Identifier: Apache-2.0
"""Networks whose features tell how alike two sets of images are: a small one for the embedded data, and Inception."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from gan_data import ImageRows
from torch import Tensor, nn
from torch.nn import functional as F


WIDTH = 64
STEPS, BATCH, RATE = 400, 64, 2e-3


class SmallFeatures(nn.Module):
    """Convolutions down to 4 x 4 pixels, 64 features, and a linear map to labels or factors.

    Args:
        size (`int`): side of the images.
        channels (`int`): of the images.
        outputs (`int`): number of classes or factors.
    """

    width = WIDTH

    def __init__(self, size: int, channels: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while size > 4:
            layers += [nn.Conv2d(channels, 32, 3, stride=2, padding=1), nn.ReLU()]
            size, channels = size // 2, 32
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size**2, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


class InceptionFeatures(nn.Module):
    """The 2,048 features behind FID, by torch-fidelity.

    Args:
        weights (`Path`, *optional*): file of its weights; downloaded by default.
    """

    width = 2048

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = None if weights is None else str(weights)
        try:
            if path is not None:
                torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity would run what a file brings
            self.network: Any = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            source = path or "the weights could not be downloaded: pass their file as --inception_weights"
            raise ValueError(f"--eval_features inception: {source}: {error}") from error

    def forward(self, images: Tensor) -> Tensor:
        colours = images[:, :3] if images.shape[1] > 1 else images.expand(-1, 3, -1, -1)
        pixels = (colours.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
        return self.network(pixels)[0]


def fit_features(rows: ImageRows, seed: int = 0) -> tuple[SmallFeatures, float]:
    """A small network that knows the labels or factors of embedded images, and its loss at the end of the training.

    Leaves the random numbers of the process alone.

    Args:
        rows ([`ImageRows`]): in memory, with labels or factors.
        seed (`int`, *optional*, defaults to 0): of its weights and batches.
    """
    targets = rows.labels if rows.labels is not None else rows.factors
    if targets is None:
        raise ValueError("features need labels or factors of the images")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = SmallFeatures(rows.size, rows.channels, rows.classes or targets.shape[1])
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        losses = []
        for _ in range(STEPS):
            chosen = torch.randint(len(rows), (BATCH,))
            guess = network.head(network(rows.images[chosen]))
            wanted = targets[chosen]
            loss = F.mse_loss(guess, wanted) if wanted.is_floating_point() else F.cross_entropy(guess, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return network.eval().requires_grad_(False), sum(losses[-20:]) / 20
