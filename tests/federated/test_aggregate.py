# SPDX-License-Identifier: Apache-2.0
"""The eight averages against hand computations in float64."""

import pytest
import torch

from eigenhub.federated import RoundAggregator, aggregate, aggregation_error, refactor_lora
from eigenhub.federated.products import LowRankSum
from eigenhub.federated.recipes import METHOD_NAMES, RECIPES, recipe_of, refactors_in, trained_factors
from eigenhub.federated.updates import uploaded_keys
from tests.federated.states import LAYERS, RANK, a_state, an_upload, product


WEIGHTS = [1000, 250, 37]


def uploads_for(method: str, state, round: int = 1, count: int = 3):
    return [an_upload(state, trained_factors(method, round), seed) for seed in range(count)]


def mean_product(state, uploads, weights, name):
    """The weighted mean of the clients' products, dense."""
    clients = [{**state, **upload} for upload in uploads]
    return sum(w * product(client, name) for w, client in zip(weights, clients, strict=True)) / sum(weights)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("round", [1, 2])
def test_sent_tensors_are_averaged_by_weight(method, round):
    state = a_state()
    uploads = uploads_for(method, state, round)
    found = aggregate(uploads, WEIGHTS, method, state, round=round, refactor=False)
    assert found.num_clients == 3 and set(found.state) == set(state)
    if method in ("flexlora", "flora"):
        return
    for key in state:
        sent = [upload.get(key, state[key]) for upload in uploads]
        assert torch.allclose(found.state[key], (1000 * sent[0] + 250 * sent[1] + 37 * sent[2]) / 1287, atol=1e-12)


@pytest.mark.parametrize("method", ["fedsvd", "ffa", "ffa_orth", "fedex", "flora"])
def test_exact_methods_keep_the_mean_of_the_products(method):
    """What the next round starts from, adapter and base update together, is the mean of the clients' models."""
    state, scaling = a_state(), {"q": 2.0, "v": 0.5}
    uploads = uploads_for(method, state)
    found = aggregate(uploads, WEIGHTS, method, state, scaling)
    for name in LAYERS:
        left, right = found.base_update.get(name, (torch.zeros(1, 1), torch.zeros(1, 1)))
        total = scaling[name] * product(found.state, name) + left.double() @ right.double()
        assert torch.allclose(total, scaling[name] * mean_product(state, uploads, WEIGHTS, name), atol=1e-11)


def test_averaging_both_factors_is_not_exact_and_says_by_how_much():
    state = a_state()
    uploads = uploads_for("fedavg", state)
    found = aggregate(uploads, WEIGHTS, "fedavg", state)
    missed = {name: product(found.state, name) - mean_product(state, uploads, WEIGHTS, name) for name in LAYERS}
    total = {name: mean_product(state, uploads, WEIGHTS, name) for name in LAYERS}
    expected = (sum(m.norm() ** 2 for m in missed.values()) / sum(t.norm() ** 2 for t in total.values())).sqrt()
    assert expected > 0.1
    assert aggregation_error(uploads, WEIGHTS) == pytest.approx(float(expected), rel=1e-9)
    shared = [{**upload, **{k: state[k] for k in state if "lora_A" in k}} for upload in uploads]
    assert aggregation_error(shared, WEIGHTS) < 1e-7


def test_fedsvd_refactors_the_mean():
    state = a_state()
    uploads = uploads_for("fedsvd", state)
    found = aggregate(uploads, WEIGHTS, "fedsvd", state)
    plain = aggregate(uploads, WEIGHTS, "ffa", state)
    for name in LAYERS:
        expected = refactor_lora(plain.state[f"{name}.lora_B.weight"], plain.state[f"{name}.lora_A.weight"])
        assert torch.allclose(found.state[f"{name}.lora_B.weight"], expected.B, atol=1e-12)
        assert torch.allclose(found.state[f"{name}.lora_A.weight"], expected.A, atol=1e-12)
        assert torch.allclose(found.singular_values[name], expected.singular_values, atol=1e-12)
        assert found.effective_rank[name] == RANK
    assert plain.singular_values == {}


def test_flexlora_is_the_truncated_mean_product():
    state = a_state()
    uploads = uploads_for("flexlora", state)
    found = aggregate(uploads, WEIGHTS, "flexlora", state)
    for name in LAYERS:
        u, s, vh = torch.linalg.svd(mean_product(state, uploads, WEIGHTS, name), full_matrices=False)
        best = u[:, :RANK] * s[:RANK] @ vh[:RANK]
        assert torch.allclose(product(found.state, name), best, atol=1e-11)
        a = found.state[f"{name}.lora_A.weight"]
        assert torch.allclose(a @ a.mT, torch.eye(RANK, dtype=a.dtype), atol=1e-12)


