# SPDX-License-Identifier: Apache-2.0
"""The parts of the speed benchmark that its conclusions rest on: what it compares with, what it counts, what it averages."""

import importlib
import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eigenhub.optim import AuON, DCTAdamW, state_numbers
from tests.common.optimizer_tester import make_parameters, run_steps
from tests.support.processes import ROOT


SHAPES = [(40, 24), (24, 40), (24, 24)]


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.parametrize("gap", [1, 3])
def test_the_naive_control_is_the_same_algorithm(gap: int) -> None:
    from support.naive_dct import NaiveDctAdamW

    ours, naive = make_parameters(SHAPES, torch.float64), make_parameters(SHAPES, torch.float64)
    run_steps(DCTAdamW(ours, 0.02, rank=5, update_proj_gap=gap), ours, range(7))
    run_steps(NaiveDctAdamW(naive, 0.02, 5, gap), naive, range(7))
    for a, b in zip(ours, naive, strict=True):
        assert_close(a, b, atol=1e-10, rtol=0)


def test_every_contender_that_is_installed_trains_and_its_bytes_are_counted() -> None:
    from support.contenders import SLOW, available, layer_shapes, layer_weights, state_bytes

    makers, absent = available()
    assert set(SLOW) - set(makers) == set() or absent
    for name, make in makers.items():
        weights = layer_weights(SHAPES)
        before = [w.detach().clone() for w in weights]
        optimizer = make(weights, 4)
        optimizer.step()
        assert not any(w.equal(b) for w, b in zip(weights, before, strict=True)), name
        assert state_bytes(optimizer) > 0
    galore = sum(state_numbers("galore", shape, 4) for shape in SHAPES)
    auon = AuON(layer_weights(SHAPES))
    auon.step()
    assert state_bytes(auon) == 4 * sum(state_numbers("auon", shape) for shape in SHAPES)
    if "galore_torch" not in absent:
        optimizer = makers["GaLore between SVDs"](layer_weights(SHAPES), 4)
        optimizer.step()
        assert state_bytes(optimizer) == 4 * galore  # the projector is an object of its own
    assert layer_shapes("llama_350m") == [(1024, 1024)] * 4 + [(2736, 1024)] * 2 + [(1024, 2736)]


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    contenders = importlib.import_module("support.contenders")
    monkeypatch.setattr(contenders, "find_spec", lambda name: None if name == "galore_torch" else True)
    makers, absent = contenders.available()
    assert absent == ["galore_torch"] and not any(name.startswith("GaLore") for name in makers)


def test_slow_contenders_are_called_less_often() -> None:
    from support.timing import interleaved

    calls: list[str] = []
    contenders = {name: (lambda n=name: calls.append(n)) for name in "ab"}
    seconds = interleaved(contenders, 3, "test", {"b": 1})
    assert calls == ["a", "b", "a", "b", "a", "a"] and [len(s) for s in seconds.values()] == [3, 1]


def test_ratios_and_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = importlib.import_module("dct")
    assert bench.quickest({"a": [3.0, 1.0], "b": [4.0, 9.0]}, "a", "b") == 0.25
    assert bench.averaged([11.0, 12.0], [1.0, 7.0], 10) == pytest.approx((11 + 9) / 10)
    assert bench.averaged([11.0], [1.0], 1) == 11
    names = set(itertools.chain.from_iterable(pair[:2] for pair in bench.STEPS)) | set(bench.FORMULAS)
    known = importlib.import_module("support.contenders").CONTENDERS
    assert names <= {name for group in known.values() for name in group}
    weights = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    made = {name: known["eigenhub" if name != "AdamW fused" else "torch"][name](weights, 4) for name in
            ("DCT-AdamW", "DCT-AdamW, int8 feedback", "Trion", "AuON", "AdamW fused")}  # fmt: skip
    for optimizer in made.values():
        optimizer.step()
    rows = bench.byte_rows(made, SHAPES, 4, "test")
    assert {r["what"]: r["value"] for r in rows if "formula" in r["what"]} == {
        f"state of {name} / formula": 1.0 for name in ("DCT-AdamW", "Trion", "AuON", "AdamW fused")
    }
