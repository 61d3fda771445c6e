# SPDX-License-Identifier: Apache-2.0
"""The pendulum: its motion against another integrator, its energy, times, noise and seeds."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from eigenhub.embedded.pendulum import PendulumRecipe, load_pendulum, swing


SMALL = PendulumRecipe(num_train=300, num_test=20, length=32)


def test_motion_agrees_with_another_integrator() -> None:
    angles = np.array([-2.0, -0.3, 0.0, 1.2])
    timestamps = np.random.RandomState(0).exponential(0.1, (4, 30)).cumsum(1)
    states = swing(angles, timestamps)
    for angle, times, found in zip(angles, timestamps, states, strict=True):
        right = solve_ivp(
            lambda _, y: [y[1], -9.81 * np.sin(y[0]) - 0.25 * y[1]],
            (0, times[-1]),
            [angle, 0],
            method="DOP853",
            t_eval=times,
            rtol=1e-10,
            atol=1e-12,
        ).y.T
        np.testing.assert_allclose(found, right, atol=1e-4)


def test_energy_only_falls() -> None:
    states = swing(np.array([2.0]), np.arange(1, 200)[None] * 0.05)[0]
    energy = states[:, 1] ** 2 / 2 - 9.81 * np.cos(states[:, 0])
    assert (np.diff(energy) < 0).all() and energy[-1] < -9.81 * 0.7


def test_columns_times_and_noise() -> None:
    rows = load_pendulum(SMALL)["train"][:]
    assert {name: (*column.shape,) for name, column in rows.items()} == {
        "values": (300, 32, 1),
        "timestamps": (300, 32),
        "labels": (300, 32, 1),
    }
    deltas = np.diff(rows["timestamps"].numpy(), axis=1, prepend=0.0)
    assert deltas.min() >= 0
    assert deltas.mean() == pytest.approx(0.08, rel=0.03) and deltas.std() == pytest.approx(0.08, rel=0.05)
    quiet = load_pendulum(PendulumRecipe(num_train=300, num_test=20, length=32, noise=0.0))["train"][:]
    assert torch.equal(quiet["labels"], rows["labels"])
    assert (rows["values"] - quiet["values"]).std() == pytest.approx(0.05, rel=0.03)


def test_velocity_alone_does_not_tell_the_angle_but_its_integral_does() -> None:
    """The angle is the start plus the sum of velocity times time; with shuffled times between readings it is not."""
    rows = {name: column.squeeze().numpy() for name, column in load_pendulum(SMALL)["train"][:].items()}
    deltas = np.diff(rows["timestamps"], axis=1)
    middle = (rows["values"][:, 1:] + rows["values"][:, :-1]) / 2
    target = rows["labels"][:, 1:] - rows["labels"][:, :1]
    order = np.random.RandomState(0).rand(*deltas.shape).argsort(1)
    shuffled = np.take_along_axis(deltas, order, 1)
    errors = {
        "right": np.square((middle * deltas).cumsum(1) - target).mean(),
        "shuffled": np.square((middle * shuffled).cumsum(1) - target).mean(),
    }
    # Neither is perfect: between two readings the velocity is no straight line.
    assert errors["right"] < 0.1 * errors["shuffled"]
    assert np.corrcoef(rows["values"].ravel(), rows["labels"].ravel())[0, 1] ** 2 < 0.05


def test_seeds() -> None:
    first, again = load_pendulum(SMALL), load_pendulum(SMALL)
    assert torch.equal(first["test"][:]["values"], again["test"][:]["values"])
    other = load_pendulum(PendulumRecipe(num_train=300, num_test=20, length=32, seed=1))
    assert not torch.equal(first["test"][:]["timestamps"], other["test"][:]["timestamps"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"length": 0}, "`length` must be at least 1, got 0"),
        ({"num_test": 0}, "`num_test` must be at least 1, got 0"),
        ({"mean_delta": 0}, "`mean_delta` must be positive, got 0"),
        ({"noise": -1}, "`noise` must not be negative, got -1"),
    ],
)
def test_bad_recipes(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PendulumRecipe(**changes)
