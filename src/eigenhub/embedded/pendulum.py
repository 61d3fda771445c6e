# SPDX-License-Identifier: Apache-2.0
"""A damped pendulum whose angular velocity is read at random times: its angle follows only for who knows the times."""

from dataclasses import dataclass

import numpy as np
from datasets import Array2D, Dataset, DatasetDict, Features, List, Value


_GRAVITY_OVER_LENGTH, _DAMPING = 9.81, 0.25  # per second squared, per second
_SUBSTEPS = 8  # Runge-Kutta steps between two readings


@dataclass(frozen=True)
class PendulumRecipe:
    """
    Which swings there are.

    Args:
        num_train (`int`, *optional*, defaults to 1000): number of training sequences.
        num_test (`int`, *optional*, defaults to 500): number of test sequences.
        length (`int`, *optional*, defaults to 64): readings per sequence.
        mean_delta (`float`, *optional*, defaults to 0.08): mean time between two readings, in seconds. The times between
            them are exponentially distributed, as those of independent events.
        noise (`float`, *optional*, defaults to 0.05): standard deviation of the error of a reading, in radians per second.
        seed (`int`, *optional*, defaults to 0): seed of starts, times and errors.
    """

    num_train: int = 1_000
    num_test: int = 500
    length: int = 64
    mean_delta: float = 0.08
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_train", "num_test", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if self.mean_delta <= 0:
            raise ValueError(f"`mean_delta` must be positive, got {self.mean_delta}")
        if self.noise < 0:
            raise ValueError(f"`noise` must not be negative, got {self.noise}")


def load_pendulum(recipe: PendulumRecipe = PendulumRecipe()) -> DatasetDict:  # noqa: B008  # frozen
    """
    Swings of a damped pendulum, `angle'' = -(g / l) sin(angle) - c angle'`, released at rest from a random angle.

    Args:
        recipe (`PendulumRecipe`, *optional*, defaults to `PendulumRecipe()`): sizes, times and seed.

    Returns:
        `DatasetDict` with the splits `train` and `test` and, in torch format, the columns `values` (`(length, 1)`, the noisy
        angular velocity in radians per second), `timestamps` (`(length,)`, seconds since the release) and `labels`
        (`(length, 1)`, the angle in radians).

    Example:

    ```python
    >>> from eigenhub.embedded.pendulum import PendulumRecipe, load_pendulum

    >>> load_pendulum(PendulumRecipe(num_train=4, num_test=2))["train"][0]["labels"].shape
    torch.Size([64, 1])
    ```
    """
    # RandomState's stream is frozen for ever, which numpy does not promise of default_rng.
    generator = np.random.RandomState(recipe.seed)
    counts = {"train": recipe.num_train, "test": recipe.num_test}
    return DatasetDict({name: _split(recipe, count, generator) for name, count in counts.items()})


def swing(angles: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """
    Angle and angular velocity of pendulums released at rest.

    Args:
        angles (`np.ndarray` of shape `(pendulums,)`): angles at time 0, in radians.
        timestamps (`np.ndarray` of shape `(pendulums, length)`): ascending times of interest, in seconds.

    Returns:
        `np.ndarray` of shape `(pendulums, length, 2)`, by the classical Runge-Kutta method.
    """
    state = np.stack([angles, np.zeros_like(angles)], 1)  # [pendulums, angle and velocity]
    states = []
    for delta in np.diff(timestamps, axis=1, prepend=0.0).T[..., None] / _SUBSTEPS:
        for _ in range(_SUBSTEPS):
            state = _runge_kutta(state, delta)
        states.append(state)
    return np.stack(states, 1)


def _runge_kutta(state: np.ndarray, step: np.ndarray) -> np.ndarray:
    first = _change(state)
    second = _change(state + step / 2 * first)
    third = _change(state + step / 2 * second)
    fourth = _change(state + step * third)
    return state + step / 6 * (first + 2 * second + 2 * third + fourth)


def _change(state: np.ndarray) -> np.ndarray:
    angle, velocity = state.T
    return np.stack([velocity, -_GRAVITY_OVER_LENGTH * np.sin(angle) - _DAMPING * velocity], 1)


def _split(recipe: PendulumRecipe, count: int, generator: np.random.RandomState) -> Dataset:
    start = generator.uniform(-2.0, 2.0, count)
    timestamps = generator.exponential(recipe.mean_delta, (count, recipe.length)).cumsum(1)
    states = swing(start, timestamps)
    readings = states[..., 1] + generator.normal(0, recipe.noise, states.shape[:2])
    shape = Array2D((recipe.length, 1), "float32")
    features = Features({"values": shape, "timestamps": List(Value("float32"), length=recipe.length), "labels": shape})
    columns = {"values": readings[..., None], "timestamps": timestamps, "labels": states[..., :1]}
    single = {name: column.astype(np.float32) for name, column in columns.items()}
    return Dataset.from_dict(single, features=features).with_format("torch")
