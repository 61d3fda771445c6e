# SPDX-License-Identifier: Apache-2.0
"""Privacy of whole clients: clipping, noise, caps, and what they cost."""

import json
import math

import pytest
import torch


pytest.importorskip("flwr")

from eigenhub.federated import ClientUpdate, FedSVDConfig, QuorumError
from eigenhub.federated.accounting import compute_epsilon
from eigenhub.federated.flower import ClientDPConfig, FedSVDStrategy, InProcessGrid
from eigenhub.federated.flower.client_privacy import ClientPrivacy
from eigenhub.federated.flower.gaussian_accounting import gaussian_epsilon, gaussian_noise_multiplier
from eigenhub.federated.local_job import LocalOutcome
from tests.federated.flower.federation import (
    NUM_CLIENTS,
    federation,
    largest_difference,
    make_app,
    make_model,
    meddling,
    on_flower,
)


def config(**options):
    return federation(**({"weighting": "uniform", "client_fraction": 1.0, "num_rounds": 1} | options))


def settings(**options):
    return ClientDPConfig(**({"max_update_norm": 0.5, "target_delta": 1e-3, "noise_multiplier": 1e-9} | options))


def pushing(size):
    """A training that moves each entry of B by `size`, with the sign of the client's number."""

    def train(model, dataset, job):
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(size * (1 if int(job.client_id) % 2 else -0.5))
        return LocalOutcome(1, {"loss": 1.0})

    return train


def test_each_clients_whole_change_is_clipped(tmp_path):
    strategy = on_flower(config(method="ffa"), make_app(tmp_path, train_fn=pushing(3.0)), client_dp=settings())
    keys = strategy.server.upload_keys
    entries = sum(strategy.server.state[key].numel() for key in keys)
    # two clients go up by 0.5 / sqrt(entries) in each entry, two go down by as much
    assert all(strategy.server.state[key].abs().max() < 1e-6 for key in keys)
    only = on_flower(
        config(method="ffa"),
        make_app(tmp_path, train_fn=pushing(-3.0)),
        nodes=1,
        client_dp=settings(),
        min_available_nodes=1,
    )
    for key in keys:
        torch.testing.assert_close(
            only.server.state[key], torch.full_like(only.server.state[key], 0.5 / math.sqrt(entries))
        )


def test_a_small_change_is_left_alone(tmp_path):
    app = make_app(tmp_path)
    loose = on_flower(config(), app, client_dp=settings(max_update_norm=1e3, noise_multiplier=1e-12))
    assert largest_difference(loose.server.state, on_flower(config(), app).server.state) <= 1e-6


@pytest.mark.parametrize("nodes", [4, 16])
def test_the_noise_is_that_of_the_sum(tmp_path, nodes):
    app = make_app(tmp_path, train_fn=pushing(0.0))
    options = {"client_dp": settings(noise_multiplier=3.0, seed=1), "model": make_model(rank=16), "nodes": nodes}
    app = make_app(
        tmp_path, train_fn=pushing(0.0), model_fn=lambda context: make_model(rank=16), data_fn=lambda c: [0]
    )
    strategy = on_flower(config(method="ffa"), app, **options)
    noise = torch.cat([strategy.server.state[key].flatten() for key in strategy.server.upload_keys])
    assert len(noise) == 1024
    assert noise.std().item() == pytest.approx(3.0 * 0.5 / nodes, rel=0.1)
    assert abs(noise.mean().item()) < 4 * noise.std().item() / 32


def test_noise_is_fresh_by_default(tmp_path):
    app = make_app(tmp_path, train_fn=pushing(0.0))
    one, other = (on_flower(config(method="ffa"), app, client_dp=settings(noise_multiplier=1.0)) for _ in range(2))
    assert all(not one.server.state[key].equal(other.server.state[key]) for key in one.server.upload_keys)


def test_those_that_drop_out_count_as_unchanged(tmp_path):
    def crash(reply, message):
        raise RuntimeError("no power")

    app = make_app(tmp_path, train_fn=pushing(-1e-3))
    options = {"client_dp": settings(max_update_norm=10.0)}
    whole = on_flower(config(method="ffa"), app, **options)
    # partition 0 moves by 0.5e-3, partition 1 by -1e-3: without the first (and its noise) the sum of four is less by 0.5e-3
    less = on_flower(config(method="ffa"), meddling(app, crash, partition=0), **options)
    for key in whole.server.upload_keys:
        difference = whole.server.state[key] - less.server.state[key]
        torch.testing.assert_close(difference, torch.full_like(difference, 0.5e-3 / NUM_CLIENTS), rtol=1e-4, atol=1e-8)


def test_the_quorum_counts_real_replies(tmp_path):
    def crash(reply, message):
        raise RuntimeError("no power")

    with pytest.raises(QuorumError, match="3 usable replies"):
        on_flower(config(min_clients=4), meddling(make_app(tmp_path), crash), client_dp=settings())


