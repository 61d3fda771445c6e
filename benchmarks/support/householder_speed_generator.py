# SPDX-License-Identifier: Apache-2.0
"""Rows of the benchmark of StyleGAN2 as a whole: against ports in plain torch, and with projectors against without."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from eigenhub.models.stylegan2.equalized import EqualizedLinear
from eigenhub.models.stylegan2.projected_affine import ProjectedAffine
from support.householder_speed import RANK, D, ratio_row, timed
from support.householder_speed_peer import FILTERS, gradients, peer_images
from support.householder_speed_products import gaussian
from support.report import row


STEP_BOUND, PROJECTOR_BOUND = 0.7, 1.01


def generator(**settings: Any) -> StyleGAN2Generator:
    """An untrained generator in which noise and biases count.

    Args:
        settings (`Any`): of [`StyleGAN2Config`].
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = StyleGAN2Generator(StyleGAN2Config(**settings)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith((".bias", "noise_strength")):
                    parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def check_images(contenders: dict[str, Callable[[], tuple[Tensor, ...]]], tolerance: float = 0.02) -> None:
    """Raises `RuntimeError` if images, or gradients of the parameters one by one, differ by more than a share of their norm.

    At 256 px convolutions of different layouts round to 3e-3 of a gradient. Strengths of noise count together, since one alone
    may be a sum that cancels.

    Args:
        contenders (`dict[str, Callable]`): from `gradients`; the first is the measure.
        tolerance (`float`, *optional*, defaults to 0.02): the share.
    """
    (_, expected), *others = [(name, _joined(call())) for name, call in contenders.items()]
    for name, found in others:
        for one, other in zip(found, expected, strict=True):
            error = torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other)
            if not error <= tolerance:
                raise RuntimeError(f"{name}: {error:.1e} off")


def _joined(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    return [torch.stack([one for one in tensors if not one.ndim]), *(one for one in tensors if one.ndim)]


def step_contenders(model: StyleGAN2Generator, batch: int) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Forward and backward to every parameter, ours first.

    Args:
        model ([`StyleGAN2Generator`]): without projectors.
        batch (`int`): number of images.
    """
    z = gaussian(batch, model.config.z_dim, seed=1)
    calls = {"ours": gradients(lambda: model(z).images, model)}
    for form in FILTERS:
        calls[form] = gradients(partial(peer_images, model, z, form), model)
    return calls


def step_rows(resolution: int, batch: int, rounds: int, bound: float | None = None) -> list[dict[str, Any]]:
    """A step of the generator against the ports; the bound is on rosinality's form, which the official projector uses.

    Args:
        resolution (`int`): of the images.
        batch (`int`): number of images.
        rounds (`int`): of timing.
        bound (`float`, *optional*): of the row.
    """
    calls = step_contenders(generator(img_resolution=resolution), batch)
    check_images(calls)
    seconds = timed(calls, rounds)
    setting = f"forward + backward of all parameters, {resolution} px, batch {batch}"
    what = {form: f"generator / plain torch with {form}'s filters" for form in FILTERS}
    first, *others = FILTERS
    rows = [ratio_row(what[first], setting, seconds, "ours", first, bound)]
    return rows + [ratio_row(what[form], setting, seconds, "ours", form) for form in others]


def projector_rows(resolution: int, rounds: int) -> list[dict[str, Any]]:
    """Images with the published layers projected against images without.

    Args:
        resolution (`int`): of the images.
        rounds (`int`): of timing.
    """
    plain = generator(img_resolution=resolution)
    projected = copy.deepcopy(plain).add_projectors(rank=RANK)
    z = gaussian(1, plain.config.z_dim, seed=1)

    def images(model: StyleGAN2Generator) -> Callable[[], Tensor]:
        return torch.no_grad()(lambda: model(z).images)

    seconds = timed({"projected": images(projected), "plain": images(plain)}, rounds)
    names = projected.config.projected_names
    setting = f"forward without gradients, {resolution} px, batch 1, {len(names)} layers at rank {RANK}"
    rows = [ratio_row("generator with projectors / without", setting, seconds, "projected", "plain", PROJECTOR_BOUND)]
    best = {name: min(values) for name, values in seconds.items()}
    rows.append(row("the same, fastest over fastest", setting, best["projected"] / best["plain"], digits=4))
    return rows


def affine_contenders(batch: int, train: bool) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """One style affine: projected, folded, and as it was.

    Args:
        batch (`int`): number of style latents.
        train (`bool`): forward and backward of the parameters; else forward in eval mode.
    """
    projected = ProjectedAffine(D, D, RANK)
    plain = EqualizedLinear(D, D)
    plain.reset_parameters()
    projected.projector.start_from(plain.effective_weight().detach())
    projected.reset_parameters()
    modules = {"projected": projected, "folded": projected.folded(), "plain": plain}
    w, upstream = gaussian(batch, D), gaussian(batch, D, seed=1)
    return {name: _step(module.train(train), w, upstream) for name, module in modules.items()}


def _step(module: nn.Module, w: Tensor, upstream: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    parameters = list(module.parameters())

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (module(w),)

    def step() -> tuple[Tensor, ...]:
        styles = module(w)
        return styles.detach(), *torch.autograd.grad(styles, parameters, upstream)

    return step if module.training else forward


def affine_rows(rounds: int, batch: int = 8) -> list[dict[str, Any]]:
    """The affine of one layer by itself, where its share of a generator does not hide what it costs.

    Args:
        rounds (`int`): of timing.
        batch (`int`, *optional*, defaults to 8): number of style latents.
    """
    rows = []
    for train, kind in ((False, "forward in eval mode"), (True, "forward + backward")):
        calls = affine_contenders(batch, train)
        if (calls["projected"]()[0] - calls["folded"]()[0]).abs().max() > 1e-4:
            raise RuntimeError("the folded affine differs from the projected one")
        seconds = timed(calls, rounds)
        setting = f"one affine {D} x {D}, rank {RANK}, {kind}, batch {batch}"
        rows.append(ratio_row("projected affine / plain", setting, seconds, "projected", "plain"))
        rows.append(ratio_row("folded affine / plain", setting, seconds, "folded", "plain"))
    return rows


def parameter_rows() -> list[dict[str, Any]]:
    """Parameters of one projected layer in both forms, and of the affine that it stands for."""

    def size(module: nn.Module) -> int:
        return sum(parameter.numel() for name, parameter in module.named_parameters() if name != "bias")

    thin, dense = (ProjectedAffine(D, D, RANK, parameterization=form) for form in ("thin", "dense"))
    setting = f"one {D} x {D} layer, rank {RANK}; a number, without the bias"
    kinds = {"thin": thin, "dense": dense, "plain": EqualizedLinear(D, D)}
    return [row(f"parameters, {name}", setting, size(module), kind="size", digits=6) for name, module in kinds.items()]
