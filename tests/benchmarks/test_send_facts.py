# SPDX-License-Identifier: Apache-2.0
"""The statistics that the conclusions of the fact-recall study rest on; nothing is trained."""

from statistics import mean
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.processes import ROOT


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def evaluation(right: int, wrong: int, refused: int, **more: float) -> dict[str, float]:
    total = right + wrong + refused
    return {"right": right, "wrong": wrong, "refused": refused, "hallucination": wrong / total, **more}


def run_of(*shares: float) -> dict[str, Any]:
    return {"epochs": [evaluation(100 - round(100 * s), round(100 * s), 0, flip=0.25) for s in shares], "sets": []}


def test_figures_of_a_run() -> None:
    from support.send_facts_statistics import run_figures

    rows = [evaluation(2, 8, 0), evaluation(4, 6, 0, flip=0.2)]
    rows += [evaluation(5, 4, 1, flip=0.3), evaluation(6, 2, 2, flip=0.1), evaluation(5, 4, 1, flip=0.1)]
    rows += [evaluation(6, 3, 1, flip=0.3)]
    found = run_figures(rows)
    assert found["last"] == pytest.approx((0.6 + 0.4 + 0.2 + 0.4 + 0.3) / 5)  # not the 0.8 before them
    assert found["last_sd"] == pytest.approx((0.088 / 5) ** 0.5)
    assert (found["final"], found["flip"]) == (0.3, pytest.approx(0.2))
    assert (found["refused"], found["right"]) == (0.1, 0.6)


def test_paired_differences() -> None:
    from support.send_facts_statistics import paired

    found = paired([0.3, 0.5, 0.2], [0.1, 0.1, 0.3])
    assert found["differences"] == pytest.approx([0.2, 0.4, -0.1])
    assert (found["mean"], found["above"], found["below"]) == (pytest.approx(0.5 / 3), 2, 1)
    assert found["sd"] == pytest.approx(torch.tensor([0.2, 0.4, -0.1]).std().item(), rel=1e-6)
    tied = paired([0.1, 0.1], [0.3, 0.1])
    assert (tied["above"], tied["below"]) == (0, 1)
    with pytest.raises(ValueError):
        paired([0.1], [0.1, 0.2])


def test_overlaps() -> None:
    from support.send_facts_statistics import chance_overlap, consecutive_overlaps

    assert consecutive_overlaps([[1, 2, 3], [2, 3, 4], [7, 8, 9]]) == [2, 0]
    assert chance_overlap(12, 64) == 2.25
    sizes = [len({*torch.randperm(20)[:5].tolist()} & set(range(5))) for _ in range(4000)]
    assert mean(sizes) == pytest.approx(chance_overlap(5, 20), abs=0.1)


def test_halves_agree_on_what_moves_in_every_text_and_by_chance_on_noise() -> None:
    from support.send_facts_statistics import chance_overlap, half_overlaps

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 40, 64, generator=generator)
    moving = noise.clone() * 1e-3
    moving[:, :, 5:17] += torch.tensor([0.0, 1.0, 3.0])[:, None, None]
    assert half_overlaps(list(moving), 12) == 12
    seen = [half_overlaps(list(torch.randn(3, 40, 64, generator=generator)), 12, splits=10) for _ in range(20)]
    assert mean(seen) == pytest.approx(chance_overlap(12, 64), abs=0.6)


def test_extra_arms_are_compared_with_the_same_seeds_of_their_peers() -> None:
    from support.send_facts_arms import Arm
    from support.send_facts_rows import arm_rows, paired_rows

    table = {
        "plain": [run_of(0.9, share) for share in (0.1, 0.2, 0.6)],
        "few": [run_of(0.9, share) for share in (0.3, 0.3)],
    }
    (found,) = paired_rows((Arm("few", ()),), table)
    assert found["all"]["final"]["differences"] == pytest.approx([0.2, 0.1])
    assert found["value"] == pytest.approx(0.075)  # of the mean over both epochs
    assert "final +0.150" in found["setting"] and "above in 2 and below in 0 of 2" in found["setting"]
    plain, _ = arm_rows((Arm("plain", (), plain=None), Arm("few", ())), table)
    assert plain["value"] == pytest.approx(0.3) and plain["range"] == [0.1, 0.6]
    assert plain["curves"] == [[0.9, 0.1], [0.9, 0.2], [0.9, 0.6]]


def test_every_arm_has_its_peers_under_the_same_settings() -> None:
    from support.send_facts_arms import EXTRA, MAIN

    arms = {arm.name: arm for arm in (*MAIN, *EXTRA)}
    assert len(arms) == len(MAIN) + len(EXTRA) and len({arm.slug for arm in MAIN}) == len(MAIN)
    for arm in arms.values():
        for peer in (arm.plain, arm.random):
            assert peer is None or arms[peer].epochs == arm.epochs
        if arm.random is not None:
            other = arms[arm.random]
            assert (other.masked, other.open_end, other.plain) == (arm.masked, arm.open_end, arm.plain)
            assert arm.flags[:2] == ("--arm", "send") and other.flags == ("--arm", "random", *arm.flags[2:])


def test_stability_is_a_share_of_the_chosen() -> None:
    from support.send_facts_rows import stability_rows

    sets = [
        {"checkpoint": c, "size": 10, "chosen": chosen, "halves": h}
        for c, chosen, h in ((3, [1, 2], 2), (6, [2, 3], 1))
    ]
    halves, kept = stability_rows({"SenD, hidden": [{"sets": sets}]})
    assert (halves["value"], kept["value"], halves["chance"]) == (0.75, 0.5, 0.2)
    assert "3: 1.00, 6: 0.50" in halves["setting"]


def test_detectors_at_each_temperature() -> None:
    from support.send_facts_rows import detector_rows

    def scored(low: float, high: float) -> list[dict[str, Any]]:
        return [
            {"epoch": 16, "temperature": t, "wrong": 0.25, "auroc": {"length": value}}
            for t, value in ((0.5, low), (1.0, high))
        ]

    (found,) = detector_rows([scored(0.8, 0.6), scored(0.6, 0.5)])
    assert found["value"] == pytest.approx(0.7) and found["range"] == [0.6, 0.8]
    assert "0.550 (sd 0.071) at T=1, epoch 16, 25 % wrong" in found["setting"]


def test_cost_apart_from_tracking() -> None:
    from support.send_facts_rows import cost_rows

    seconds = {"plain": [1.0, 2.0, 1.0], "SenD": [1.2, 2.4, 1.2], "tracking": [0.1, 0.2, 0.1]}
    outside, tracking, whole = cost_rows(seconds)
    assert [entry["value"] for entry in (outside, tracking, whole)] == pytest.approx([1.1, 0.1, 1.2])
    assert outside["bound"] == 1.05 and tracking["bound"] is None


def test_the_last_epochs_are_open() -> None:
    from support.send_facts_runs import OpenAtTheEnd

    dropped: list[list[int]] = []
    runtime = SimpleNamespace(
        checkpoints=0,
        config=SimpleNamespace(refresh_every=3),
        gate=SimpleNamespace(set_dropped=dropped.append),
    )
    callback = OpenAtTheEnd(SimpleNamespace(send=runtime))  # type: ignore[arg-type]
    opened = []
    for checkpoint in range(1, 17):
        runtime.checkpoints, before = checkpoint, len(dropped)
        callback.on_epoch_end(SimpleNamespace(num_train_epochs=16), None, None)  # type: ignore[arg-type]
        opened += [checkpoint] * (len(dropped) - before)
    assert opened == [13, 14, 15, 16] and dropped == [[]] * 4  # training epochs 14, 15 and 16
