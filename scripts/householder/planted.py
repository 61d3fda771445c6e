# SPDX-License-Identifier: Apache-2.0
"""A world whose semantic directions are known, a small StyleGAN2 that learns it, and the ways to train that one further."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from gan_arms import LowRankAffine
from torch import Tensor
from torch.optim import Adam

from eigenhub.embedded.shapes import FACTORS, render_shapes
from eigenhub.linalg import orthonormalize
from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from eigenhub.models.stylegan2.projectors import affine_of
from eigenhub.training.schedule import lr_schedule


#: The factors that vary; every shape is a disc.
VARIED = FACTORS[:5]
RANK, W_DIM, SIZE = len(VARIED), 32, 16
#: Every convolution with a style.
LAYERS = ("b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1")
BATCH, PRETRAIN_LR, TUNE_LR = 16, 3e-3, 2e-3
#: Batches of the pretraining, of the tuning and of the test: numbers that no seed of one shares with another.
PRETRAIN, TUNE, TEST = 1, 2, 3


@dataclass(frozen=True)
class PlantedWorld:
    r"""Style latents $w = M f + n$ with their images: $f$ holds 5 independent factors of unit variance, $n$ unit normal noise in the
    complement of the span of the orthonormal columns of $M$.

    Args:
        seed (`int`): of $M$, and of everything that is drawn from this world.
    """

    seed: int = 0

    @property
    def planted(self) -> Tensor:
        """$M$, `(32, 5)`."""
        draws = torch.Generator().manual_seed(self.seed)
        return orthonormalize(torch.randn(W_DIM, RANK, generator=draws))

    def draw(self, count: int, use: int) -> "PlantedSamples":
        """Samples, the same for the same count and use.

        Args:
            count (`int`): how many.
            use (`int`): what for: an offset of the seed.
        """
        draws = torch.Generator().manual_seed(1_000 * self.seed + use)
        factors = torch.rand(count, RANK, generator=draws)
        noise = torch.randn(count, W_DIM, generator=draws)
        planted = self.planted
        latents = (12**0.5 * (factors - 0.5)) @ planted.mT + noise - (noise @ planted) @ planted.mT
        return PlantedSamples(latents, factors, discs(factors))


@dataclass(frozen=True)
class PlantedSamples:
    """Style latents, what they stand for, and the images of that.

    Args:
        latents (`Tensor` of shape `(count, 32)`): style latents.
        factors (`Tensor` of shape `(count, 5)`): in [0, 1].
        images (`Tensor` of shape `(count, 3, 16, 16)`): in [-1, 1].
    """

    latents: Tensor
    factors: Tensor
    images: Tensor


@dataclass(frozen=True)
class Arm:
    """One way to go on from the pretrained generator.

    Args:
        title (`str`): for tables.
        prepare (`Callable`): changes the generator before it is tuned.
        affine_lr (`float`, *optional*, defaults to 1.0): factor of the learning rate of the affines' weights.
    """

    title: str
    prepare: Callable[[StyleGAN2Generator], Any] = lambda model: None
    affine_lr: float = 1.0


def _projector(**options: Any) -> Callable[[StyleGAN2Generator], Any]:
    return lambda model: model.add_projectors(list(LAYERS), RANK, **options)


#: An equalised weight is multiplied by 1/sqrt(32) when it is used, so that a step of Adam moves it that much less than the
#: vectors of a factored one. `_fast` undoes that, and is given to every arm.
FAST = W_DIM**0.5
ARMS = {
    "control": Arm("full rank"),
    "control_fast": Arm("full rank, affines at lr x 5.7", affine_lr=FAST),
    "projector": Arm("projector, fixed s", _projector()),
    "projector_learned": Arm("projector, learned s", _projector(singular_values="learned")),
    "low_rank": Arm("low rank P Q^T, not orthogonal", lambda model: make_low_rank(model)),
    "projector_random": Arm("projector, random init", _projector(init="random")),
    "control_faster": Arm("full rank, affines at lr x 32", affine_lr=FAST**2),
    "projector_fast": Arm("projector, fixed s, vectors at lr x 5.7", _projector(), FAST),
    "projector_learned_fast": Arm(
        "projector, learned s, vectors at lr x 5.7", _projector(singular_values="learned"), FAST
    ),
    "low_rank_fast": Arm("low rank P Q^T, factors at lr x 5.7", lambda model: make_low_rank(model), FAST),
}


def new_generator(seed: int) -> StyleGAN2Generator:
    """A fresh generator of 16 x 16 images with 32 channels everywhere.

    Args:
        seed (`int`): of its weights.
    """
    torch.manual_seed(seed)
    config = StyleGAN2Config(
        z_dim=W_DIM, w_dim=W_DIM, img_resolution=SIZE, channel_base=32 * SIZE, channel_max=32, mapping_layers=3
    )
    return StyleGAN2Generator(config)


def pretrained(world: PlantedWorld, steps: int, progress: str | None = None) -> StyleGAN2Generator:
    """A generator with ordinary affines that has learned the images of a world.

    Args:
        world ([`PlantedWorld`]): the world; its seed is that of the weights too.
        steps (`int`): optimizer steps.
        progress (`str`, *optional*): title of a progress bar.
    """
    model = new_generator(world.seed)
    regress(model, world.draw(steps * BATCH, PRETRAIN), PRETRAIN_LR, progress=progress)
    return model


def tuned(
    model: StyleGAN2Generator, world: PlantedWorld, arm: Arm, steps: int, progress: str | None = None
) -> StyleGAN2Generator:
    """The generator after an arm's change and some further steps; changed in place.

    Args:
        model ([`StyleGAN2Generator`]): pretrained.
        world ([`PlantedWorld`]): the world.
        arm ([`Arm`]): one of [`ARMS`].
        steps (`int`): optimizer steps.
        progress (`str`, *optional*): title of a progress bar.
    """
    torch.manual_seed(world.seed)  # random frames
    arm.prepare(model)
    regress(model, world.draw(steps * BATCH, TUNE), TUNE_LR, arm.affine_lr, progress)
    return model


def regress(
    model: StyleGAN2Generator, data: PlantedSamples, lr: float, affine_lr: float = 1.0, progress: str | None = None
) -> None:
    """One pass over samples by Adam with a learning rate that falls to zero.

    Args:
        model ([`StyleGAN2Generator`]): trained in place; its mapping network plays no part.
        data ([`PlantedSamples`]): latents and images.
        lr (`float`): learning rate at the start.
        affine_lr (`float`, *optional*, defaults to 1.0): factor of that of the affines' weights.
        progress (`str`, *optional*): title of a progress bar.
    """
    from tqdm import tqdm

    affine = {id(p) for name in LAYERS for n, p in affine_of(model, name).named_parameters() if n != "bias"}
    groups = [
        {"params": [p for p in model.synthesis.parameters() if id(p) not in affine], "lr": lr},
        {"params": [p for p in model.synthesis.parameters() if id(p) in affine], "lr": lr * affine_lr},
    ]
    optimizer = Adam(groups, fused=True)
    steps = len(data.latents) // BATCH
    schedule = lr_schedule(optimizer, "linear", 0, steps)
    batches = zip(data.latents.split(BATCH), data.images.split(BATCH), strict=True)
    for latents, images in tqdm(batches, progress, steps, disable=progress is None, leave=False, mininterval=1):
        optimizer.zero_grad()
        (images_of(model, latents) - images).square().mean().backward()
        optimizer.step()
        schedule.step()


def images_of(model: StyleGAN2Generator, latents: Tensor) -> Tensor:
    """Images of style latents that are the same for every layer.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        latents (`Tensor` of shape `(batch, 32)`): style latents.
    """
    images: Tensor = model.synthesis(latents[:, None].expand(-1, model.config.num_ws, -1))
    return images


def discs(factors: Tensor) -> Tensor:
    """Images of 16 x 16 pixels.

    Args:
        factors (`Tensor` of shape `(count, 5)`): in [0, 1], in the order of [`VARIED`].
    """
    return render_shapes(torch.cat([factors, torch.zeros_like(factors[:, :1])], 1), SIZE)


def make_low_rank(model: StyleGAN2Generator) -> None:
    """Replaces the affines of all convolutions by the nearest products P Q^T of the same rank, in place.

    Args:
        model ([`StyleGAN2Generator`]): with ordinary affines.
    """
    for name in LAYERS:
        model.synthesis.get_submodule(name).affine = LowRankAffine(affine_of(model, name), RANK)
