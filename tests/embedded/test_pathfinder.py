# SPDX-License-Identifier: Apache-2.0
"""Pathfinder: labels by an independent tracer, no shortcut in single pixels or in distances, halves, seeds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from eigenhub.embedded.pathfinder import PathfinderRecipe, choose_pairs, draw_scene, load_pathfinder, mark


PROBED = PathfinderRecipe(size=16, num_train=2000, num_test=2500)


def generator() -> np.random.RandomState:
    return np.random.RandomState(0)


def on_one_curve(image: np.ndarray, discs: np.ndarray) -> bool:
    """Whether steps over at most one empty pixel lead from one place to the other: nothing of the generator is used."""
    goal, ink = tuple(discs[1]), {tuple(place) for place in np.argwhere(image)}
    reached, front = {tuple(discs[0])}, [tuple(discs[0])]
    while front:
        row, column = front.pop()
        near = {(row + i, column + j) for i in range(-2, 3) for j in range(-2, 3)}
        fresh = (near & (ink | {goal})) - reached
        reached |= fresh
        front += fresh
    return goal in reached


@pytest.mark.parametrize("size", [16, 32])
def test_discs_tell_the_truth(size: int) -> None:
    """And no distractor leads from one curve to the other."""
    draws, recipe, found = generator(), PathfinderRecipe(size=size), 0
    for _ in range(100):
        image, ends = draw_scene(recipe, draws)
        assert image.dtype == bool and image.shape == (size, size)
        assert ends.shape == (2, 2, 2) and ends.min() >= 1 and ends.max() <= size - 2
        if (pairs := choose_pairs(ends, draws)) is None:
            continue
        one, two = pairs
        assert abs(np.linalg.norm(one[0] - one[1]) - np.linalg.norm(two[0] - two[1])) <= 1
        assert any(np.array_equal(one, curve) for curve in ends)
        assert two[0].tolist() in ends[0].tolist() and two[1].tolist() in ends[1].tolist()
        assert on_one_curve(image, one) and not on_one_curve(image, two)
        found += 1
    assert found > 40


def test_discs_do_not_overlap_and_distractors_are_there() -> None:
    recipe, draws, ink = PathfinderRecipe(size=32), generator(), []
    for _ in range(20):
        image, ends = draw_scene(recipe, draws)
        flat = ends.reshape(4, 2)
        assert np.abs(flat[:, None] - flat[None]).max(2)[np.triu_indices(4, 1)].min() >= 4
        ink.append(image.sum())
    bare = [draw_scene(PathfinderRecipe(size=32, num_distractors=0), draws)[0].sum() for _ in range(20)]
    assert np.mean(ink) > np.mean(bare) + 4


def test_discs_are_discs() -> None:
    empty = np.zeros((16, 16), bool)
    marked = mark(empty, np.array([[3, 4], [10, 12]]))
    assert marked.sum() == 10 and marked[3, 3:6].all() and marked[2:5, 4].all()
    assert mark(np.zeros((32, 32), bool), np.array([[8, 8]])).sum() == 9
    assert not empty.any()


@pytest.fixture(scope="module")
def probed() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kept in the cache of the test runs: 4,500 images take a quarter of a minute the first time."""
    data = load_pathfinder(PROBED)
    columns = {name: data[name][:] for name in ("train", "test")}
    return {name: (c["pixel_values"].flatten(1).numpy(), c["labels"].numpy()) for name, c in columns.items()}


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
def test_a_linear_probe_stays_at_chance(probed: dict, strength: float) -> None:
    probe = LogisticRegression(C=strength, max_iter=300).fit(*probed["train"])
    assert abs(probe.score(*probed["test"]) - 0.5) <= 0.02
    assert probe.score(*probed["train"]) > 0.52  # it did look for something


def test_halves_and_values(probed: dict) -> None:
    for pixels, labels in probed.values():
        assert labels.mean() == 0.5
        assert set(np.unique(pixels)) == {-1.0, 1.0}
        assert len(np.unique(pixels, axis=0)) == len(pixels)


def test_seeded_and_kept(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = PathfinderRecipe(size=16, num_train=6, num_test=2)
    first = load_pathfinder(recipe)
    assert first["train"][0]["pixel_values"].shape == (1, 16, 16)
    assert first["train"][:]["pixel_values"].dtype == torch.float32
    assert first["train"].features["labels"].names == ["two curves", "one curve"]
    other = load_pathfinder(PathfinderRecipe(size=16, num_train=6, num_test=2, seed=1))
    assert not torch.equal(first["train"][:]["pixel_values"], other["train"][:]["pixel_values"])
    monkeypatch.setattr("eigenhub.embedded.pathfinder._generate", None)  # a second call must not generate
    assert torch.equal(load_pathfinder(recipe)["test"][:]["pixel_values"], first["test"][:]["pixel_values"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 15}, "`size` must be at least 16, got 15"),
        ({"curve_length": 33}, "`curve_length` must be between 8 and 32, got 33"),
        ({"num_train": 5}, "must be even, for equal halves, got 5 and 1000"),
    ],
)
def test_bad_recipes(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PathfinderRecipe(**changes)
