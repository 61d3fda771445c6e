# SPDX-License-Identifier: Apache-2.0
"""What is special about DCT-AdamW: exact cases, conservation, orientation, bad gradients, its exact problem."""

import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eigenhub.linalg import dct_matrix
from eigenhub.optim import DCTAdamW, Trion
from eigenhub.optim.error_feedback import read_error_feedback
from tests.common.optimizer_tester import give_gradients, make_parameters, run_steps


SHAPES = [(20, 8), (8, 20), (9, 9), (1, 6), (6, 1), (1, 1)]


def test_all_axes_of_the_identity_are_adamw():
    ours, theirs = make_parameters(SHAPES), make_parameters(SHAPES)
    run_steps(DCTAdamW(ours, 1e-2, weight_decay=0.1, rank=1.0, basis="identity"), ours, range(50))
    run_steps(torch.optim.AdamW(theirs, 1e-2, weight_decay=0.1), theirs, range(50))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("basis", ["dct2", "dct3", "random"])
@pytest.mark.parametrize("options", [{"error_feedback": "fp32"}, {"residual": "fira"}])
def test_nothing_is_left_of_a_full_basis(basis, options):
    whole, full = make_parameters(SHAPES), make_parameters(SHAPES)
    optimizer = DCTAdamW(full, 1e-2, rank=10**6, basis=basis, **options)
    run_steps(optimizer, full, range(5))
    run_steps(DCTAdamW(whole, 1e-2, rank=10**6, basis=basis), whole, range(5))
    for a, b in zip(full, whole, strict=True):
        assert_close(a, b, atol=2e-4 if "residual" in options else 1e-4, rtol=0)
    if "error_feedback" in options:
        for parameter in full:
            assert optimizer.state[parameter]["error_feedback"].norm() <= 1e-5 * parameter.grad.norm()


@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (9, 9), (3, 6, 4)])
@pytest.mark.parametrize("basis", ["dct2", "dct3"])
def test_what_is_not_used_is_kept(kind, shape, basis):
    """Used part + new feedback = gradient + old feedback, and the two parts are orthogonal."""
    (parameter,) = make_parameters([shape])
    optimizer = DCTAdamW([parameter], rank=3, error_feedback=kind, basis=basis, betas=(0.0, 0.0))
    for step in range(3):
        give_gradients([parameter], step)
        state = optimizer.state[parameter]
        layout = optimizer._layout(parameter, "auto")
        old = read_error_feedback(state, layout).clone() if step else 0.0
        optimizer.step()
        total = layout.view(parameter.grad) + old
        left = read_error_feedback(state, layout).float()
        used = layout.matrix_view(state["indices"])
        b = dct_matrix(layout.width, torch.float32)
        vectors = (b if basis == "dct2" else b.mT)[used]  # rows are the chosen vectors
        expected = total - (total @ vectors.mT) @ vectors
        tolerance = {"fp32": 1e-6, "bf16": 1e-2, "int8": 3e-2}[kind]
        assert_close(left, expected, atol=tolerance * float(total.abs().max()), rtol=0)


def test_left_on_a_matrix_is_right_on_its_transpose():
    wide, tall = make_parameters([(6, 15)])[0], nn.Parameter(make_parameters([(6, 15)])[0].detach().mT.contiguous())
    first, second = DCTAdamW([wide], rank=2), DCTAdamW([tall], rank=2)
    for step in range(4):
        give_gradients([wide], step)
        tall.grad = wide.grad.mT.contiguous()
        first.step()
        second.step()
    assert_close(wide.mT, tall, atol=1e-6, rtol=0)
    assert first.state[wide]["exp_avg"].shape == (2, 15) and second.state[tall]["exp_avg"].shape == (15, 2)
    assert first.state[wide]["indices"].equal(second.state[tall]["indices"])


@pytest.mark.parametrize(("rank", "expected"), [(3, 3), (100, 8), (0.25, 2), (0.01, 1), (1.0, 8)])
def test_ranks_are_numbers_or_fractions_of_the_width(rank, expected):
    (parameter,) = make_parameters([(20, 8)])
    optimizer = DCTAdamW([parameter], rank=rank)
    run_steps(optimizer, [parameter], range(1))
    state = optimizer.state[parameter]
    assert state["exp_avg"].shape == state["exp_avg_sq"].shape == (20, expected)
    assert state["indices"].dtype == torch.int64 and (state["indices"].diff() > 0).all()


def test_one_optimizer_serves_a_mixture_of_widths_and_late_parameters():
    """Grouped-query attention, several ranks, and a parameter that joins at the third step."""
    parameters = make_parameters([(32, 32), (8, 32), (8, 32), (48, 32), (32, 48), (5,), (16, 4)])
    optimizer = DCTAdamW([{"params": parameters[:5], "rank": 0.5}, {"params": parameters[5:], "rank": 2}], lr=0.01)
    for step in range(4):
        give_gradients(parameters, step)
        if step < 2:
            parameters[1].grad = None
        optimizer.step()
    assert optimizer.state[parameters[1]]["step"] == 2 and optimizer.state[parameters[0]]["step"] == 4
    alone = make_parameters([(8, 32), (8, 32)])[1:]
    alone[0].data.copy_(make_parameters([(32, 32), (8, 32)])[1])
    single = DCTAdamW(alone, lr=0.01, rank=0.5)
    for step in (2, 3):
        give_gradients(parameters, step)
        alone[0].grad = parameters[1].grad
        single.step()
    assert_close(parameters[1], alone[0], atol=1e-6, rtol=0)


