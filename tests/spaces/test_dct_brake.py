# SPDX-License-Identifier: Apache-2.0
"""AuON's brake and the singular values of real updates."""

import gradio as gr
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg import newton_schulz
from tests.spaces.checks import check_endpoints_are_described


@pytest.mark.parametrize("matrix", ["gaussian", "ill_conditioned", "spike"])
@pytest.mark.parametrize("gamma", [0.0, 1.5, 8.0, 40.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 12), (64, 64), (96, 32)])
def test_the_brake_and_its_bounds(dct, gamma, shape, matrix):
    answer = dct.api.brake(gamma, *shape, matrix)
    x = dct.braking.momentum(matrix, *shape).double().numpy()
    assert np.linalg.norm(x) == pytest.approx(1, abs=1e-6)
    assert answer["rho"] == pytest.approx(np.sqrt(np.mean(np.cosh(gamma * x) ** 2)), rel=1e-9)
    tolerance = 1 + 1e-5 * (1 + gamma)
    assert answer["lowest"] / tolerance <= answer["rho"] <= answer["highest"] * tolerance
    if matrix == "spike":
        assert answer["rho"] == pytest.approx(answer["highest"], rel=1e-6)


def test_auon_keeps_the_ratios_and_divides_by_the_brake(dct):
    found = dct.braking.apply_brake(8.0, 24, 16, "gaussian")
    assert found.rho > 1.05
    assert_close(found.values["AuON"] * found.rho, found.values["momentum"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(48, 48), (64, 24), (24, 64)])
def test_iterations_and_not_the_brake_make_the_values_equal(dct, shape):
    found = dct.braking.apply_brake(1.5, *shape, "ill_conditioned")
    matrix = dct.braking.momentum("ill_conditioned", *shape)
    spread = [values[0] / values[-1] for name, values in found.values.items() if name.startswith("Hybrid")]
    assert len(spread) == 5 and all(a > b for a, b in zip(spread, spread[1:], strict=False))
    exact = torch.linalg.svdvals(newton_schulz(matrix, 5))
    assert_close(found.values["Hybrid AuON, k = 5"], exact, rtol=2e-3, atol=2e-3)
    large = exact > 0.5  # PyTorch's Muon iterates in bfloat16
    assert_close(found.values["Muon"][large], exact[large], rtol=0.1, atol=0.05)
    assert all(len(values) == min(shape) for values in found.values.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((-1.0, 8, 8), "gamma must be in 0 to 40"), ((41.0, 8, 8), "got 41.0, 8, 8"), ((1.5, 0, 8), "got 1.5, 0, 8"),
     ((1.5, 8, 513), "rows and columns in 1 to 512"), ((1.5, 8, 8, "banana"), "not 'banana'")],
)  # fmt: skip
def test_what_cannot_be_braked(dct, arguments, said):
    with pytest.raises(gr.Error, match=said):
        dct.api.brake(*arguments)


@pytest.mark.parametrize(("gamma", "rows", "columns"), [(0.0, 8, 8), (40, 512, 1)])
def test_the_page_at_both_ends(dct, gamma, rows, columns):
    tiles, singular, brakes = dct.brake_tab.show(gamma, rows, columns, "ill_conditioned")
    found = dct.api.braking_of(gamma, rows, columns, "ill_conditioned")
    assert f"1 + {found.rho - 1:.2g}" in tiles
    lines = {line.get_label(): line for line in singular.axes[0].lines}
    assert set(lines) == set(found.values) and len(lines["Muon"].get_ydata()) == min(rows, columns)
    (here,) = [line for line in brakes.axes[0].lines if line.get_label() == "this matrix"]
    assert list(here.get_xdata()) == [rows * columns]
    singular.savefig("/dev/null", format="png")
    brakes.savefig("/dev/null", format="png")


def test_condition_numbers_are_readable(dct):
    assert [dct.brake_tab.condition(torch.tensor([1.0, last])) for last in (0.5, 1e-4, 0.0)] == ["2", "10,000", "∞"]


def test_every_public_endpoint_is_described(dct):
    check_endpoints_are_described(dct.app.demo, ["energy", "race", "memory", "check_memory", "brake"])
