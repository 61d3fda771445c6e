# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning starts from, and what its arms put into the generator or into its loss."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gan_options import PENALISED, PROJECTED, REPLACED
from torch import Tensor, nn
from torch.nn import functional as F

from eigenhub.linalg.autocast import without_autocast
from eigenhub.linalg.lowrank import truncated_svd
from eigenhub.models.stylegan2 import (
    LabelledDirections,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
    StyleGAN2Networks,
    averaged_copy,
    hessian_penalty,
    jacobian_penalty,
    load_checkpoint,
)
from eigenhub.models.stylegan2.configuration_stylegan2 import projected_names
from eigenhub.models.stylegan2.equalized import EqualizedLinear
from eigenhub.models.stylegan2.projectors import affine_of


class LowRankAffine(nn.Module):
    r"""The control without orthogonality: $s = P Q^\top w + b$ with free factors, from the leading singular triplets.

    Args:
        affine ([`EqualizedLinear`]): what it replaces.
        rank (`int`): columns of the factors.
    """

    def __init__(self, affine: EqualizedLinear, rank: int) -> None:
        super().__init__()
        limit = min(affine.in_features, affine.out_features)
        if rank > limit:
            raise ValueError(f"`rank` must be between 1 and {limit}, got {rank}")
        self.in_features, self.out_features = affine.in_features, affine.out_features
        with torch.no_grad():
            u, s, vh = truncated_svd(affine.effective_weight().double(), rank)
        dtype = torch.promote_types(affine.weight.dtype, torch.float32)
        self.left = nn.Parameter((u * s.sqrt()).to(dtype))
        self.right = nn.Parameter((vh.mT * s.sqrt()).to(dtype))
        self.bias = affine.bias

    def effective_weight(self) -> Tensor:
        """$P Q^T$, `(out_features, in_features)`."""
        with without_autocast(self.left.device):
            return self.left @ self.right.mT

    def forward(self, w: Tensor) -> Tensor:
        with without_autocast(w.device):
            return F.linear(w.to(self.left.dtype) @ self.right, self.left, self.bias.to(self.left.dtype))

    @torch.no_grad()
    def folded(self) -> EqualizedLinear:
        """An ordinary affine that computes the same."""
        affine = EqualizedLinear(self.in_features, self.out_features, bias_init=1.0)
        affine.to(self.bias.device, self.bias.dtype)
        affine.weight.copy_(self.effective_weight() / affine.scale)
        affine.bias.copy_(self.bias)
        return affine


def starting_networks(args: argparse.Namespace) -> StyleGAN2Networks:
    """Generator and discriminator to train on, from a folder, the Hub, or a checkpoint of another code.

    Args:
        args (`argparse.Namespace`): with the options of the start.
    """
    path = Path(args.model).expanduser()
    if path.is_file():
        found = load_checkpoint(path, rank=args.rank)
    elif path.is_dir():
        found = StyleGAN2Networks.from_pretrained(path)
    else:
        found = StyleGAN2Networks.from_pretrained(downloaded(args.model))
    generator = found.best_generator if args.start_from == "ema" else found.generator
    if generator is None:
        raise ValueError(f"--start_from raw: {args.model} holds no generator_raw/")
    discriminator = found.discriminator
    if discriminator is None:
        if not args.new_discriminator:
            raise ValueError(f"{args.model} holds no discriminator/: pass --new_discriminator to start one afresh")
        discriminator = StyleGAN2Discriminator(generator.config)
    return StyleGAN2Networks(generator=generator.requires_grad_(True), discriminator=discriminator)


