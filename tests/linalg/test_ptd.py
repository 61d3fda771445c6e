# SPDX-License-Identifier: Apache-2.0
"""Perturb-then-diagonalise: quality, stability and determinism of the four methods, and the file of solutions."""

import json

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from eigenhub.linalg import ptd, ptd_optimizer
from eigenhub.linalg.hippo import PTD_METHODS, conjugate_half, hippo_legs, ptd_diagonalize, transfer_function
from eigenhub.linalg.ptd_optimizer import default_gamma, enlarge, optimize_perturbation
from eigenhub.linalg.ptd_result import diagonalize
from eigenhub.linalg.ptd_solutions import PACKAGED, PTDProblem, load_solution, save_solutions
from tests.house.sources import ROOT
from tests.scripts.loading import load_script


SHIPPED = (8, 16, 32, 64, 128)
# The matrices that the authors released: condition number, relative size in the spectral and the Frobenius norm. There is none
# of order 64; what is asked for there is a condition number of 8 at a size of 0.03 to 0.06.
RELEASED = {
    8: (5.114, 0.0983, 0.1013),
    16: (6.556, 0.0506, 0.0505),
    32: (8.312, 0.0379, 0.0381),
    64: (8.0, 0.06, 0.06),
}
RELEASED_16_SECOND = (4.454, 0.0818, 0.0793)
RELEASED_128 = (8.011, 0.0323, 0.0295)  # with one eigenvalue at +3.4


@pytest.fixture
def no_solver(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"the solver ran for {arguments}")

    monkeypatch.setattr(ptd, "optimize_perturbation", refuse)
    ptd._optimized.cache_clear()


@pytest.fixture
def fresh(monkeypatch):
    """Neither memory nor the packaged file."""
    monkeypatch.setattr(ptd, "PACKAGED", PACKAGED.with_name("absent"))
    ptd._optimized.cache_clear()
    yield
    ptd._optimized.cache_clear()


def dominates(info, bar, slack=1.0):
    got = (info["kappa"], info["rel_spectral"], info["rel_frobenius"])
    return info["max_re"] < 0 and all(value <= slack * limit for value, limit in zip(got, bar, strict=True))


def check_result(result, n):
    a, _, p = hippo_legs(n)
    values, v, vinv, e, info = result
    m = a + e
    assert (v * values) @ vinv == pytest.approx(m.to(v.dtype), abs=1e-10 * a.abs().max().item())
    assert_close(torch.linalg.vector_norm(v, dim=0), torch.ones(n, dtype=torch.float64))
    assert_close(v @ vinv, torch.eye(n, dtype=v.dtype), atol=1e-9, rtol=0)
    s = torch.linalg.svdvals(v)
    assert info["kappa"] == pytest.approx((s[0] / s[-1]).item())
    assert info["rel_spectral"] == pytest.approx((torch.linalg.norm(e, 2) / torch.linalg.norm(a, 2)).item())
    assert info["rel_frobenius"] == pytest.approx((torch.linalg.norm(e) / torch.linalg.norm(a)).item())
    assert info["max_re"] == values.real.max().item() < 0
    assert info["backward_error"] < 1e-10
    seen = p.to(v.dtype) @ v
    assert seen.real.min() > 0 and seen.imag.abs().max() < 1e-9
    order = list(zip(values.imag.tolist(), values.real.tolist(), strict=True))
    assert order == sorted(order)


@pytest.mark.parametrize("n", SHIPPED)
def test_shipped_solutions_are_found_without_solving_and_beat_the_released_ones(n, no_solver):
    result = ptd_diagonalize(n)
    check_result(result, n)
    bar = RELEASED.get(n, (8.0, 0.033, 0.03))
    assert dominates(result.info, bar), result.info
    assert result.info["max_gain"] < 1.7


@pytest.mark.parametrize(
    ("n", "method", "options"),
    [
        (1, "optimized", {}),
        (2, "optimized", {}),
        (5, "optimized", {}),
        (1, "lowrank", {}),
        (7, "lowrank", {"tau": 0.3}),
        (64, "lowrank", {"tau": 1.0}),
        (16, "gaussian", {}),
        (16, "gaussian", {"delta": 0.03, "seed": 3}),
        (16, "gaussian", {"delta": 0.03, "complex_noise": True}),
        (2, "given", {"perturbation": torch.zeros(2, 2)}),
        (8, "given", {"perturbation": 0.3 * torch.eye(8) + 0.5j * hippo_legs(8)[0].mT / 8}),
    ],
)
def test_what_is_reported_holds(n, method, options):
    check_result(ptd_diagonalize(n, method, **options), n)


def test_a_solution_is_at_least_as_good_as_the_second_released_one_of_order_16():
    assert dominates(ptd_diagonalize(16, gamma=11).info, RELEASED_16_SECOND)


@pytest.mark.slow
def test_the_released_matrix_of_order_128_is_met_with_stable_eigenvalues():
    assert dominates(ptd_diagonalize(128, gamma=27).info, RELEASED_128, slack=1.0005)


