# SPDX-License-Identifier: Apache-2.0
"""Lanczos quadrature and Chebyshev moments against full decompositions, and the closed form of the coefficients."""

import math

import pytest
import torch
from scipy.integrate import quad
from torch.testing import assert_close

from eigenhub.linalg.spectrum import (
    chebyshev_interpolation,
    chebyshev_log_zero,
    chebyshev_moments,
    chebyshev_moments_of,
    degree_for_log,
    gram_operator,
    half_range_log_coefficients,
    lanczos,
    largest_eigenvalue,
    quadrature_nodes,
    radau_extension,
    rademacher,
    stochastic_lanczos_quadrature,
)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def symmetric(values, seed=0):
    """A matrix with given eigenvalues, and as an operator."""
    q = torch.linalg.qr(gaussian(len(values), len(values), seed=seed)).Q
    matrix = (q * values) @ q.mT
    return matrix, lambda v: v @ matrix


# ---------------------------------------------------------------- Lanczos
def test_the_operator_is_the_matrix():
    rows, v = gaussian(2, 5, 9), gaussian(2, 3, 5, seed=1)
    scale = torch.tensor([2.0, 3.0], dtype=torch.float64)
    matrix = rows @ rows.mT / scale[:, None, None] + 0.3 * torch.eye(5, dtype=torch.float64)
    assert_close(gram_operator(rows, scale, 0.3)(v), v @ matrix)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_all_steps_find_the_spectrum(batch):
    rows = gaussian(*batch, 8, 20)
    apply = gram_operator(rows)
    diagonal, off = lanczos(apply, gaussian(*batch, 3, 8, seed=1), 8)
    nodes, weights = quadrature_nodes(diagonal, off)
    exact = torch.linalg.eigvalsh(rows @ rows.mT)[..., None, :].expand(*batch, 3, 8)
    assert_close(nodes, exact, rtol=1e-9, atol=1e-9)
    assert_close(weights.sum(-1), torch.ones(*batch, 3, dtype=torch.float64))


def test_quadrature_is_exact_for_low_degrees():
    values = torch.linspace(0.1, 3, 30, dtype=torch.float64)
    matrix, apply = symmetric(values)
    start = gaussian(2, 30, seed=4)
    nodes, weights = quadrature_nodes(*lanczos(apply, start, 5))
    for degree in range(10):
        exact = torch.einsum("pi,ij,pj->p", start, torch.linalg.matrix_power(matrix, degree), start)
        assert_close((weights * nodes**degree).sum(-1), exact / start.square().sum(-1), rtol=1e-9, atol=1e-12)