def downloaded(name: str) -> str:
    """The folder of a repository of the Hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(name, allow_patterns=["*.safetensors", "*.json"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ValueError(f"--model: {name} is no folder here, and could not be had from the Hub: {error}") from error


def chosen_layers(args: argparse.Namespace) -> str | list[str]:
    """`--layers` as the library takes it."""
    return args.layers[0] if args.layers in (["upsample"], ["all"]) else args.layers


def put_in(args: argparse.Namespace, generator: StyleGAN2Generator) -> list[str]:
    """Projectors or free factors into the layers, in place, where the arm has any; returns the names of the layers.

    A model that has projectors already keeps them in the arm that trains them; other arms need it folded.

    Args:
        args (`argparse.Namespace`): with the options of the arm.
        generator ([`StyleGAN2Generator`]): to be trained.
    """
    if generator.config.projected_names:
        if args.arm == "projector":
            return generator.config.projected_names
        raise ValueError(f"--arm {args.arm}: the model has projectors; fold them first (`fold_projectors`)")
    names = projected_names(generator.config.style_layers, chosen_layers(args))
    if args.arm in PROJECTED:
        start = "random" if args.arm == "random_init" else "nearest"
        generator.add_projectors(
            chosen_layers(args), args.rank, args.gain, args.parameterization, args.singular_values, start
        )
    elif args.arm == "lowrank":
        for name in names:
            made = low_rank(affine_of(generator, name), args.rank, name)
            generator.synthesis.get_submodule(name).affine = made
    return names


def low_rank(affine: Any, rank: int, name: str) -> LowRankAffine:
    """Free factors in place of an affine; an error names the layer."""
    try:
        return LowRankAffine(affine, rank)
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error


def factor_parameters(generator: StyleGAN2Generator) -> list[nn.Parameter]:
    """What trains inside of projectors or free factors.

    Args:
        generator ([`StyleGAN2Generator`]): after [`put_in`].
    """
    free = [p for m in generator.modules() if isinstance(m, LowRankAffine) for p in (m.left, m.right)]
    return generator.projector_parameters() + free


def trained_groups(args: argparse.Namespace, generator: StyleGAN2Generator) -> list[dict[str, Any]]:
    """Parameter groups: the factors with their own rate, and everything else unless only the factors are trained.

    Args:
        args (`argparse.Namespace`): with `lr`, `lr_ortho`, `train` and `arm`.
        generator ([`StyleGAN2Generator`]): after [`put_in`].
    """
    factors = factor_parameters(generator) if args.arm in REPLACED else []
    known = {id(parameter) for parameter in factors}
    others = [parameter for parameter in generator.parameters() if id(parameter) not in known]
    groups = [{"params": factors, "lr": args.lr_ortho}] if factors else []
    if args.train == "projector":
        for parameter in others:
            parameter.requires_grad_(False)
        return groups
    return [{"params": others, "lr": args.lr}, *groups]


def penalty_of(
    args: argparse.Namespace, generator: StyleGAN2Generator
) -> Callable[[Tensor, Tensor | None], Tensor] | None:
    """The further term of the loss of an arm, of latents and conditions; noise is constant, so that it is no curvature.

    Args:
        args (`argparse.Namespace`): with the options of the arm.
        generator ([`StyleGAN2Generator`]): to be trained.
    """
    if args.arm not in PENALISED:
        return None
    measure = hessian_penalty if args.arm == "hessian_penalty" else jacobian_penalty

    def penalty(z: Tensor, c: Tensor | None) -> Tensor:
        return args.penalty_weight * measure(lambda moved: generator(z=moved, c=c).images, z, eps=args.penalty_eps)

    return penalty


def without_free_factors(networks: StyleGAN2Networks) -> StyleGAN2Networks:
    """The networks with free factors folded into ordinary affines, in which form they are saved.

    Args:
        networks ([`StyleGAN2Networks`]): of a run.
    """
    return StyleGAN2Networks(_folded(networks.generator_ema), _folded(networks.generator), networks.discriminator)


def _folded(generator: StyleGAN2Generator | None) -> StyleGAN2Generator | None:
    if generator is None or not any(isinstance(module, LowRankAffine) for module in generator.modules()):
        return generator
    folded = averaged_copy(generator)
    for layer in folded.config.style_layers:
        affine: Any = folded.synthesis.get_submodule(layer.name).affine
        if isinstance(affine, LowRankAffine):
            folded.synthesis.get_submodule(layer.name).affine = affine.folded()
    return folded


def labelled_directions(
    args: argparse.Namespace, generator: StyleGAN2Generator, names: list[str]
) -> dict[str, LabelledDirections]:
    """Directions of the layers, without labels yet.

    Args:
        args (`argparse.Namespace`): with `directions`, `rank` and `seed`.
        generator ([`StyleGAN2Generator`]): averaged, as it is saved.
        names (`list[str]`): of the layers.
    """
    rank = generator.config.projector_rank if generator.config.projected_names else args.rank
    found = {}
    for name in names:
        layer = generator.config.layer(name)
        count = min(rank, layer.in_channels, generator.config.w_dim)
        found[name] = LabelledDirections(generator.directions(name, args.directions, count=count), args.directions)
    return found
