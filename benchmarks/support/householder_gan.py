# SPDX-License-Identifier: Apache-2.0
"""Single runs of the adversarial study: discs of five factors, a small pair, fine-tuned in several ways, and its directions."""

import os
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eigenhub.metrics.factor_regressor import FactorRegressor, fit_factor_regressor, r_squared
from eigenhub.metrics.path_length import feature_distance, interpretable_path_length, perceptual_path_length
from eigenhub.models.stylegan2 import (
    StyleGAN2Discriminator,
    StyleGAN2Generator,
    average_decay,
    averaged_copy,
    discriminator_loss,
    generator_loss,
    r1_penalty,
    update_average,
)
from eigenhub.models.stylegan2.edits import displacement
from eigenhub.models.stylegan2.projectors import affine_of


sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "householder"))

from gan_arms import LowRankAffine  # noqa: E402
from gan_frechet import FeatureSums, frechet_distance  # noqa: E402
from planted import BATCH, FAST, RANK, VARIED, discs, new_generator  # noqa: E402
from planted_directions import direction_set, effects_of, scores_of  # noqa: E402


LAYERS = ("b8.conv0", "b16.conv0")
LR, BETAS, GAMMA, R1_EVERY = 2e-3, (0.0, 0.99), 1.0, 16
PRETRAINED = "pretrained"
#: How every arm changes the generator, and the directions that it is asked for.
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    PRETRAINED: ("none", ("sefa", "svd", "jacobian", "ganspace", "random")),
    "control": ("none", ("sefa", "svd", "jacobian")),
    "control_fast": ("fast", ("sefa", "svd", "jacobian")),
    "projector": ("fixed", ("parameter", "jacobian", "rotated", "sefa")),
    "projector_learned": ("learned", ("parameter", "svd", "jacobian")),
    "projector_random": ("random", ("parameter", "jacobian")),
    "low_rank": ("low rank", ("sefa", "svd", "jacobian")),
}
REAL, READER_IMAGES, JUDGED, MANY = 4096, 4000, 64, 20_000


def gan_run(
    arm: str, seed: int, steps: int, tune_steps: int, reader_steps: int, change: float, folder: Path
) -> dict[str, Any]:
    """Fidelity of one arm, and the scores of its directions.

    Args:
        arm (`str`): one of [`ARMS`].
        seed (`int`): of weights, latents and real images.
        steps (`int`): steps of the pretraining.
        tune_steps (`int`): steps after that.
        reader_steps (`int`): steps of the network that reads factors.
        change (`float`): mean change of the pixels at which directions are compared.
        folder (`Path`): where weights are kept.
    """
    started = time.process_time()
    model = averaged_generator(arm, seed, steps, tune_steps, folder)
    reader, explained = factor_reader(seed, reader_steps)
    with torch.no_grad():
        many = model.mapping(model.latents(MANY, seed + 1))[:, 0]
    ws = many[:JUDGED]
    sets: dict[str, dict[str, Any]] = {}
    for layer in LAYERS:
        for name in ARMS[arm][1]:
            vectors = direction_set(name, model, layer, RANK, many, seed)
            effects = effects_of(model, layer, vectors, ws, reader, change)
            sets[f"{layer} {name}"] = scores_of(effects) | edit_length(model, layer, vectors, ws, reader)
    found = {
        "frechet": frechet(model, reader, seed),
        "path_length": path_length(model, many, reader),
        "r_squared": explained,
        "sets": sets,
    }
    return found | {"seconds": time.process_time() - started}


def averaged_generator(arm: str, seed: int, steps: int, tune_steps: int, folder: Path) -> StyleGAN2Generator:
    """The running average of the generator of one arm, trained now or read.

    Args:
        arm (`str`): one of [`ARMS`].
        seed (`int`): seed.
        steps (`int`): steps of the pretraining.
        tune_steps (`int`): steps after that.
        folder (`Path`): where weights are kept.
    """
    return _networks(arm, seed, steps, tune_steps, folder)["average"]


def _networks(arm: str, seed: int, steps: int, tune_steps: int, folder: Path) -> dict[str, Any]:
    if arm == PRETRAINED:
        generator = new_generator(seed)
        networks = {"generator": generator, "discriminator": StyleGAN2Discriminator(generator.config)}
        path = folder / "weights" / f"gan-{arm}-seed{seed}-{steps}.safetensors"
    else:
        before = _networks(PRETRAINED, seed, steps, tune_steps, folder)
        networks = {"generator": before["average"].requires_grad_(True), "discriminator": before["discriminator"]}
        path = folder / "weights" / f"gan-{arm}-seed{seed}-{steps}-{tune_steps}.safetensors"
    torch.manual_seed(seed)
    change(networks["generator"], ARMS[arm][0])
    networks["average"] = averaged_copy(networks["generator"])
    if path.is_file():
        kept = load_file(path)
        for name, network in networks.items():
            start = f"{name}/"
            network.load_state_dict({k.removeprefix(start): v for k, v in kept.items() if k.startswith(start)})
        return networks
    affine_lr = FAST if ARMS[arm][0] == "fast" else 1.0
    adversarial(networks, steps if arm == PRETRAINED else tune_steps, seed, affine_lr)
    _save(networks, path)
    return networks


