# SPDX-License-Identifier: Apache-2.0
"""The settings of differentially private training on the clients."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any


ACCOUNTANTS = ("prv", "rdp")
GRAD_SAMPLE_MODES = ("hooks", "ghost")


@dataclass
class DPConfig:
    """Differentially private local training (DP-SGD) with one budget per client over all rounds.

    Each example's gradient is clipped to norm C, Gaussian noise of standard deviation `noise_multiplier * C` is added to
    their sum, and the sum is divided by the expected size of a Poisson batch. Needs the extra `dp` to train and account.

    Args:
        target_epsilon (`float`, *optional*): epsilon that no client exceeds. `None` only together with `noise_multiplier`:
            what the noise costs is then reported and not limited.
        target_delta (`float`): delta of the guarantee, in (0, 1); below 1 over the number of examples of a client.
        max_grad_norm (`float`, *optional*, defaults to 2.0): C, the norm to which an example's gradient is clipped.
        noise_multiplier (`float`, *optional*): noise over C. By default searched for each client, so that its whole run
            stays within the target.
        accountant (`str`, *optional*, defaults to `"prv"`): `"prv"` (numerical composition, tight) or `"rdp"` (Rényi
            divergences, faster, about 6 to 11 percent more noise for the same target).
        max_participations (`int`, *optional*): rounds in which a client may train, a hard cap; the number of its own steps
            that the budget is planned for follows from it. By default whoever enrols the clients gives it.
        grad_sample_mode (`str`, *optional*, defaults to `"hooks"`): `"hooks"` keeps the gradients of all examples of a batch,
            `"ghost"` only their norms and goes backward twice.
        physical_batch_size (`int`, *optional*): most examples in memory at once; a larger Poisson batch comes in parts.
        expected_batch_size (`int`, *optional*): mean size of a Poisson batch; by default the batch size of the training.
        seed (`int`, *optional*): seed of noise and sampling. By default both come from fresh entropy of the operating
            system. A number makes a run repeatable and voids the guarantee against whoever knows it: for tests.

    Raises:
        ValueError: for a value out of range, with the values allowed.

    Opacus' `secure_mode` is not offered: it needs torchcsprng, which no current torch can load. Noise comes from torch's
    generators, which are started from fresh entropy but are not cryptographic.

    Example:

    ```python
    >>> from eigenhub.federated import DPConfig
    >>> DPConfig(target_epsilon=6.0, target_delta=1e-5, max_participations=50).max_grad_norm
    2.0
    ```
    """

    target_epsilon: float | None
    target_delta: float
    max_grad_norm: float = 2.0
    noise_multiplier: float | None = None
    accountant: str = "prv"
    max_participations: int | None = None
    grad_sample_mode: str = "hooks"
    physical_batch_size: int | None = None
    expected_batch_size: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        for name, allowed in {"accountant": ACCOUNTANTS, "grad_sample_mode": GRAD_SAMPLE_MODES}.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}; got {value!r}")
        for name in ("max_participations", "physical_batch_size", "expected_batch_size"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value)
        if self.seed is not None:
            check_count("seed", self.seed, least=0)

    def _check_numbers(self) -> None:
        if self.target_epsilon is None and self.noise_multiplier is None:
            raise ValueError("`target_epsilon` may be None only if `noise_multiplier` is given")
        if self.target_epsilon is not None and not _positive(self.target_epsilon):
            raise ValueError(f"`target_epsilon` must be a positive number, got {self.target_epsilon!r}")
        if not (_positive(self.target_delta) and self.target_delta < 1):
            raise ValueError(f"`target_delta` must lie in (0, 1), got {self.target_delta!r}")
        if not _positive(self.max_grad_norm):
            raise ValueError(f"`max_grad_norm` must be a positive number, got {self.max_grad_norm!r}")
        if self.noise_multiplier not in (None, 0) and not _positive(self.noise_multiplier):
            raise ValueError(
                f"`noise_multiplier` must be None or a number of at least 0, got {self.noise_multiplier!r}"
            )

    def batch_size(self, default: int) -> int:
        """The expected size of a Poisson batch.

        Args:
            default (`int`): batch size of the training, for a configuration without `expected_batch_size`.
        """
        return self.expected_batch_size or check_count("batch_size", default)

    def to_dict(self) -> dict[str, Any]:
        """Every setting as a JSON value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DPConfig":
        """The configuration of [`~DPConfig.to_dict`].

        Args:
            values (`dict`): settings by name; those left out get their defaults.

        Raises:
            ValueError: for a name that is no setting, and for a missing one that has no default.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        if missing := sorted({"target_epsilon", "target_delta"} - set(values)):
            raise ValueError(f"missing settings {', '.join(missing)}")
        return cls(**values)


def check_count(name: str, value: Any, least: int = 1) -> int:
    """`value`, if it is an integer of at least `least`.

    Args:
        name (`str`): of the argument, for the message.
        value (`Any`): what was given.
        least (`int`, *optional*, defaults to 1): smallest value allowed.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}")
    return value


def _positive(value: Any) -> bool:
    """Whether `value` is a finite number above zero."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
