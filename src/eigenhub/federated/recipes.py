# SPDX-License-Identifier: Apache-2.0
"""What each federated LoRA method trains on the clients and does on the server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One method.

    Args:
        summary (`str`): one line.
        trains (`tuple[str, ...]`): for each round of a cycle, the factors that clients train and send: "A", "B", "AB".
        refactors (`str`): when the server refactors the product: "never", "once", "periodically".
        moves_base (`bool`): whether the server adds to the base weights, so that the adapter alone is not the model.
        linear (`bool`): whether the server needs nothing but a weighted sum of uploads, as secure aggregation gives it.
    """

    summary: str
    trains: tuple[str, ...]
    refactors: str = "never"
    moves_base: bool = False
    linear: bool = True


RECIPES = {
    "fedsvd": Recipe("mean of B; A and B refactored by the SVD of their product", ("B",), refactors="periodically"),
    "ffa": Recipe("mean of B; A stays as it was initialised (FFA-LoRA)", ("B",)),
    "ffa_orth": Recipe("mean of B; A made orthonormal once: the fair control of FedSVD", ("B",), refactors="once"),
    "fedavg": Recipe("mean of A and mean of B (FedIT)", ("AB",)),
    "fedex": Recipe("means, and what they miss goes into the base weights", ("AB",), moves_base=True, linear=False),
    "flexlora": Recipe("truncated SVD of the mean product; ranks may differ", ("AB",), linear=False),
    "flora": Recipe(
        "the mean product goes into the base weights, A and B anew", ("AB",), moves_base=True, linear=False
    ),
    "rolora": Recipe("mean of B in odd rounds, mean of A in even ones", ("B", "A")),
}
METHOD_NAMES = tuple(RECIPES)


def recipe_of(method: str) -> Recipe:
    """The recipe of a method.

    Args:
        method (`str`): a key of `RECIPES`.

    Raises:
        ValueError: for an unknown name.
    """
    if method not in RECIPES:
        raise ValueError(f"`method` must be one of {', '.join(METHOD_NAMES)}; got {method!r}")
    return RECIPES[method]


def trained_factors(method: str, round: int) -> str:
    """The factors that clients train in a round: "A", "B" or "AB".

    Args:
        method (`str`): one of `METHOD_NAMES`.
        round (`int`): from 1.
    """
    if round < 1:
        raise ValueError(f"`round` counts from 1, got {round}")
    cycle = recipe_of(method).trains
    return cycle[(round - 1) % len(cycle)]


def refactors_in(method: str, round: int, every: int = 1, warmup: int = 0) -> bool:
    """Whether the server refactors at the end of a round.

    Args:
        method (`str`): one of `METHOD_NAMES`.
        round (`int`): from 1.
        every (`int`, *optional*, defaults to 1): rounds between two refactorisations.
        warmup (`int`, *optional*, defaults to 0): rounds before the first one may come.
    """
    due = round > warmup and round % every == 0
    when = recipe_of(method).refactors
    return due and (when == "periodically" or (when == "once" and round - every <= warmup))
