# SPDX-License-Identifier: Apache-2.0
"""Epsilon against the closed form and the accountants' own arithmetic; noise against published settings."""

import math

import pytest

from eigenhub.federated.accounting import compute_epsilon, find_noise_multiplier, poisson_rate


pytest.importorskip("opacus")

ACCOUNTANTS = ("prv", "rdp")
# 500 steps at delta 1e-5 of a sixth of each GLUE or SNLI training set, expected batch 128: noise for epsilon 6 and 3 by both
# accountants
SIZES = {"sst2": 67349, "qnli": 104743, "qqp": 363846, "mnli": 392702, "snli": 549367}
PUBLISHED = {
    "sst2": {("prv", 6.0): 0.613, ("rdp", 6.0): 0.650, ("prv", 3.0): 0.773, ("rdp", 3.0): 0.828},
    "qnli": {("prv", 6.0): 0.553, ("rdp", 6.0): 0.588, ("prv", 3.0): 0.686, ("rdp", 3.0): 0.740},
    "qqp": {("prv", 6.0): 0.446, ("rdp", 6.0): 0.480, ("prv", 3.0): 0.548, ("rdp", 3.0): 0.605},
    "mnli": {("prv", 6.0): 0.441, ("rdp", 6.0): 0.476, ("prv", 3.0): 0.542, ("rdp", 3.0): 0.599},
    "snli": {("prv", 6.0): 0.422, ("rdp", 6.0): 0.456, ("prv", 3.0): 0.518, ("rdp", 3.0): 0.577},
}


def rate_of(task):
    return 1 / math.ceil(SIZES[task] / 6 / 128)


def gaussian_epsilon(sigma, steps, delta):
    """Exact epsilon of the Gaussian mechanism without sampling (Balle and Wang 2018, theorem 8), by bisection."""
    mu = math.sqrt(steps) / sigma

    def normal(x):
        return math.erfc(-x / math.sqrt(2)) / 2

    def delta_of(epsilon):
        return normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * normal(-mu / 2 - epsilon / mu)

    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) > delta else (low, middle)
    return high


def test_sample_rates():
    assert poisson_rate(32, 128) == 0.25
    assert poisson_rate(32, 20) == 1.0
    for counts in ((0, 5), (5, 0), (5, 2.0)):
        with pytest.raises(ValueError, match="must be an integer of at least 1"):
            poisson_rate(*counts)


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (2.0, 10), (5.0, 40)])
def test_without_sampling_epsilon_is_that_of_the_gaussian_mechanism(sigma, steps):
    exact = gaussian_epsilon(sigma, steps, 1e-5)
    assert exact <= compute_epsilon([(sigma, 1.0, steps)], 1e-5, "prv") <= exact + 0.03
    assert exact <= compute_epsilon([(sigma, 1.0, steps)], 1e-5, "rdp") <= 1.15 * exact + 0.05


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_rounds_add_up_to_one_call_with_all_steps(accountant):
    rounds = [(0.8, 0.05, 10)] * 7
    assert compute_epsilon(rounds, 1e-5, accountant) == compute_epsilon([(0.8, 0.05, 70)], 1e-5, accountant)


def test_order_of_mixed_runs_does_not_matter():
    runs = [(0.8, 0.05, 10), (1.2, 0.1, 20), (0.8, 0.05, 5)]
    mixed = compute_epsilon(runs, 1e-5)
    assert mixed == compute_epsilon(runs[::-1], 1e-5)
    assert max(compute_epsilon(runs[::2], 1e-5), compute_epsilon(runs[1:2], 1e-5)) < mixed


def test_edges_of_the_history():
    assert compute_epsilon([], 1e-5) == compute_epsilon([(1.0, 0.1, 0)], 1e-5) == 0.0
    assert compute_epsilon([(0.0, 0.1, 1)], 1e-5) == math.inf
    nearly_noiseless = [(0.05, 0.1, 10)]
    assert compute_epsilon(nearly_noiseless, 1e-5) == compute_epsilon(nearly_noiseless, 1e-5, "rdp") > 100


