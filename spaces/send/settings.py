# SPDX-License-Identifier: Apache-2.0
"""What a visitor chose, checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import gradio as gr
from checks import check_between, check_choice, check_whole, is_number
from names import (
    ARMS,
    CONVENTIONS,
    EPOCHS,
    LAYERS,
    LENGTHS,
    MASKING,
    MODELS,
    PERIODS,
    RHOS,
    SAMPLES,
    SITES,
    TEMPERATURES,
    TOKENS,
    TOLD,
    WINDOWS,
)


#: The settings of a score in words; a threshold holds for one value of each. The seed is not among them.
FITTED = {
    "model": "model",
    "layer": "layer",
    "token": "token",
    "convention": "convention",
    "num_samples": "K",
    "temperature": "temperature",
    "top_p": "top-p",
    "top_k": "top-k",
    "max_new_tokens": "longest answer",
}


@dataclass(frozen=True)
class ScoreSettings:
    """
    Which model is asked, how its answers are drawn, and how they are read.

    Args:
        model (`str`): embedded name, Hub id or folder.
        num_samples (`int`): K.
        temperature (`float`): of sampling.
        top_p (`float`): of sampling.
        top_k (`int`): of sampling; 0 for all tokens.
        max_new_tokens (`int`): longest answer.
        layer (`str` or `int`): `"middle"`, `"penultimate"` or an index of `hidden_states`.
        token (`str`): key of `TOKENS`.
        convention (`str`): key of `CONVENTIONS`.
        seed (`int`): of sampling.
    """

    model: str = TOLD
    num_samples: int = 10
    temperature: float = 0.5
    top_p: float = 0.99
    top_k: int = 10
    max_new_tokens: int = 16
    layer: str | int = "middle"
    token: str = "last"
    convention: str = "inside"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", str(self.model or "").strip())
        if not self.model:
            raise gr.Error("Name a model: an embedded one, a Hub id or a folder.")
        check_choice("token", self.token, TOKENS)
        check_choice("convention", self.convention, CONVENTIONS)
        for name, bounds in (("num_samples", SAMPLES), ("max_new_tokens", LENGTHS)):
            check_whole(FITTED[name], getattr(self, name), *bounds)
        check_between("temperature", self.temperature, *TEMPERATURES)
        if not (is_number(self.top_p) and 0 < self.top_p <= 1):
            raise gr.Error(f"The top-p must be above 0 and at most 1, got {self.top_p}.")
        check_whole("top-k", self.top_k, 0, 1000)
        if self.top_k == 1:
            raise gr.Error("The top-k must not be 1: all answers would be the same. 0 means all tokens.")
        check_whole("seed", self.seed, 0, 2**31)
        for name in ("num_samples", "max_new_tokens", "top_k", "seed"):
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("temperature", "top_p"):
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "layer", checked_layer(self.layer))

    @property
    def is_embedded(self) -> bool:
        """Whether the model knows the embedded world, in which the truth is known."""
        return self.model in MODELS

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ScoreSettings":
        """Of what `to_dict` gave, checked again."""
        try:
            return cls(**values)
        except TypeError as error:
            raise gr.Error(f"These are no settings of a score: {error}.") from error


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """
    In which settings two scores cannot be compared, as sentences are made of.

    Args:
        one (`Mapping`): settings of a score.
        other (`Mapping`): settings that it is compared with.
    """
    return [f"{word} = {one[name]}, not {other[name]}" for name, word in FITTED.items() if one[name] != other[name]]


@dataclass(frozen=True)
class TrainSettings:
    """
    An arm that is trained beside plain training.

    Args:
        mode (`str`): key of `ARMS`.
        rho (`float`): share of the indices that is dropped.
        site (`str`): key of `SITES`.
        window (`int`): C, checkpoints that variability is measured over.
        refresh_every (`int`): T, epochs that a mask lasts.
        epochs (`int`): of both runs.
        mask_in_eval (`bool`): ask the questions with the mask on.
        seed (`int`): order of the rows, random indices and dropout.
    """

    mode: str = "send"
    rho: float = 0.2
    site: str = "hidden"
    window: int = 3
    refresh_every: int = 3
    epochs: int = 12
    mask_in_eval: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("arm", self.mode, ARMS)
        check_choice("site", self.site, SITES)
        check_between("ρ", self.rho, *RHOS)
        for name, bounds in (("window", WINDOWS), ("refresh_every", PERIODS), ("epochs", EPOCHS)):
            check_whole(
                {"window": "C", "refresh_every": "T"}.get(name, "number of epochs"), getattr(self, name), *bounds
            )
        check_whole("seed", self.seed, 0, 2**31)
        for name in ("window", "refresh_every", "epochs", "seed"):
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.masks and self.first_mask >= self.epochs:
            raise gr.Error(
                f"With C = {self.window} and T = {self.refresh_every} the first indices are dropped after epoch "
                f"{self.first_mask}: train for more than {self.first_mask} epochs, got {self.epochs}."
            )

    @property
    def masks(self) -> bool:
        """Whether the arm drops indices."""
        return self.mode in MASKING

    @property
    def first_mask(self) -> int:
        """Epoch after which indices are dropped for the first time."""
        return -(-self.window // self.refresh_every) * self.refresh_every

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name."""
        return asdict(self)


SCORE_FIELDS = tuple(field.name for field in fields(ScoreSettings))


def checked_layer(layer: Any) -> str | int:
    """A layer by its name or as a whole number; the model says later whether it has so many."""
    text = str(layer if layer is not None else "").strip()
    if text in LAYERS:
        return text
    if text.removeprefix("-").isdecimal():
        return int(text)
    raise gr.Error(f"The layer must be one of {', '.join(LAYERS)} or a whole number, got {layer!r}.")