def test_flexlora_is_exact_when_the_ranks_add_up_to_the_servers():
    state, small = a_state(rank=4), a_state(seed=5, rank=2)
    uploads = [an_upload(small, "AB", seed) for seed in range(2)]
    found = aggregate(uploads, [3, 1], "flexlora", state)
    for name in LAYERS:
        exact = (3 * product(uploads[0], name) + product(uploads[1], name)) / 4
        assert torch.allclose(product(found.state, name), exact, atol=1e-12)


def test_flexlora_of_fewer_triplets_than_the_rank_is_filled_up():
    state, small = a_state(rank=4), a_state(seed=5, rank=2)
    found = aggregate([an_upload(small, "AB", 0)], None, "flexlora", state)
    assert not found.state["q.lora_B.weight"][:, 2:].any()
    assert torch.equal(found.state["q.lora_A.weight"][2:], state["q.lora_A.weight"][2:])


def test_flora_starts_anew_with_the_bounds_of_peft():
    state = a_state()
    found = aggregate(uploads_for("flora", state), WEIGHTS, "flora", state, round=3)
    for name, (_, d_in) in LAYERS.items():
        assert not found.state[f"{name}.lora_B.weight"].any()
        a = found.state[f"{name}.lora_A.weight"]
        assert 0 < a.abs().max() <= d_in**-0.5 and not torch.equal(a, state[f"{name}.lora_A.weight"])
    again = aggregate(uploads_for("flora", state), WEIGHTS, "flora", state, round=3)
    assert torch.equal(again.state["q.lora_A.weight"], found.state["q.lora_A.weight"])


def test_rolora_alternates():
    state = a_state()
    assert [trained_factors("rolora", round) for round in (1, 2, 3, 4)] == ["B", "A", "B", "A"]
    assert uploaded_keys(state, "A") == ["q.lora_A.weight", "v.lora_A.weight"]
    found = aggregate(uploads_for("rolora", state, 2), WEIGHTS, "rolora", state, round=2)
    assert torch.equal(found.state["q.lora_B.weight"], state["q.lora_B.weight"])


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_one_client_is_its_own_mean(method):
    state = a_state()
    (upload,) = uploads_for(method, state, count=1)
    found = aggregate([upload], [5.0], method, state, scaling=1.0)
    client = {**state, **upload}
    for name in LAYERS:
        left, right = found.base_update.get(name, (torch.zeros(1, 1), torch.zeros(1, 1)))
        total = product(found.state, name) + left.double() @ right.double()
        assert torch.allclose(total, product(client, name), atol=1e-11)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_order_and_scale_of_the_weights_do_not_matter(method):
    state = a_state()
    uploads = uploads_for(method, state)
    found = aggregate(uploads, WEIGHTS, method, state).state
    turned = aggregate(uploads[::-1], [w / 1287 for w in WEIGHTS[::-1]], method, state).state
    for name in LAYERS:
        assert torch.allclose(product(found, name), product(turned, name), atol=1e-11)


def test_no_weights_are_equal_ones():
    state = a_state()
    uploads = uploads_for("ffa", state)
    equal, ones = (aggregate(uploads, w, "ffa", state).state for w in (None, [1, 1, 1]))
    assert all(torch.equal(equal[key], ones[key]) for key in equal)


def test_float32_and_half_states_are_summed_in_float64_and_keep_their_dtype():
    state = {key: tensor.float() for key, tensor in a_state().items()}
    uploads = [{key: tensor.bfloat16() for key, tensor in u.items()} for u in uploads_for("ffa", a_state())]
    found = aggregate(uploads, WEIGHTS, "ffa", state).state["q.lora_B.weight"]
    sent = [u["q.lora_B.weight"].double() for u in uploads]
    exact = sum(w * x for w, x in zip(WEIGHTS, sent, strict=True)) / 1287
    assert found.dtype == torch.float32 and torch.equal(found, exact.float())


def test_a_client_of_lower_rank_leaves_the_other_columns_as_they_were():
    state = a_state()
    low = {key: tensor[:, :1] for key, tensor in an_upload(state, "B", 0).items()}
    full = an_upload(state, "B", 1)
    found = aggregate([low, full], [1, 3], "ffa", state).state["q.lora_B.weight"]
    key, before = "q.lora_B.weight", state["q.lora_B.weight"]
    assert torch.allclose(found[:, :1], (low[key] + 3 * full[key][:, :1]) / 4)
    assert torch.allclose(found[:, 1:], (before[:, 1:] + 3 * full[key][:, 1:]) / 4)


def test_trained_heads_are_averaged_with_the_factors():
    state = a_state(head=True)
    uploads = [an_upload(state, "B", seed, with_extras=True) for seed in range(2)]
    found = aggregate(uploads, [1, 1], "fedsvd", state, with_extras=True).state["classifier.weight"]
    assert torch.allclose(found, (uploads[0]["classifier.weight"] + uploads[1]["classifier.weight"]) / 2)