def test_counting_per_slot_is_the_same_while_the_set_is():
    plain, slots = make_parameters(SHAPES), make_parameters(SHAPES)
    run_steps(DCTAdamW(plain, rank=0.5, update_proj_gap=100), plain, range(6))
    run_steps(DCTAdamW(slots, rank=0.5, update_proj_gap=100, per_slot_bias_correction=True), slots, range(6))
    for a, b in zip(slots, plain, strict=True):
        assert_close(a, b, atol=1e-6, rtol=0)


def test_a_late_slot_takes_a_plain_first_step_if_it_is_counted():
    """Otherwise the correction of many steps multiplies it by (1 - beta1) / sqrt(1 - beta2) / ..."""
    steps = {}
    for counted in (True, False):
        parameter = nn.Parameter(torch.zeros(4, 4))
        optimizer = DCTAdamW([parameter], 1.0, rank=1, basis="identity", per_slot_bias_correction=counted)
        for column in [0] * 100 + [2]:
            parameter.grad = torch.zeros(4, 4)
            parameter.grad[:, column] = 1.0
            optimizer.step()
        steps[counted] = parameter[:, 2].detach()
    assert_close(steps[True], torch.full((4,), -1.0), atol=1e-5, rtol=0)
    hidden = 0.1 / 0.001**0.5 * (1 - 0.999**101) ** 0.5 / (1 - 0.9**101)
    assert_close(steps[False], torch.full((4,), -hidden), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_never_enters_the_feedback(bad):
    parameters, others = make_parameters(SHAPES[:3]), make_parameters(SHAPES[:3])
    optimizer = DCTAdamW(parameters, rank=0.5, error_feedback="fp32", weight_decay=0.1)
    twin = DCTAdamW(others, rank=0.5, error_feedback="fp32", weight_decay=0.1)
    run_steps(optimizer, parameters, range(2))
    run_steps(twin, others, range(2))
    before = parameters[0].detach().clone()
    for step in (2, 3):
        give_gradients(parameters, step)
        give_gradients(others, step)
        parameters[0].grad[1, 1] = bad
        others[0].grad = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer.step()
        twin.step()
        assert len(caught) == (1 if step == 2 else 0)
    assert parameters[0].equal(before) and optimizer.skipped_steps == 2
    assert optimizer.state[parameters[0]]["step"] == 2
    assert all(a.equal(b) for a, b in zip(parameters, others, strict=True))
    assert all(t.isfinite().all() for state in optimizer.state.values() for t in state.values())
    strict = DCTAdamW(parameters, rank=0.5, error_feedback="fp32", error_on_nonfinite=True)
    parameters[0].grad[0, 0] = bad
    with pytest.raises(FloatingPointError, match="1 gradients"):
        strict.step()


def test_without_feedback_a_bad_gradient_shows():
    (parameter,) = make_parameters([(6, 4)])
    give_gradients([parameter], 0)
    parameter.grad[0, 0] = torch.nan
    DCTAdamW([parameter], rank=2).step()
    assert parameter.isnan().any()


def test_equal_scores_choose_the_lowest_indices():
    parameter = nn.Parameter(torch.ones(6, 10))
    parameter.grad = torch.zeros(6, 10)
    optimizer = DCTAdamW([parameter], rank=3, project="right")
    optimizer.step()
    assert optimizer.state[parameter]["indices"].tolist() == [0, 1, 2]


def test_the_residual_never_outgrows_its_limit():
    (parameter,) = make_parameters([(12, 8)])
    optimizer = DCTAdamW([parameter], rank=2, residual="fira")
    norms = []
    for step in range(8):
        give_gradients([parameter], step, sign=10.0**step)
        optimizer.step()
        norms.append(float(optimizer.state[parameter]["residual_norm"]))
    assert all(b <= 1.01 * a * (1 + 1e-5) for a, b in zip(norms, norms[1:], strict=False)) and norms[0] > 0


def test_a_gradient_made_of_cosines_is_followed_exactly():
    """G = U C_I: only the cosine basis finds it, and then the run is full AdamW in these coordinates."""
    torch.manual_seed(0)
    n, chosen = 16, torch.tensor([2, 5, 11])
    vectors = dct_matrix(n, torch.float64)[chosen]
    target = torch.randn(24, 3, dtype=torch.float64)
    losses = {}
    for basis in ("dct2", "identity", "random"):
        weight = nn.Parameter(torch.zeros(24, n, dtype=torch.float64))
        optimizer = DCTAdamW([weight], 0.05, rank=3, basis=basis)
        for _ in range(80):
            optimizer.zero_grad()
            loss = (weight @ vectors.mT - target).square().sum()
            loss.backward()
            optimizer.step()
        losses[basis] = loss.item()
        if basis == "dct2":
            assert optimizer.state[weight]["indices"].equal(chosen)
            inside = weight.detach() @ vectors.mT
    free = nn.Parameter(torch.zeros(24, 3, dtype=torch.float64))
    full = torch.optim.AdamW([free], 0.05, weight_decay=0.0)
    for _ in range(80):
        full.zero_grad()
        (free - target).square().sum().backward()
        full.step()
    assert_close(inside, free.detach(), atol=1e-9, rtol=0)
    assert 3 * losses["dct2"] < min(losses["identity"], losses["random"])


def test_the_overlap_falls_under_error_feedback():
    overlaps = {}
    for feedback in (None, "fp32"):
        (parameter,) = make_parameters([(40, 32)])
        optimizer = DCTAdamW([parameter], rank=8, error_feedback=feedback)
        optimizer.collect_statistics = True
        fixed = torch.randn(40, 32, generator=torch.Generator().manual_seed(3))
        seen = []
        for step in range(12):
            give_gradients([parameter], step)
            parameter.grad = fixed + 0.3 * parameter.grad
            optimizer.step()
            row = optimizer.statistics()[parameter]
            assert 0 < row["captured_energy"] <= 1 and ("error_norm" in row) == (feedback is not None)
            seen.append(row.get("index_overlap"))
        assert seen[0] is None
        overlaps[feedback] = sum(seen[1:]) / len(seen[1:])
    assert overlaps["fp32"] < 0.5 * overlaps[None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "`rank` must"), ({"rank": 1.5}, "`rank` must"), ({"rank": True}, "`rank` must"),
        ({"update_proj_gap": 0}, "`update_proj_gap` must"), ({"error_feedback": "int4"}, "`error_feedback` must"),
        ({"basis": "haar"}, "`basis` must"), ({"score_norm": 3}, "`score_norm` must"),
        ({"transform": "dst"}, "`transform` must"), ({"project": "up"}, "`project` must"),
        ({"residual": "frugal"}, "`residual` must"), ({"rotate": "off"}, "`rotate` must be True or False"),
        ({"lr": "fast"}, "`lr` must lie"), ({"betas": 0.9}, "`betas` must be two numbers"),
        ({"residual": "fira", "error_feedback": "fp32"}, "choose one"),
        ({"residual": "fira", "per_slot_bias_correction": True}, "one bias correction per matrix"),
    ],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DCTAdamW(make_parameters(SHAPES[:1]), **options)


