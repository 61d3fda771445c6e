# SPDX-License-Identifier: Apache-2.0
"""A small StyleGAN2 of coloured shapes, with projectors and without, trained in about a minute and kept in the cache."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from tqdm.auto import tqdm

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.shapes import FACTORS, render_shapes
from eigenhub.linalg import orthonormalize
from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from eigenhub.training.schedule import lr_schedule


#: The folder below, of the generator as it was before it got projectors.
UNPROJECTED_FOLDER = "unprojected"
NUM_AVERAGED = 4096  # latents of the mean style latent
WARMUP = 20  # steps


def shape_generator_config(size: int = 32) -> StyleGAN2Config:
    """Up to 32 channels and one mapping layer: about 46,000 parameters at 32 x 32.

    Args:
        size (`int`, *optional*, defaults to 32): side of the images.
    """
    return StyleGAN2Config(
        z_dim=8,
        w_dim=32,
        img_resolution=size,
        channel_base=8 * size,
        channel_max=32,
        mapping_layers=1,
        mapping_lr_multiplier=1.0,
    )


def latent_factors(z: Tensor) -> Tensor:
    r"""The factors that a latent stands for: $\Phi(\bar z_i)$ of its first six entries, with the normal distribution function.

    $\bar z = z / \sqrt{\operatorname{mean} z^2}$ is what the generator reads of a latent. The other entries stand for nothing.

    Args:
        z (`Tensor` of shape `(count, z_dim)`): latents.

    Returns:
        `Tensor` of shape `(count, 6)`, nearly uniform in [0, 1], in the order of [`FACTORS`].
    """
    unit = z * z.square().mean(1, keepdim=True).clamp(min=1e-8).rsqrt()
    return torch.special.ndtr(unit[:, : len(FACTORS)])


def pretrained_shape_generator_folder(
    num_steps: int = 1500,
    tuning_steps: int = 600,
    rank: int = len(FACTORS),
    size: int = 32,
    batch_size: int = 16,
    lr: float = 8e-3,
    tuning_lr: float = 2e-3,
    seed: int = 0,
) -> Path:
    """
    Folder of a [`StyleGAN2Generator`] of shapes whose convolutions all have projectors, for `from_pretrained`.

    It is trained without an adversary, by regression of images on the factors of a latent; then every convolution gets the nearest
    projector, and all of it is trained a little longer. The generator as it was before lies in the folder `"unprojected"` below.

    The first call trains both (about 80 seconds on one core), later ones find them in the cache.

    Args:
        num_steps (`int`, *optional*, defaults to 1500): optimizer steps before the projectors.
        tuning_steps (`int`, *optional*, defaults to 600): optimizer steps with them.
        rank (`int`, *optional*, defaults to 6): of the projectors; one direction per factor.
        size (`int`, *optional*, defaults to 32): side of the images, a power of two.
        batch_size (`int`, *optional*, defaults to 16): images per step.
        lr (`float`, *optional*, defaults to 8e-3): peak learning rate of Adam.
        tuning_lr (`float`, *optional*, defaults to 2e-3): peak learning rate with projectors.
        seed (`int`, *optional*, defaults to 0): of weights and latents.

    Example:

    ```python
    >>> from eigenhub.embedded.shape_generator import pretrained_shape_generator_folder
    >>> from eigenhub.models.stylegan2 import StyleGAN2Generator

    >>> model = StyleGAN2Generator.from_pretrained(pretrained_shape_generator_folder())
    >>> model.sample(4).shape
    torch.Size([4, 3, 32, 32])
    ```
    """
    config = shape_generator_config(size)
    recipe = {
        "data": "shapes",
        "num_steps": num_steps,
        "tuning_steps": tuning_steps,
        "rank": rank,
        "batch_size": batch_size,
        "lr": lr,
        "tuning_lr": tuning_lr,
        "seed": seed,
        "config": config.to_diff_dict(),
    }

    def build(folder: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = StyleGAN2Generator(config)
            _pair_mapping(model)
            _regress(model, num_steps, batch_size, lr, 2 * seed, "training the embedded generator")
            model.save_pretrained(folder / UNPROJECTED_FOLDER)
            model.add_projectors([layer.name for layer in config.style_layers if layer.kind != "torgb"], rank)
            _regress(model, tuning_steps, batch_size, tuning_lr, 2 * seed + 1, "tuning it with projectors")
        model.save_pretrained(folder)

    return cached_folder("shape-generator", recipe, build)


@torch.no_grad()
def _pair_mapping(model: StyleGAN2Generator) -> None:
    """Starts the mapping at pairs of opposite rows: the differences of a pair are linear in the latent, in spite of the ReLU.

    From random mapping layers it takes several times as long until images are sharp.
    """
    first: Any = model.mapping.get_submodule("fc0")
    rows, columns = first.out_features // 2, first.in_features
    frame = orthonormalize(torch.randn(rows, columns)) * rows**0.5
    first.weight.copy_(torch.cat([frame, -frame]))


def _regress(
    model: StyleGAN2Generator, num_steps: int, batch_size: int, lr: float, seed: int, description: str
) -> None:
    """Adam on the squared error of fresh samples, without noise: the generator learns to do without."""
    draws = torch.Generator().manual_seed(seed)
    optimizer = Adam(model.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = lr_schedule(optimizer, "linear", min(WARMUP, num_steps), num_steps)
    model.train()
    for _ in tqdm(range(num_steps), desc=description):
        z = torch.randn(batch_size, model.config.z_dim, generator=draws)
        images = model.synthesis(model.mapping(z), noise_mode="none")
        optimizer.zero_grad()
        (images - render_shapes(latent_factors(z), model.config.img_resolution)).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        z = torch.randn(NUM_AVERAGED, model.config.z_dim, generator=draws)
        model.mapping.w_avg.copy_(model.mapping(z)[:, 0].mean(0))
    model.eval()
