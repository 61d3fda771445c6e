# SPDX-License-Identifier: Apache-2.0
"""Sensitivity by hand, ties, and what is never selected."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.training.send import SenDConfig, SensitivityTracker, most_sensitive, sensitivity, split_tracking


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# [checkpoints, texts, indices]; variance times the way gone, by text:
# text 0: (0,1,2): 2/3 * 2; (1,1,1): 0; (0,3,0): 2 * 6; (5,5,8): 2 * 3
# text 1: (0,0,0): 0; (2,2,2): 0; (1,1,1): 0; (0,3,3): 2 * 3
BY_HAND = torch.tensor(
    [[[0.0, 1, 0, 5], [0, 2, 1, 0]], [[1.0, 1, 3, 5], [0, 2, 1, 3]], [[2.0, 1, 0, 8], [0, 2, 1, 3]]]
)


def test_by_hand():
    assert_close(sensitivity(BY_HAND), torch.tensor([2 / 3, 0, 6, 6], dtype=torch.float64))
    # means over texts: (0, .5, 1), 1.5, (.5, 2, .5), (2.5, 4, 5.5)
    expected = torch.tensor([1 / 6 * 1, 0, 0.5 * 3, 1.5 * 3], dtype=torch.float64)
    assert_close(sensitivity(BY_HAND, "score_of_mean"), expected)
    assert most_sensitive(sensitivity(BY_HAND), 1).tolist() == [2]  # the smaller of equals
    assert most_sensitive(sensitivity(BY_HAND), 4).tolist() == [0, 2, 3]  # an index that stands still is never chosen


@pytest.mark.parametrize("aggregate", ["mean_of_scores", "score_of_mean"])
def test_against_a_loop(aggregate):
    history = gaussian(4, 7, 9)
    array = history.double().numpy()
    if aggregate == "score_of_mean":
        array = array.mean(1, keepdims=True)
    expected = np.zeros(9)
    for n in range(array.shape[1]):
        for i in range(9):
            way = sum(abs(array[t, n, i] - array[t - 1, n, i]) for t in range(1, 4))
            expected[i] += np.var(array[:, n, i]) * way / array.shape[1]
    assert_close(sensitivity(history, aggregate), torch.from_numpy(expected))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    assert_close(sensitivity(history[:, order], aggregate), sensitivity(history, aggregate))
    assert_close(sensitivity(history.flip(0), aggregate), sensitivity(history, aggregate))


def test_ties_go_to_the_smaller_index():
    scores = torch.tensor([1.0, 2, 2, 1, 2, 0])
    assert [most_sensitive(scores, k).tolist() for k in (1, 2, 4, 6)] == [[1], [1, 2], [0, 1, 2, 4], [0, 1, 2, 3, 4]]
    assert most_sensitive(torch.zeros(5), 3).tolist() == []
    large = torch.ones(5000)
    assert most_sensitive(large, 2000).tolist() == list(range(2000))


def test_the_tracker_keeps_the_last_checkpoints():
    tracker = SensitivityTracker(window=3)
    states = [gaussian(5, 6, seed=t) for t in range(5)]
    for number, state in enumerate(states):
        assert tracker.ready == (number >= 3)
        assert tracker.add(state)
    assert_close(tracker.scores(), sensitivity(torch.stack(states[2:])))
    assert tracker.select(2).tolist() == most_sensitive(tracker.scores(), 2).tolist()
    with pytest.warns(RuntimeWarning, match="NaN or infinite: this checkpoint is left out"):
        assert not tracker.add(states[0] / 0)
    assert_close(tracker.scores(), sensitivity(torch.stack(states[2:])))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sensitivity(gaussian(1, 2, 3)), r"`history` must have shape \(C, N, d\).*got \(1, 2, 3\)"),
        (lambda: sensitivity(gaussian(3, 2, 3), "sum"), "`aggregate` must be one of mean_of_scores,.*'sum'"),
        (lambda: SensitivityTracker(1), "`window` must be at least 2, got 1"),
        (lambda: SensitivityTracker().add(gaussian(3)), r"`embeddings` must have shape \(N, d\)"),
        (lambda: SensitivityTracker().scores(), "two checkpoints or more must have been added, got 0"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_another_number_of_texts_is_an_error():
    tracker = SensitivityTracker()
    tracker.add(gaussian(4, 3))
    with pytest.raises(ValueError, match=r"must have shape \(4, 3\) as before, got \(5, 3\)"):
        tracker.add(gaussian(5, 3))


# ---------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("rho", "size", "count"), [(0.2, 64, 12), (0.3, 10, 3), (0.7, 10, 7), (0.1, 10, 1), (0.29, 10, 2)]
)
def test_the_floor_rule(rho, size, count):
    assert SenDConfig(rho=rho).num_dropped(size) == count


def test_settings_survive_json(tmp_path):
    config = SenDConfig(
        mode="random", rho=0.3, site="mlp", index_space="hidden", track_strategy="steps", track_steps=5
    )
    config.save(tmp_path, dropped=[1, 2])
    assert SenDConfig.load(tmp_path) == config


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "sen"}, "`mode` must be one of send, random, dropout, ema, off, got 'sen'"),
        ({"site": "attention"}, "`site` must be one of hidden, mlp, update"),
        ({"aggregate": "max"}, "`aggregate` must be one of"),
        ({"index_space": "mlp"}, "`index_space` must be one of site, hidden"),
        ({"index_space": "hidden"}, "`index_space` 'hidden' is for site 'mlp' only"),
        ({"rho": 0.9}, "`rho` must be above 0 and below 0.9, got 0.9"),
        ({"rho": 0.0}, "`rho` must be above 0"),
        ({"window": 1}, "`window` must be at least 2, got 1"),
        ({"refresh_every": 0}, "`refresh_every` must be at least 1"),
        ({"track_fraction": 1.0}, "`track_fraction` must be above 0 and below 1"),
        ({"track_strategy": "steps"}, "`track_steps` must be at least 1 for strategy 'steps'.*got None"),
        ({"track_steps": 5}, "left out for 'epoch', got 5"),
        ({"track_strategy": "steps", "track_steps": 0}, "`track_steps` must be at least 1"),
        ({"track_batch_size": 0}, "`track_batch_size` must be at least 1"),
        ({"stop_loss": 0.1}, "`stop_loss` and `stop_score` must be given together"),
        ({"ema_decay": 1.0}, "`ema_decay` must be above 0 and below 1"),
        ({"dropout": 1.0}, "`dropout` must be above 0 and below 1"),
    ],
)
def test_bad_settings(options, said):
    with pytest.raises(ValueError, match=said):
        SenDConfig(**options)


def test_too_small_a_share_is_an_error():
    with pytest.raises(ValueError, match="`rho` must drop an index or more of 16, got 0.05"):
        SenDConfig(rho=0.05).num_dropped(16)


# ---------------------------------------------------------------- the split
def test_no_row_is_trained_on_and_tracked():
    from datasets import Dataset

    train, track = split_tracking(list(range(50)), 0.2, seed=0)
    assert len(track) == 10 and sorted([*train, *track]) == list(range(50))
    assert [*track] == sorted(track) and [*split_tracking(list(range(50)), 0.2, seed=0)[1]] == [*track]
    assert [*split_tracking(list(range(50)), 0.2, seed=1)[1]] != [*track]
    table_train, table_track = split_tracking(Dataset.from_dict({"x": list(range(50))}), 0.2, seed=0)
    assert isinstance(table_track, Dataset) and table_track["x"] == [*track] and table_train["x"] == [*train]
    assert len(split_tracking([1, 2], 0.1, 0)[1]) == 1
    with pytest.raises(ValueError, match="must leave a row of 1"):
        split_tracking([1], 0.5, 0)
    with pytest.raises(ValueError, match="must have a length to be split"):
        split_tracking(iter([1]), 0.5, 0)
