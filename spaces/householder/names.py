# SPDX-License-Identifier: Apache-2.0
"""Words of the page, apart from everything heavy so that it opens at once."""

#: A colon cannot stand in a Hub id, so these names never hide a repository.
SHAPES, SHAPES_BEFORE = "embedded:shapes", "embedded:shapes-unprojected"
MODELS = {SHAPES: "Embedded: coloured shapes", SHAPES_BEFORE: "Embedded: before projection"}
OTHERS = {SHAPES_BEFORE: MODELS[SHAPES_BEFORE], "": "None: use its own weights"}
#: Between the names of layers that move together.
JOIN = "+"
NOISE_MODES = {"const": "constant", "random": "random", "none": "none"}
EDITS = {"ws": "its latent, as published", "style": "its style alone (strict)"}
BASES = {
    "parameter": "parameters of the projector",
    "jacobian": "ordered by visible effect (Jacobian)",
    "svd": "singular vectors",
    "aligned": "aligned with the unprojected layer",
    "sefa": "SeFa",
    "saved": "loaded from a file",
}
#: What the embedded generator draws.
FACTORS = {
    "x": "left to right",
    "y": "up and down",
    "size": "size",
    "hue": "hue",
    "background": "background",
    "shape": "disc to square",
}
NUM_SAMPLES = 12
#: Directions that the page shows of a layer.
MAX_DIRECTIONS = 16
STRIP_FRAMES = 7
FILM_FRAMES = 21
MAX_NAME = 60  # characters
MIB = 2**20
MAX_BYTES = 1024 * MIB  # of a checkpoint
MAX_PARAMETERS = 150_000_000


def spoken(place: str) -> str:
    """A layer, or the ends of a range."""
    first, *others = place.split(JOIN)
    return f"{first} to {others[-1]}" if others else first