def test_a_client_enters_no_more_rounds_than_planned(tmp_path):
    strategy = FedSVDStrategy(
        config(num_rounds=4, client_sampling="uniform", client_fraction=0.5),
        make_model(),
        client_dp=settings(max_participations=1),
    )
    with InProcessGrid(make_app(tmp_path), NUM_CLIENTS) as grid:
        with pytest.raises(QuorumError, match="nobody else was asked"):
            strategy.run(grid)
    assert max(strategy.client_privacy.rounds_entered.values()) == 1


def test_what_is_spent_is_told_and_saved(tmp_path):
    options = {"client_dp": settings(noise_multiplier=None, target_epsilon=6.0), "output_dir": tmp_path / "rounds"}
    plan = config(num_rounds=2, client_sampling="balanced", client_fraction=0.5, seed=1)
    strategy = on_flower(plan, make_app(tmp_path), **options)
    assert strategy.client_privacy.cap == 1
    assert [record["client_epsilon"] for record in strategy.history] == pytest.approx([6.0, 6.0], rel=1e-6)
    assert not any("loss" in name for record in strategy.history for name in record)
    folder = strategy.save_pretrained(tmp_path / "adapter")
    content = json.loads((folder / "client_privacy.json").read_text())
    assert content["epsilon"] == pytest.approx(6.0, rel=1e-6)
    assert "6, 0.001)-differentially private" in content["claim"]
    assert sorted(content["rounds_entered"].values()) == [1, 1, 1, 1]

    resumed = FedSVDStrategy(plan, make_model(), **options)
    resumed.resume()
    assert resumed.client_privacy.rounds_entered == strategy.client_privacy.rounds_entered
    other = FedSVDStrategy(plan, make_model(), **(options | {"client_dp": settings(noise_multiplier=2.0)}))
    with pytest.raises(ValueError, match="another `client_dp`"):
        other.resume()


def test_clients_are_not_asked_to_evaluate(tmp_path):
    strategy = on_flower(config(), make_app(tmp_path), client_dp=settings(), fraction_evaluate=1.0)
    assert not any(name.startswith("eval") for name in strategy.history[0])


def test_garbage_is_named_by_the_server(tmp_path):
    privacy = ClientPrivacy(settings(), config())
    privacy.allowed(["2"])
    state = {"q.lora_B.weight": torch.zeros(3, 2)}
    for upload in ({"q.lora_B.weight": torch.ones(2, 2)}, {"other": torch.ones(1)}):
        update = ClientUpdate("2", 1, upload, 1)
        assert privacy.protected(update, state) is update
    torn = privacy.protected(ClientUpdate("2", 1, {"q.lora_B.weight": torch.full((3, 2), float("nan"))}, 1), state)
    assert torn.state["q.lora_B.weight"].isnan().all()


@pytest.mark.parametrize("sigma, steps", [(1.0, 1), (2.0, 10), (0.5, 4), (8.0, 100)])
def test_epsilon_is_that_of_the_numerical_accountant(sigma, steps):
    pytest.importorskip("opacus")
    exact = gaussian_epsilon(sigma, steps, 1e-5)
    assert exact == pytest.approx(compute_epsilon([(sigma, 1.0, steps)], 1e-5, "prv"), rel=0.02)
    assert exact < compute_epsilon([(sigma, 1.0, steps)], 1e-5, "rdp")


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 100.0])
def test_noise_and_epsilon_are_inverse(epsilon):
    sigma = gaussian_noise_multiplier(epsilon, 20, 1e-6)
    assert gaussian_epsilon(sigma, 20, 1e-6) == pytest.approx(epsilon, rel=1e-6)
    assert gaussian_epsilon(sigma, 20, 1e-6) <= epsilon


def test_nothing_costs_nothing():
    assert gaussian_epsilon(1.0, 0, 1e-5) == 0.0
    assert gaussian_epsilon(1e9, 1, 1e-5) == 0.0


BAD_SETTINGS = {
    "neither": ({"noise_multiplier": None}, "`target_epsilon` .None. or `noise_multiplier` .None., one of them"),
    "both": ({"target_epsilon": 1.0}, "one of them"),
    "norm": ({"max_update_norm": 0.0}, "`max_update_norm` must be positive and finite, got 0.0"),
    "noise": ({"noise_multiplier": -1.0}, "`noise_multiplier` must be positive"),
    "delta": ({"target_delta": 1.0}, r"`target_delta` must lie in \(0, 1\)"),
    "cap": ({"max_participations": 0}, "`max_participations` must be positive"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_named(case):
    options, message = BAD_SETTINGS[case]
    with pytest.raises(ValueError, match=message):
        settings(**options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "fedavg"}, "needs a method that trains B alone, not 'fedavg'"),
        ({"weighting": "num_examples"}, "needs `weighting='uniform'`, got 'num_examples'"),
        ({"client_ranks": {"0": 1}}, "needs clients of one rank"),
    ],
)
def test_settings_that_do_not_go_together_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ClientPrivacy(settings(), FedSVDConfig(**({"weighting": "uniform"} | options)))
