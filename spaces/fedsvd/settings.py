# SPDX-License-Identifier: Apache-2.0
"""What a visitor chose for a run, checked before anything is computed."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
from names import CLIENTS, EPSILONS, INITS, METHODS, OPTIMIZERS, RATES, ROUNDS, STEPS


@dataclass(frozen=True)
class Settings:
    """
    One run.

    Args:
        clients (`int`): their number.
        alpha (`float`): concentration of the Dirichlet split; near zero every digit belongs to one client.
        method (`str`): key of `METHODS`.
        rounds (`int`): rounds of the run.
        steps (`int`): optimizer steps of a client in a round.
        epsilon (`float`): target of every client; 0 for training without differential privacy.
        delta (`float`): of the guarantee.
        optimizer (`str`): key of `OPTIMIZERS`.
        init (`str`): key of `INITS`.
        rate (`float`): learning rate; 0 for that of the optimizer.
        share (`float`): of the clients that take part in a round.
        clip (`float`): norm to which an example's gradient is clipped under differential privacy.
        rotation (`bool`): broadcast A as a small matrix on a basis that is sent once.
        show_private (`bool`): under differential privacy, show what the clients measure on their own rows all the same.
        seed (`int`): of the split, of the initial adapter and of the choice of clients.
    """

    clients: int = 6
    alpha: float = 0.5
    method: str = "fedsvd"
    rounds: int = 15
    steps: int = 10
    epsilon: float = 0.0
    delta: float = 1e-3
    optimizer: str = "sgd"
    init: str = "kaiming"
    rate: float = 0.0
    share: float = 0.5
    clip: float = 2.0
    rotation: bool = False
    show_private: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_choices()
        for name, (least, most) in {"clients": CLIENTS, "rounds": ROUNDS, "steps": STEPS}.items():
            value = getattr(self, name)
            if not is_number(value) or value != int(value) or not least <= value <= most:
                raise gr.Error(f"The number of {name} must be a whole number from {least} to {most}, got {value}.")
        self._check_numbers()
        # numbers come from sliders and programs as floats
        for name in ("clients", "rounds", "steps", "seed"):
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "rate", float(self.rate or RATES[self.optimizer]))

    def _check_choices(self) -> None:
        choices = {"method": METHODS, "optimizer": OPTIMIZERS, "init": INITS}
        for name, allowed in choices.items():
            if (value := getattr(self, name)) not in allowed:
                raise gr.Error(f"The {name} must be one of {', '.join(allowed)}, got {value!r}.")

    def _check_numbers(self) -> None:
        low, high = EPSILONS
        rules = {
            "alpha": ("above 0, at most 1000", lambda value: 0 < value <= 1000),
            "epsilon": (f"0 (off) or from {low:g} to {high:g}", lambda value: value == 0 or low <= value <= high),
            "delta": ("above 0 and below 1", lambda value: 0 < value < 1),
            "rate": ("0 (the default) or a positive number up to 10", lambda value: 0 <= value <= 10),
            "share": ("above 0, at most 1", lambda value: 0 < value <= 1),
            "clip": ("above 0, at most 100", lambda value: 0 < value <= 100),
            "seed": ("a whole number from 0 to 2³¹", lambda value: value == int(value) and 0 <= value <= 2**31),
        }
        for name, (allowed, holds) in rules.items():
            if not (is_number(value := getattr(self, name)) and holds(value)):
                raise gr.Error(f"The {name} must be {allowed}, got {value}.")

    @property
    def hides_clients(self) -> bool:
        """Whether figures that clients measure on their own rows stay with them."""
        return self.epsilon > 0 and not self.show_private

    @property
    def label(self) -> str:
        """Name of the run in figures and tables."""
        privacy = f", ε = {self.epsilon:g}" if self.epsilon else ""
        return f"{METHODS[self.method]}, {OPTIMIZERS[self.optimizer]}{privacy}"

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name."""
        return asdict(self)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number; an emptied field of the page is None."""
    return isinstance(value, int | float) and math.isfinite(value)