BAD_UPLOADS = [
    (lambda u: u.pop("q.lora_B.weight"), "1 tensors are missing, such as `q.lora_B.weight`"),
    (lambda u: u.update({"w.lora_B.weight": torch.zeros(1, 1)}), "were not asked for, such as `w.lora_B.weight`"),
    (lambda u: u.update({"q.lora_A.weight": torch.zeros(3, 10)}), "were not asked for, such as `q.lora_A.weight`"),
    (lambda u: u.update({"q.lora_B.weight": torch.zeros(7, 3)}), "has shape \\(7, 3\\), expected \\(6, 3\\)"),
    (lambda u: u.update({"q.lora_B.weight": torch.zeros(6, 4)}), "has shape \\(6, 4\\), expected \\(6, 3\\)"),
    (lambda u: u["v.lora_B.weight"].fill_(torch.nan), "`v.lora_B.weight` has entries that are NaN"),
    (lambda u: u["v.lora_B.weight"].fill_(torch.inf), "`v.lora_B.weight` has entries that are NaN or infinite"),
]


@pytest.mark.parametrize(("change", "message"), BAD_UPLOADS)
def test_bad_uploads_are_named_and_change_nothing(change, message):
    state = a_state()
    good, bad = uploads_for("ffa", state, count=2)
    change(bad)
    with pytest.raises(ValueError, match=f"`updates\\[1\\]`: .*{message}"):
        aggregate([good, bad], [1, 1], "ffa", state)
    aggregator = RoundAggregator("ffa", state)
    aggregator.add(good, 1.0)
    with pytest.raises(ValueError, match=message):
        aggregator.add(bad, 1.0)
    found = aggregator.finish()
    assert found.num_clients == 1 and torch.equal(found.state["q.lora_B.weight"], good["q.lora_B.weight"])


def test_factors_of_different_ranks_are_refused():
    state = a_state()
    upload = an_upload(state, "AB", 0)
    upload["q.lora_A.weight"] = upload["q.lora_A.weight"][:1]
    with pytest.raises(ValueError, match="layer `q`: A and B have different ranks \\[1, 3\\]"):
        aggregate([upload], None, "fedavg", state)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_weights_are_refused(weight):
    state = a_state()
    with pytest.raises(ValueError, match="`weights` must be positive and finite"):
        aggregate(uploads_for("ffa", state, count=2), [1.0, weight], "ffa", state)


def test_nothing_to_average_and_unknown_methods_are_refused():
    state = a_state()
    with pytest.raises(ValueError, match="`updates` is empty"):
        aggregate([], [], "ffa", state)
    with pytest.raises(ValueError, match="`weights` must be as many as `updates`, got 1 and 2"):
        aggregate(uploads_for("ffa", state, count=2), [1.0], "ffa", state)
    with pytest.raises(ValueError, match="`updates` is empty"):
        aggregation_error([])
    with pytest.raises(ValueError, match="`weights` must be as many as `updates`, got 1 and 2"):
        aggregation_error(uploads_for("fedavg", state, count=2), [1.0])
    with pytest.raises(ValueError, match="`method` must be one of fedsvd, .*; got 'fedprox'"):
        aggregate([], [], "fedprox", state)
    with pytest.raises(ValueError, match="`round` counts from 1, got 0"):
        trained_factors("ffa", 0)


def test_when_the_server_refactors():
    assert [refactors_in("fedsvd", round) for round in (1, 2, 3)] == [True, True, True]
    assert [refactors_in("fedsvd", round, every=2, warmup=2) for round in range(1, 7)] == [False] * 3 + [
        True,
        False,
        True,
    ]
    assert [refactors_in("ffa_orth", round, every=2, warmup=2) for round in range(1, 7)] == [False] * 3 + [
        True,
        False,
        False,
    ]
    assert not any(refactors_in(name, 1) for name in METHOD_NAMES if name not in ("fedsvd", "ffa_orth"))


def test_methods_that_need_more_than_a_sum_say_so():
    assert [name for name in METHOD_NAMES if not recipe_of(name).linear] == ["fedex", "flexlora", "flora"]
    assert all(recipe.linear or recipe.trains == ("AB",) for recipe in RECIPES.values())


def test_a_sum_of_products_does_not_grow_beyond_the_dense_one():
    generator = torch.Generator().manual_seed(0)
    total, dense = LowRankSum(), torch.zeros(6, 9, dtype=torch.float64)
    for weight in range(1, 40):
        b, a = torch.randn(6, 2, generator=generator), torch.randn(2, 9, generator=generator)
        total.add(b, a, weight)
        dense += weight * b.double() @ a.double()
        left, right = total.factors()
        assert left.shape[1] <= 6
    assert torch.allclose(left @ right, dense, rtol=1e-10)
    left, right = total.compressed()
    assert left.shape == (6, 6) and torch.allclose(left @ right, dense, rtol=1e-10)


def test_a_sum_that_cancels_is_compressed_to_one_column():
    b, a = torch.randn(6, 2), torch.randn(2, 9)
    total = LowRankSum(b, a)
    total.add(b, a, -1.0)
    left, right = total.compressed()
    assert (left @ right).abs().max() < 1e-12