def test_a_rank_of_none_is_adamw():
    (parameter,) = make_parameters([(6, 4)])
    optimizer = DCTAdamW([{"params": [parameter], "rank": None}])
    run_steps(optimizer, [parameter], range(1))
    assert optimizer.state[parameter]["exp_avg"].shape == (6, 4)


class LargestAllocation(TorchDispatchMode):
    """Bytes of the largest new storage while it is on."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("optimizer", [DCTAdamW, Trion])
@pytest.mark.parametrize("options", [{}, {"transform": "fft"}, {"project": "left"}])
def test_temporaries_stay_within_the_budget(optimizer, options):
    """A matrix of 1 MiB, of which nothing larger than twice the budget of 64 KiB is ever copied."""
    shape = (64, 4096) if "project" in options else (4096, 64)
    (parameter,) = make_parameters([shape])
    instance = optimizer([parameter], rank=2, memory_budget=2**16, **options)
    run_steps(instance, [parameter], range(1))
    give_gradients([parameter], 1)
    with LargestAllocation() as seen:
        instance.step()
    assert 2**12 < seen.bytes <= 2**17


def test_a_state_from_before_an_option_existed_gets_its_default():
    parameters, others = make_parameters(SHAPES), make_parameters(SHAPES)
    optimizer = DCTAdamW(parameters, rank=2)
    run_steps(optimizer, parameters, range(2))
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["residual"]
    resumed = DCTAdamW(others, rank=2)
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["residual"] is None
    run_steps(resumed, others, range(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [DCTAdamW, Trion])
def test_a_step_that_is_compiled_from_outside_is_the_same_step(optimizer):
    shapes = [(20, 80), (80, 20), (5,)]
    plain, fast = make_parameters(shapes, torch.float64), make_parameters(shapes, torch.float64)
    run_steps(optimizer(plain, rank=0.5), plain, range(4))
    step = torch.compile(optimizer(fast, rank=0.5).step)
    for i in range(4):
        give_gradients(fast, i)
        step()
    for a, b in zip(fast, plain, strict=True):
        assert_close(a, b, atol=1e-9, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"update_proj_gap": 3}, {"error_feedback": "fp32"}])
def test_a_compiled_step_is_the_same_step(options):
    plain, fast = make_parameters(SHAPES, torch.float64), make_parameters(SHAPES, torch.float64)
    run_steps(DCTAdamW(plain, rank=0.5, **options), plain, range(6))
    run_steps(DCTAdamW(fast, rank=0.5, compile=True, **options), fast, range(6))
    for a, b in zip(fast, plain, strict=True):
        assert_close(a, b, atol=1e-9, rtol=0)