def test_a_probe_in_an_invariant_subspace_stops():
    values = torch.tensor([5.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    start = torch.eye(5, dtype=torch.float64)[:3]
    start[2] = torch.tensor([1.0, 1, 0, 0, 0])
    diagonal, off = lanczos(lambda v: v * values, start, 5)
    nodes, weights = quadrature_nodes(diagonal, off)
    assert all(t.isfinite().all() for t in (nodes, weights))
    assert_close((weights * nodes.log()).sum(-1).exp(), torch.tensor([5.0, 2.0, 10**0.5], dtype=torch.float64))


def test_probes_of_an_orthonormal_basis_are_exact():
    rows = gaussian(12, 30)
    matrix = rows @ rows.mT + 0.01 * torch.eye(12, dtype=torch.float64)
    basis = torch.linalg.qr(gaussian(12, 12, seed=2)).Q
    found = stochastic_lanczos_quadrature(gram_operator(rows, shift=0.01), basis, num_steps=12, floor=0.01)
    assert found.value.item() == pytest.approx(torch.logdet(matrix).item() / 12, rel=1e-10)


@pytest.mark.parametrize("known_trace", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_the_standard_error_is_honest(seed, known_trace):
    """Twenty estimates against the exact trace; the last bound fails for an error that is too small by half."""
    rows = gaussian(60, 90, seed=seed)
    apply = gram_operator(rows, shift=0.1)
    exact = torch.logdet(rows @ rows.mT + 0.1 * torch.eye(60, dtype=torch.float64)) / 60
    probes = rademacher(rows.expand(20, 60, 90), 20, torch.Generator().manual_seed(seed))
    trace = (rows.square().sum() / 60 + 0.1).expand(20) if known_trace else None
    found = stochastic_lanczos_quadrature(apply, probes, num_steps=30, floor=0.1, trace=trace)
    ratios = (found.value - exact) / found.standard_error
    assert (ratios.abs() < 4.5).all() and 0.5 < ratios.std() < 1.7


def test_a_known_trace_takes_the_noise_of_the_linear_part():
    rows = gaussian(200, 400)
    apply, probes = gram_operator(rows, shift=1.0), rademacher(rows, 20, torch.Generator().manual_seed(0))
    trace = rows.square().sum() / 200 + 1.0
    linear = stochastic_lanczos_quadrature(apply, probes, lambda t: 3 * t - 2, 5, trace=trace)
    assert linear.value.item() == pytest.approx(3 * trace.item() - 2, rel=1e-12)
    assert linear.standard_error < 1e-9
    without, with_trace = (stochastic_lanczos_quadrature(apply, probes, trace=t) for t in (None, trace))
    assert with_trace.standard_error < 0.6 * without.standard_error


# ---------------------------------------------------------------- the second quadrature
@pytest.mark.parametrize("node", [0.1, 0.05, -1.0])
def test_the_extension_has_its_node_and_one_degree_more(node):
    values = torch.linspace(0.1, 3, 30, dtype=torch.float64)
    matrix, apply = symmetric(values)
    start = gaussian(2, 30, seed=4)
    nodes, weights = quadrature_nodes(*radau_extension(*lanczos(apply, start, 5), node))
    assert_close(nodes[:, 0], torch.full((2,), node, dtype=torch.float64))
    for degree in range(11):
        exact = torch.einsum("pi,ij,pj->p", start, torch.linalg.matrix_power(matrix, degree), start)
        assert_close((weights * nodes**degree).sum(-1), exact / start.square().sum(-1), rtol=1e-9, atol=1e-12)


def test_the_two_quadratures_of_a_logarithm_err_to_different_sides():
    values = torch.logspace(-3, 0, 80, dtype=torch.float64)
    matrix, apply = symmetric(values)
    start = gaussian(20, 80, seed=2)
    exact = (((start @ torch.linalg.eigh(matrix).eigenvectors) ** 2) @ values.log()) / start.square().sum(-1)
    rule = lanczos(apply, start, 12)
    above, below = (
        (weights * nodes.log()).sum(-1) - exact
        for nodes, weights in (quadrature_nodes(*rule), quadrature_nodes(*radau_extension(*rule, 1e-3)))
    )
    assert (above > 0).all() and (below < 0).all()
    assert ((above + below).abs().mean() / 2) < 0.5 * above.mean()


def test_a_node_that_is_an_eigenvalue_changes_nothing():
    values = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    start = torch.ones(1, 4, dtype=torch.float64)
    for steps, matrix in ((4, values), (3, torch.full((4,), 0.5, dtype=torch.float64))):
        rule = lanczos(lambda v, m=matrix: v * m, start, steps)
        plain, extended = (
            (weights * nodes.log()).sum()
            for nodes, weights in (quadrature_nodes(*r) for r in (rule, radau_extension(*rule, 0.5)))  # fmt: skip
        )
        assert_close(extended, plain, rtol=1e-9, atol=1e-12)


def test_tolerance_stops_early_and_changes_less_than_the_error():
    rows = gaussian(200, 400)
    calls = []

    def apply(v):
        calls.append(1)
        return gram_operator(rows, shift=1.0)(v)

    probes = rademacher(rows, 10, torch.Generator().manual_seed(0))
    full = stochastic_lanczos_quadrature(apply, probes, num_steps=40)
    assert len(calls) == 40
    calls.clear()
    early = stochastic_lanczos_quadrature(apply, probes, num_steps=40, tolerance=0.1)
    assert len(calls) < 20 and (early.value - full.value).abs() < 0.2 * full.standard_error


def test_signs_come_from_the_generator_only():
    state = torch.random.get_rng_state()
    like = torch.zeros(2, 50, 3, dtype=torch.float64)
    first, second = (rademacher(like, 4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (2, 4, 50) and torch.equal(first, second) and torch.equal(first.abs(), torch.ones(2, 4, 50))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("steps", [5, 10, 30])
def test_largest_eigenvalue_is_an_upper_estimate_even_if_stopped_early(steps):
    rows = gaussian(3, 80, 40)
    exact = torch.linalg.eigvalsh(rows @ rows.mT)[..., -1]
    found = largest_eigenvalue(gram_operator(rows), gaussian(3, 1, 80, seed=1), steps)
    assert (found >= exact * (1 - 1e-9)).all() and (found < 3 * exact).all()
    assert steps < 30 or (found < 1.01 * exact).all()


@pytest.mark.parametrize(
    ("probes", "options", "said"),
    [
        (torch.ones(2, 5), {"num_steps": 0}, "`num_steps` must be at least 1, got 0"),
        (torch.ones(0, 5), {}, "`probes` must be one or more rows"),
        (torch.ones(5), {}, "`probes` must be one or more rows"),
        (torch.zeros(2, 5), {}, "that are not zero"),
    ],
)
def test_bad_probes(probes, options, said):
    with pytest.raises(ValueError, match=said):
        stochastic_lanczos_quadrature(lambda v: v, probes, **options)


# ---------------------------------------------------------------- Chebyshev
@pytest.mark.parametrize("m", range(41))
def test_coefficients_are_the_integrals(m):
    """With x = cos(t) the weight goes away; the end at pi / 2 is where the logarithm is singular."""
    integral, _ = quad(lambda t: math.log(math.cos(t)) * math.cos(m * t), 0, math.pi / 2, limit=500, epsabs=1e-12)
    expected = (1 if m == 0 else 2) / math.pi * integral
    assert half_range_log_coefficients(40)[m].item() == pytest.approx(expected, abs=1e-9)


def test_first_coefficients():
    expected = [-math.log(2) / 2, -0.1953486, 0.5, 0.3480583, -0.25, -0.2767411]
    assert half_range_log_coefficients(5).tolist() == pytest.approx(expected, abs=5e-8)
    assert half_range_log_coefficients(0).tolist() == pytest.approx(expected[:1])


@pytest.mark.parametrize("num_moments", [0, 1, 2, 3, 8, 9])
def test_moments_are_quadratic_forms_of_polynomials(num_moments):
    values = torch.linspace(-0.9, 1, 12, dtype=torch.float64)
    matrix, apply = symmetric(values)
    probes = gaussian(4, 12, seed=3)
    terms = [torch.eye(12, dtype=torch.float64), matrix]
    while len(terms) <= num_moments:
        terms.append(2 * matrix @ terms[-1] - terms[-2])
    expected = torch.stack([(probes @ t * probes).sum(-1) for t in terms[: num_moments + 1]], -1)
    assert_close(chebyshev_moments(apply, probes, num_moments), expected, rtol=1e-10, atol=1e-10)
    basis = torch.eye(12, dtype=torch.float64)
    assert_close(
        chebyshev_moments(apply, basis, num_moments).sum(0),
        chebyshev_moments_of(values, num_moments).sum(0),
        rtol=1e-10,
        atol=1e-10,
    )


def test_the_half_range_expansion_approaches_the_logarithm():
    values = torch.linspace(0.4, 1, 50, dtype=torch.float64)
    errors = []
    for num_moments in (10, 40, 160, 640):
        found = chebyshev_moments_of(values, num_moments) @ half_range_log_coefficients(num_moments)
        errors.append((found.mean() - values.log().mean()).abs().item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3


@pytest.mark.parametrize(("num_moments", "floor"), [(10, -1.488), (20, -1.811), (100, -2.596)])
def test_the_floor_of_the_half_range_expansion(num_moments, floor):
    zero = torch.zeros(1, dtype=torch.float64)
    found = (chebyshev_moments_of(zero, num_moments) @ half_range_log_coefficients(num_moments)).item()
    assert found == pytest.approx(chebyshev_log_zero(num_moments), abs=1e-10) == pytest.approx(floor, abs=1e-3)


@pytest.mark.parametrize("condition", [10.0, 1e3])
def test_interpolation_of_the_logarithm_at_its_degree(condition):
    low, high = torch.tensor([1.0, 0.01], dtype=torch.float64), torch.tensor([1.0, 0.01], dtype=torch.float64)
    high = high * condition
    coefficients = chebyshev_interpolation(torch.log, low, high, degree_for_log(condition))
    share = torch.linspace(0, 1, 301, dtype=torch.float64)
    found = chebyshev_moments_of(2 * share - 1, degree_for_log(condition)) @ coefficients.mT  # [points, intervals]
    exact = (low + share[:, None] * (high - low)).log()
    assert (found - exact).abs().max() < 0.02