def test_look_ups_are_cached(monkeypatch):
    arguments = (5.0, 1e-5, 0.031, 77, "rdp")
    first = find_noise_multiplier(*arguments), compute_epsilon([(0.77, 0.031, 77)], 1e-5, "rdp")

    def never(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr("eigenhub.federated.accounting.require", never)
    assert (find_noise_multiplier(*arguments), compute_epsilon([(0.77, 0.031, 77)], 1e-5, "rdp")) == first
    with pytest.raises(AssertionError, match="asked again"):
        compute_epsilon([(0.78, 0.031, 77)], 1e-5, "rdp")


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"), [(0.5, 0.01, 100), (3.0, 0.2, 30), (20.0, 1.0, 100), (1.0, 0.05, 1)]
)
def test_the_least_noise_that_stays_within_the_target(accountant, epsilon, rate, steps):
    sigma = find_noise_multiplier(epsilon, 1e-5, rate, steps, accountant)
    assert epsilon - 0.011 <= compute_epsilon([(sigma, rate, steps)], 1e-5, accountant) <= epsilon
    assert compute_epsilon([(0.97 * sigma, rate, steps)], 1e-5, accountant) > epsilon


def check_published(task, accountant, epsilon):
    sigma = find_noise_multiplier(epsilon, 1e-5, rate_of(task), 500, accountant)
    assert sigma == pytest.approx(PUBLISHED[task][accountant, epsilon], rel=0.01)


@pytest.mark.parametrize("epsilon", [6.0, 3.0])
@pytest.mark.parametrize("task", SIZES)
def test_noise_of_published_settings_by_renyi_divergences(task, epsilon):
    check_published(task, "rdp", epsilon)


def test_noise_of_a_published_setting_by_composition():
    check_published("qqp", "prv", 3.0)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [6.0, 3.0])
@pytest.mark.parametrize("task", SIZES)
def test_noise_of_published_settings_by_composition(task, epsilon):
    check_published(task, "prv", epsilon)


def test_counting_on_secret_participation_costs_more_than_the_target():
    """Noise computed at rate q times the share of clients, as released code once did, misses its target."""
    rate, share, steps = rate_of("sst2"), 0.5, 1000
    wrong = find_noise_multiplier(6.0, 1e-5, rate * share, steps)
    own_steps = int(steps * share)
    assert wrong == pytest.approx(0.558, rel=0.01)
    assert compute_epsilon([(wrong, rate, own_steps)], 1e-5) == pytest.approx(8.02, abs=0.1)
    right = find_noise_multiplier(6.0, 1e-5, rate, own_steps)
    assert compute_epsilon([(right, rate, own_steps)], 1e-5) == pytest.approx(6.0, abs=0.011)


@pytest.mark.parametrize(("accountant", "epsilon"), [("prv", 0.005), ("rdp", 0.05)])
def test_a_target_out_of_reach_is_an_error(accountant, epsilon):
    with pytest.raises(
        ValueError, match=f"`target_epsilon={epsilon}` .* cannot be reached by the {accountant} accountant"
    ):
        find_noise_multiplier(epsilon, 1e-5, 0.01, 100, accountant)


def test_bad_values_are_named():
    for history, message in (
        ([(-1.0, 0.1, 1)], "`noise_multiplier`"),
        ([(math.inf, 0.1, 1)], "`noise_multiplier`"),
        ([(1.0, 0.0, 1)], "`sample_rate` must lie in"),
        ([(1.0, 1.5, 1)], "`sample_rate` must lie in"),
        ([(1.0, 0.1, -1)], "`steps`"),
        ([(1.0, 0.1, 1.5)], "`steps`"),
    ):
        with pytest.raises(ValueError, match=message):
            compute_epsilon(history, 1e-5)
    with pytest.raises(ValueError, match="`delta` must lie in"):
        compute_epsilon([], 0.0)
    with pytest.raises(ValueError, match="`accountant` must be one of prv, rdp; got 'gdp'"):
        compute_epsilon([], 1e-5, "gdp")
    with pytest.raises(ValueError, match="`target_epsilon` must be positive"):
        find_noise_multiplier(0.0, 1e-5, 0.1, 1)
