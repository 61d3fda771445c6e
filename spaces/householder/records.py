# SPDX-License-Identifier: Apache-2.0
"""What programs get, and what the page shares with them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from editing import along, samples
from finding import Found, bases_of, find
from generators import generator
from names import FACTORS, JOIN, spoken
from pictures import LARGE_SIDE, film_side, gif_file, signed, to_image
from PIL import Image
from places import editable_layers, layers_at, ranges, reach_of
from visits import Choice, Visit


def load_images(choice: Choice, count: int, side: int = LARGE_SIDE) -> list[tuple[Image.Image, str]]:
    """
    Samples with their numbers.

    Args:
        choice (`Choice`): generator, first number, truncation, noise and class.
        count (`int`): how many.
        side (`int`, *optional*, defaults to 512): largest side of the images.
    """
    numbers = tuple(range(choice.number, choice.number + count))
    images = samples(choice.model, numbers, choice.psi, choice.noise, choice.label, side)
    return [(to_image(pixels), str(number)) for pixels, number in zip(images, numbers, strict=True)]


def complete(choice: Choice) -> Choice:
    """With a layer and a basis where none was named."""
    model = generator(choice.model)
    layer = choice.layer or editable_layers(model)[0].name
    layers_at(model, layer)
    basis = choice.basis or bases_of(model, layer, choice.other)[0]
    return replace(choice, layer=layer, basis=basis)


def steps_along(found: Found, k: int, reach: float, count: int) -> tuple[list[list[float]], list[float]]:
    """
    Steps along one direction from one end to the other.

    Args:
        found (`Found`): the directions.
        k (`int`): which of them.
        reach (`float`): where to stop.
        count (`int`): how many.

    Returns:
        For each image the steps along all directions, and the step along this one.
    """
    if not 0 <= k < found.count:
        raise ValueError(f"the direction must be between 0 and {found.count - 1}, got {k}")
    alphas = [reach * (2 * i - (count - 1)) / (count - 1) for i in range(count)]
    return [[alpha if i == k else 0.0 for i in range(found.count)] for alpha in alphas], alphas


def traversal(choice: Choice, k: int, reach: float, count: int) -> tuple[list[tuple[Image.Image, str]], str]:
    """
    Images along a direction with their steps, and a film of them.

    Args:
        choice (`Choice`): sample and layer.
        k (`int`): which direction.
        reach (`float`): where to stop; 0 for that of the sliders.
        count (`int`): how many images.
    """
    choice = complete(choice)
    model, found = generator(choice.model), find(choice, Visit())
    steps, alphas = steps_along(found, k, reach or reach_of(model, choice.layer), count)
    images = along(choice, found, steps, side=LARGE_SIDE)
    film = gif_file(images, file_name(choice, k), film_side(model.config.img_resolution))
    return [(to_image(pixels), signed(alpha)) for pixels, alpha in zip(images, alphas, strict=True)], film


def directions_record(choice: Choice, visit: Visit) -> dict[str, Any]:
    """Everything about the directions of a layer, in plain numbers."""
    choice = complete(choice)
    model, found = generator(choice.model), find(choice, visit)
    return {
        "layer": choice.layer,
        "basis": choice.basis,
        "layers": [layer.name for layer in editable_layers(model)],
        "ranges": [JOIN.join(layer.name for layer in group) for group in ranges(model)],
        "bases": bases_of(model, choice.layer, choice.other),
        "reach": reach_of(model, choice.layer),
        "vectors": found.directions.vectors.mT.tolist(),
        "scores": found.directions.scores.tolist(),
        "effects": list(found.effects),
        "dead": list(found.dead),
        "factors": None if found.factors is None else [named(row) for row in found.factors.tolist()],
    }


def named(row: Sequence[float]) -> dict[str, float]:
    """Changes of the known factors by their names."""
    return dict(zip(FACTORS, row, strict=True))


def file_name(choice: Choice, k: int | None = None) -> str:
    """Of what is downloaded."""
    parts = [f"sample-{choice.number}", spoken(choice.layer).replace(".", "-").replace(" ", "-"), choice.basis]
    return "_".join(parts if k is None else [*parts, f"direction-{k + 1}"])
