# SPDX-License-Identifier: Apache-2.0
"""Projectors into a generator that has been trained already, and out of it again."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from eigenhub.models.stylegan2.configuration_stylegan2 import projected_names
from eigenhub.models.stylegan2.projected_affine import ProjectedAffine, StyleAffine, StyleProjector
from eigenhub.nn.low_rank_orthogonal import check_projector


def add_projectors(
    model: Any,
    layers: str | Sequence[str],
    rank: int,
    gain: str | float = "mean",
    parameterization: str = "thin",
    singular_values: str = "fixed",
    init: str = "nearest",
) -> None:
    """What [`StyleGAN2Generator.add_projectors`] does.

    Args:
        model ([`StyleGAN2Generator`]): without projectors.
        layers (`str` or `Sequence[str]`): `"upsample"`, `"all"` or names.
        rank (`int`): number of directions per layer.
        gain (`str` or `float`, *optional*, defaults to `"mean"`): see [`LowRankOrthogonal`].
        parameterization (`str`, *optional*, defaults to `"thin"`): `"thin"` or `"dense"`.
        singular_values (`str`, *optional*, defaults to `"fixed"`): `"fixed"` or `"learned"`.
        init (`str`, *optional*, defaults to `"nearest"`): `"nearest"` or `"random"`.
    """
    if model.config.projector_layers is not None:
        raise ValueError("the model has projectors already: call `fold_projectors()` first")
    chosen = layers if isinstance(layers, str) else list(layers)
    names = projected_names(model.config.style_layers, chosen)
    made: dict[str, ProjectedAffine] = {}
    for name in names:
        affine = affine_of(model, name)
        try:
            check_projector(affine.out_features, affine.in_features, rank, gain, singular_values, init)
            new = ProjectedAffine(
                affine.in_features, affine.out_features, rank, gain, parameterization, singular_values
            ).to(affine.bias.device)
            new.projector.start_from(affine.effective_weight(), init)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
        new.bias = affine.bias
        made[name] = new.train(affine.training)
    for name, new in made.items():
        model.synthesis.get_submodule(name).affine = new
    model.config.projector_layers = chosen
    model.config.projector_rank = rank
    model.config.projector_gain = gain
    model.config.projector_parameterization = parameterization
    model.config.projector_singular_values = singular_values


def fold_projectors(model: Any) -> None:
    """What [`StyleGAN2Generator.fold_projectors`] does.

    Args:
        model ([`StyleGAN2Generator`]): a generator; one without projectors stays as it is.
    """
    for name in model.config.projected_names:
        affine = affine_of(model, name)
        if isinstance(affine, ProjectedAffine):
            model.synthesis.get_submodule(name).affine = affine.folded().train(affine.training)
    model.config.projector_layers = None


def projector_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What trains inside of projectors.

    Args:
        model (`nn.Module`): a generator.
    """
    return [p for module in model.modules() if isinstance(module, StyleProjector) for p in module.parameters()]


def affine_of(model: Any, name: str) -> StyleAffine:
    """The affine that makes the style of a layer.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        name (`str`): for example `"b8.conv0"`.
    """
    model.config.layer(name)  # a message that lists the names
    affine: StyleAffine = model.synthesis.get_submodule(name).affine
    return affine


def projector_at(model: Any, name: str) -> StyleProjector | None:
    """The projector of a layer, if it has one.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        name (`str`): for example `"b8.conv0"`.
    """
    affine = affine_of(model, name)
    return affine.projector if isinstance(affine, ProjectedAffine) else None
