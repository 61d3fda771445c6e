# SPDX-License-Identifier: Apache-2.0
"""Directions of a layer or a range, what each of them does to images, and which of them do nothing."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from generators import generator, start, unprojected
from names import JOIN, MAX_DIRECTIONS, MODELS
from places import layers_at, reach_of, weight_at
from rendering import edited
from torch import Tensor
from visits import Choice, Visit

from eigenhub.embedded.shape_factors import measure_shapes
from eigenhub.linalg.lowrank import fix_signs
from eigenhub.models.stylegan2 import Directions, LabelledDirections
from eigenhub.models.stylegan2.directions import layer_directions, sefa_directions, svd_directions
from eigenhub.models.stylegan2.projectors import affine_of, projector_at


PSI = 0.7  # of the samples on which effects are measured
#: A direction is dead whose effect is less than this share of the largest one in its layer.
DEAD = 0.05
MIN_GAP = 1e-3  # of learned singular values, as a ratio


@dataclass(frozen=True, eq=False)
class Found:
    """
    Directions of one place.

    Args:
        layer (`str`): the layer, or the range.
        basis (`str`): how they were found.
        directions (`Directions`): vectors with the entry of largest modulus positive, and scores.
        effects (`tuple[float, ...]`): mean change of a pixel by half of the sliders' reach, as a share of its range.
        dead (`tuple[bool, ...]`): which of them do next to nothing.
        factors (`Tensor` of shape `(count, 6)`, *optional*): mean change of each known factor, as a share of its range.
    """

    layer: str
    basis: str
    directions: Directions
    effects: tuple[float, ...]
    dead: tuple[bool, ...]
    factors: Tensor | None = None

    @property
    def count(self) -> int:
        return len(self.effects)


def bases_of(model: Any, layer: str, other: str) -> list[str]:
    """The bases that a place allows: singular vectors only where the singular values tell them apart."""
    if JOIN in layer:
        return ["svd", "sefa"]
    projector = projector_at(model, layer)
    if projector is None:
        return ["svd", "jacobian", "sefa"]
    found = ["parameter", "jacobian"]
    if projector.log_scale is not None and projector.log_scale.sort().values.diff().abs().min() > MIN_GAP:
        found.append("svd")
    return [*found, *(["aligned"] if other else []), "sefa"]


def find(choice: Choice, visit: Visit) -> Found:
    """
    The directions that a visitor has chosen.

    Args:
        choice (`Choice`): model, layer, basis and kind of edit.
        visit (`Visit`): with directions that were loaded.
    """
    if choice.basis == "saved":
        given = visit.saved.get((choice.model, choice.layer))
        if given is None:
            raise ValueError(f"no directions of {choice.layer} have been loaded")
        return _saved(choice.model, choice.layer, choice.edit, _Given(given))
    return _computed(choice.model, choice.layer, choice.basis, choice.edit, choice.other)


@lru_cache(maxsize=48)
def _computed(name: str, layer: str, basis: str, edit: str, other: str) -> Found:
    model = generator(name)
    allowed = bases_of(model, layer, other)
    if basis not in allowed:
        raise ValueError(f"layer {layer} of this generator has the bases {', '.join(allowed)}, not {basis!r}")
    options: dict[str, Any] = {}
    if basis == "jacobian":
        options = {"num_samples": 3 * num_samples(model), "edit": edit}
    if basis == "aligned":
        options = {"reference": _reference(name, layer, other)}
    joint = len(layers_at(model, layer)) > 1
    found = joint_directions(model, layer, basis) if joint else layer_directions(model, layer, basis, **options)
    return told(name, layer, basis, found, edit)


def joint_directions(model: Any, place: str, basis: str) -> Directions:
    """
    Directions of layers that move together: what moves their styles most, taken as one long style.

    Args:
        model (`StyleGAN2Generator`): the generator.
        place (`str`): a range.
        basis (`str`): `"svd"` or `"sefa"`.
    """
    weight = weight_at(model, place)
    count = min(model.config.projector_rank if model.config.projected_names else 10, *weight.shape)
    return svd_directions(weight, count) if basis == "svd" else sefa_directions([weight], count)


@dataclass(frozen=True, eq=False)
class _Given:
    """By identity, so that loaded directions can be looked up."""

    labelled: LabelledDirections

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Given) and other.labelled is self.labelled

    def __hash__(self) -> int:
        return id(self.labelled)


@lru_cache(maxsize=16)
def _saved(name: str, layer: str, edit: str, given: _Given) -> Found:
    return told(name, layer, "saved", given.labelled.directions, edit)


def _reference(name: str, layer: str, other: str) -> Tensor:
    """The leading right singular vectors of the layer before projection."""
    model, before = generator(name), unprojected(name, other)
    if before is None:
        raise ValueError("the aligned basis needs the generator as it was before projection: name it")
    projector: Any = projector_at(model, layer)
    return svd_directions(affine_of(before, layer).effective_weight(), projector.map.rank).vectors


def told(name: str, layer: str, basis: str, directions: Directions, edit: str) -> Found:
    """Directions with their effects; what does not move the style at all is left out."""
    model = generator(name)
    vectors = fix_signs(directions.vectors, directions.vectors.mT)[0].to(model.device)
    lengths = torch.linalg.vector_norm(weight_at(model, layer) @ vectors, dim=0)
    moves = (lengths > 1e-6 * lengths.max()).nonzero()[:MAX_DIRECTIONS, 0]
    if not len(moves):
        raise ValueError(f"these directions do not move the style of {layer} at all")
    kept = Directions(vectors[:, moves], directions.scores.to(model.device)[moves])
    effects, factors = effects_of(name, layer, kept, edit)
    dead = effects < DEAD * effects.max()
    return Found(layer, basis, kept, tuple(effects.tolist()), tuple(dead.tolist()), factors)


def effects_of(name: str, layer: str, directions: Directions, edit: str) -> tuple[Tensor, Tensor | None]:
    """
    Change of pixels, and of known factors, by half of the sliders' reach in both ways.

    Args:
        name (`str`): the generator.
        layer (`str`): the layer.
        directions (`Directions`): its directions.
        edit (`str`): `"ws"` or `"style"`.
    """
    model = generator(name)
    count, step = num_samples(model), reach_of(model, layer) / 2
    ws = start(model, list(range(count)), PSI)
    effects, factors = [], []
    for vector in step * unit_steps(model, Found(layer, "", directions, (), ())).mT:
        shift = vector * torch.tensor([1.0, -1.0], device=ws.device).repeat_interleave(count)[:, None]
        images = edited(model, ws.repeat(2, 1, 1), [(layer, edit, shift)], "const")
        up, down = images.clamp(-1, 1).split(count)
        effects.append((up - down).abs().mean() / 4)  # of a range of 2, on one of two sides
        if name in MODELS:
            change = (measure_shapes(up) - measure_shapes(down)).abs() / 2
            factors.append(change.nanmean(0).nan_to_num())
    return torch.stack(effects), torch.stack(factors) if factors else None


def unit_steps(model: Any, found: Found) -> Tensor:
    """Directions scaled such that each moves the style by a length of one, `(w_dim, count)`."""
    vectors = found.directions.vectors
    return vectors / torch.linalg.vector_norm(weight_at(model, found.layer) @ vectors, dim=0)


def num_samples(model: Any) -> int:
    """Samples on which effects are measured: 16 small images, or a few large ones."""
    return int(max(2, min(16, 2**18 // model.config.img_resolution**2)))