@pytest.mark.parametrize("n", [8, 16])
def test_the_file_holds_what_the_solver_finds(n, fresh):
    shipped = load_solution(PACKAGED, PTDProblem(n, default_gamma(n), 0.1, 500, 0))
    found = ptd_diagonalize(n)
    for name in ("kappa", "rel_spectral", "rel_frobenius"):
        assert found.info[name] == pytest.approx(diagonalize(n, shipped).info[name], rel=1e-3)


def test_more_weight_on_the_size_gives_a_smaller_one_and_a_larger_condition_number():
    """At least as good as a plain descent from the closed form found at n = 16."""
    found = []
    for gamma, kappa, size in ((5, 2.68, 0.131), (10, 4.05, 0.073), (20, 6.52, 0.0389), (40, 10.9, 0.0203)):
        info = ptd_diagonalize(16, gamma=gamma).info
        assert info["kappa"] == pytest.approx(kappa, rel=0.01)
        assert info["rel_frobenius"] <= size * 1.005
        found.append([info["kappa"], -info["rel_frobenius"], -info["rel_spectral"]])
    assert [sorted(column) for column in zip(*found, strict=True)] == [list(x) for x in zip(*found, strict=True)]


def test_solutions_are_deterministic_and_hardly_depend_on_the_seed():
    first, again, other = (optimize_perturbation(5, 6.0, 0.1, 200, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert diagonalize(5, other).info["kappa"] == pytest.approx(diagonalize(5, first).info["kappa"], rel=1e-3)


def test_an_order_between_is_solved_on_the_fly():
    info = ptd_diagonalize(40).info
    assert dominates(info, (8.05, 0.0335, 0.0305)), info


def test_the_solution_of_half_the_order_is_nearly_that_of_the_whole():
    e = enlarge(ptd_diagonalize(32).E, 64)
    info = diagonalize(64, e).info
    assert dominates(info, (8.2, 0.034, 0.031)), info


def test_a_search_through_points_without_a_gradient_keeps_its_best(monkeypatch):
    """Two equal eigenvalues: the gradient of their vectors is not finite."""
    a, _, _ = hippo_legs(2)
    start = torch.tensor([[-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64) - a
    e = ptd_optimizer._descend(start, 2.5, (8,), 5)
    assert torch.isfinite(e).all()


@pytest.mark.parametrize("n", [7, 8, 16, 32])
@pytest.mark.parametrize("method", ["optimized", "lowrank", "gaussian"])
def test_half_of_the_states_give_the_output_of_all(n, method):
    result = ptd_diagonalize(n, method)
    values, v, vinv, _, _ = result
    indices, weights = conjugate_half(result)
    assert weights.sum() == n and (values.imag[indices] <= 0).all()
    assert ((weights == 1) == (values.imag[indices] == 0)).all()
    assert_close(values.imag, -values.imag.flip(0), atol=0, rtol=0)  # exactly closed under conjugation
    c, inputs = torch.randn(3, n).double(), torch.randn(50).double()
    lbar, b = (0.01 * values).exp(), vinv @ hippo_legs(n)[1].to(v.dtype)
    state = torch.zeros(n, dtype=v.dtype)
    scale = result.info["kappa"]
    for u in inputs:
        state = lbar * state + b * u
        terms = (c.to(v.dtype) @ v) * state
        whole, half = terms.sum(-1), (terms[:, indices] * weights).sum(-1)
        assert_close(half.real, whole.real, atol=1e-12 * scale, rtol=1e-12)


def test_the_optimised_solution_has_real_eigenvalues_to_count():
    weights = conjugate_half(ptd_diagonalize(16))[1]
    assert sorted(set(weights.tolist())) == [1.0, 2.0] and len(weights) == 9


def test_the_perturbed_system_has_the_transfer_function_of_the_eigenbasis():
    result = ptd_diagonalize(16)
    a, b, _ = hippo_legs(16)
    c, s = torch.randn(2, 16).double(), 1j * torch.tensor([0.0, 1.0, 80.0]).double()
    dense = transfer_function(a + result.E, b, c, s)
    v = result.V
    assert_close(transfer_function(result.lambda_, result.Vinv @ b.to(v.dtype), c.to(v.dtype) @ v, s), dense)


@pytest.mark.parametrize(
    ("n", "tau", "kappa", "size"), [(16, 0.01, 162, 0.0079), (32, 0.1, 17.4, 0.079), (64, 0.2, 8.70, 0.157)]
)
def test_the_table_of_the_closed_form(n, tau, kappa, size):
    info = ptd_diagonalize(n, "lowrank", tau=tau).info
    assert info["kappa"] == pytest.approx(kappa, rel=6e-3)
    assert info["rel_spectral"] == pytest.approx(size, rel=0.02)
    assert info["input_scale"] == 1 - tau / 2
    rho = tau / (2 - tau)
    assert 1 <= info["max_gain"] <= 1 / (1 - rho)


def test_gaussian_noise_is_reflected_where_it_is_unstable():
    a, _, _ = hippo_legs(32)
    noise = torch.randn(32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise *= 0.03 * torch.linalg.norm(a, 2) / torch.linalg.norm(noise, 2)
    before = torch.linalg.eigvals(a + noise)
    assert before.real.max() > 0
    after = ptd_diagonalize(32, "gaussian", delta=0.03)
    reflected = torch.complex(-before.real.abs(), before.imag)
    gaps = (reflected[:, None] - after.lambda_).abs().min(1).values
    assert gaps.max() < 1e-8
    assert not after.E.is_complex()


def test_results_are_cached_and_the_cache_cannot_be_spoiled(no_solver):
    first = ptd_diagonalize(16)
    kept = first.V.clone()
    first.V.zero_()
    first.info.clear()
    again = ptd_diagonalize(16)
    assert torch.equal(again.V, kept) and again.info
    assert ptd._optimized.cache_info().hits == 1


def test_solutions_are_kept_in_a_folder(tmp_path, fresh, monkeypatch):
    first = ptd_diagonalize(4, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name == "ptd_n4_gamma5.0_tau0.1_steps500_seed0.safetensors"
    ptd._optimized.cache_clear()
    monkeypatch.setattr(ptd, "optimize_perturbation", None)
    assert torch.equal(ptd_diagonalize(4, cache_dir=str(tmp_path)).V, first.V)
    with pytest.raises(TypeError):
        ptd_diagonalize(4, gamma=6, cache_dir=tmp_path)


def test_it_works_where_models_are_initialised(fresh):
    """Under `no_grad`, in inference mode, and with the meta device as the default."""
    with torch.device("meta"), torch.inference_mode():
        results = [ptd_diagonalize(5, method) for method in ("optimized", "lowrank", "gaussian")]
    for result in results:
        assert {x.device.type for x in result[:4]} == {"cpu"}
    with torch.no_grad():
        assert torch.equal(ptd_diagonalize(5).E, results[0].E)
    ptd_diagonalize(5).V.requires_grad_()  # what the cache holds is no inference tensor


def test_the_metadata_of_the_file_are_true():
    with safe_open(PACKAGED, "pt") as file:
        metadata = {name: json.loads(text) for name, text in file.metadata().items()}
        assert set(metadata) == set(file.keys())
    assert PACKAGED.stat().st_size < 2**17
    for n in SHIPPED:
        problem = PTDProblem(n, default_gamma(n), 0.1, 500, 0)
        noted = metadata[problem.key]
        assert noted == pytest.approx({**problem._asdict(), **ptd_diagonalize(n).info}, rel=1e-6, abs=1e-12)


def test_the_script_writes_a_file_that_is_found(tmp_path, capsys):
    script = load_script(ROOT / "scripts" / "s5_ptd" / "solve_ptd.py")
    output = tmp_path / "new" / "solutions.safetensors"
    script.main(["--orders", "3", "4", "--gamma", "6", "--output", str(output)])
    problem = PTDProblem(4, 6.0, 0.1, 500, 0)
    assert torch.equal(load_solution(output, problem), optimize_perturbation(*problem))
    assert load_solution(output, problem._replace(seed=1)) is None
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["n", "3", "4", "2"] and str(output) in rows[-1]


def test_a_saved_solution_replaces_an_older_file_at_once(tmp_path):
    problem, path = PTDProblem(2, 1.0, 0.1, 1, 0), tmp_path / "file"
    for value in (1.0, 2.0):
        save_solutions(path, {problem: (torch.full((2, 2), value), {"kappa": value})})
    assert load_solution(path, problem).eq(2).all() and [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "exact"}, f"`method` must be one of {', '.join(PTD_METHODS)}, got 'exact'"),
        ({"method": "given"}, "`perturbation` must be an .n, n. tensor for method 'given', got None"),
        ({"perturbation": torch.zeros(8, 8)}, "`perturbation` is for method 'given' only, got method 'optimized'"),
        ({"method": "given", "perturbation": torch.zeros(4)}, r"`perturbation` must have shape \(8, 8\), got \(4,\)"),
        ({"method": "given", "perturbation": torch.full((8, 8), torch.nan)}, "NaN or infinite"),
        ({"method": "given", "perturbation": 9 * torch.eye(8)}, "unstable eigenvalue with real part 8"),
        ({"n": 24, "method": "given", "perturbation": torch.zeros(24, 24)}, "take a larger"),
        ({"n": 2, "method": "given", "perturbation": torch.diag(torch.tensor([0.0, 1.0]))}, "take a larger"),
        ({"method": "lowrank", "tau": 1.1}, "`tau` must be between 0 and 1, got 1.1"),
        ({"method": "lowrank", "tau": 0}, "`tau` must be above 0"),
        ({"gamma": 0.0}, "`gamma` must be positive and finite, got 0.0"),
        ({"gamma": float("nan")}, "`gamma` must be positive and finite, got nan"),
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"method": "gaussian", "delta": -1.0}, "`delta` must be positive and finite, got -1.0"),
        ({"n": 0}, "`n` must be an integer of at least 1, got 0"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ptd_diagonalize(**{"n": 8, **arguments})


def test_a_complex_perturbation_has_no_half():
    result = ptd_diagonalize(4, "given", perturbation=0.1j * torch.eye(4))
    with pytest.raises(ValueError, match="keep all eigenvalues"):
        conjugate_half(result)