def change(model: StyleGAN2Generator, how: str) -> None:
    """What an arm does to the affines of the upsampling convolutions, in place.

    Args:
        model ([`StyleGAN2Generator`]): pretrained.
        how (`str`): first entry of an arm.
    """
    if how == "low rank":
        for name in LAYERS:
            model.synthesis.get_submodule(name).affine = LowRankAffine(affine_of(model, name), RANK)
    elif how in ("fixed", "learned"):
        model.add_projectors(list(LAYERS), RANK, singular_values=how)
    elif how == "random":
        model.add_projectors(list(LAYERS), RANK, init="random")


def adversarial(networks: dict[str, nn.Module], steps: int, seed: int, affine_lr: float = 1.0) -> None:
    """Steps of both networks and of the average, with R1 every 16 steps.

    Args:
        networks (`dict[str, nn.Module]`): `generator`, `discriminator` and `average`, trained in place.
        steps (`int`): number of steps.
        seed (`int`): of latents and real images.
        affine_lr (`float`, *optional*, defaults to 1.0): factor of the learning rate of the affines' weights of [`LAYERS`].
    """
    generator, discriminator = networks["generator"], networks["discriminator"]
    affine = {id(p) for name in LAYERS for n, p in affine_of(generator, name).named_parameters() if n != "bias"}
    groups = [
        {"params": [p for p in generator.parameters() if id(p) not in affine], "lr": LR},
        {"params": [p for p in generator.parameters() if id(p) in affine], "lr": LR * affine_lr},
    ]
    g_optimizer = torch.optim.Adam(groups, betas=BETAS, fused=True)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), LR, BETAS, fused=True)
    for step, (real, z_d, z_g) in enumerate(_batches(steps, seed)):
        with torch.no_grad():
            fake = generator(z=z_d).images
        loss = discriminator_loss(discriminator(real).logits, discriminator(fake).logits)
        if step % R1_EVERY == 0:
            images = real.requires_grad_()
            loss = loss + R1_EVERY * r1_penalty(discriminator(images).logits, images, GAMMA)
        _descend(loss, d_optimizer, discriminator)
        images = generator.synthesis(generator.mapping(z_g, update_w_avg=True))
        _descend(generator_loss(discriminator(images).logits), g_optimizer, generator)
        update_average(networks["average"], generator, average_decay(BATCH, 2.0, (step + 1) * BATCH, 0.05))


def _batches(steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(1000 + seed)
    for _ in range(steps):
        real = discs(torch.rand(BATCH, RANK, generator=draws))
        yield real, torch.randn(BATCH, 32, generator=draws), torch.randn(BATCH, 32, generator=draws)


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
    optimizer.zero_grad()
    loss.backward(inputs=[p for p in network.parameters() if p.requires_grad])
    optimizer.step()


def _save(networks: dict[str, nn.Module], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{n}/{k}": v.clone(memory_format=torch.contiguous_format)
        for n, network in networks.items()
        for k, v in network.state_dict().items()
    }
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, unfinished)
    os.replace(unfinished, path)


@cache
def factor_reader(seed: int, steps: int) -> tuple[FactorRegressor, dict[str, float]]:
    """The network that reads factors, and how much of their variance it explains on new images.

    Args:
        seed (`int`): of its images and weights.
        steps (`int`): of its training.
    """
    draws = torch.Generator().manual_seed(2000 + seed)
    train, test = (torch.rand(count, RANK, generator=draws) for count in (READER_IMAGES, 500))
    reader = fit_factor_regressor(discs(train), train, steps, seed=seed)
    explained = r_squared(reader(discs(test)), test)
    return reader, dict(zip(VARIED, explained.tolist(), strict=True))


@torch.no_grad()
def frechet(model: StyleGAN2Generator, reader: FactorRegressor, seed: int, count: int = REAL) -> float:
    """Fréchet distance to real images in the features of the reader.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        reader ([`FactorRegressor`]): gives the features.
        seed (`int`): of images and latents.
        count (`int`, *optional*, defaults to 4096): of both.
    """
    draws = torch.Generator().manual_seed(3000 + seed)
    real, fake = (FeatureSums(reader.head.in_features) for _ in range(2))
    for part in torch.rand(count, RANK, generator=draws).split(256):
        real.add(reader.features(discs(part)))
    for part in model.latents(count, 3000 + seed).split(256):
        fake.add(reader.features(model(z=part).images))
    return frechet_distance(real, fake)


def path_length(model: StyleGAN2Generator, latents: Tensor, reader: FactorRegressor, count: int = 500) -> float:
    """Perceptual path length in W, in the features of the reader."""
    ws = latents[: 2 * count, None].expand(-1, model.config.num_ws, -1)
    distance = feature_distance(reader.features)
    return perceptual_path_length(model.synthesis, ws[:count], ws[count:], distance, eps=1e-2, batch_size=64).value


def edit_length(
    model: StyleGAN2Generator, layer: str, vectors: Tensor, latents: Tensor, reader: FactorRegressor
) -> dict[str, float]:
    """Path length along edits that move the style by 1, in the features of the reader."""
    lengths = torch.tensor([displacement(model, layer, v) for v in vectors.mT])
    directions = [(model.config.layer(layer).ws_index, vectors / lengths)]
    ws = latents[:, None].expand(-1, model.config.num_ws, -1)
    distance = feature_distance(reader.features)
    found = interpretable_path_length(model.synthesis, ws, directions, distance, batch_size=64)
    return {"edit_path_length": found.value}
