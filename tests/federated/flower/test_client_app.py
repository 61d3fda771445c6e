# SPDX-License-Identifier: Apache-2.0
"""What a client does and declines: its own functions, its privacy ledger."""

import json
from importlib.util import find_spec

import pytest
import torch


pytest.importorskip("flwr")

from flwr.app import Message

from eigenhub.federated import DPConfig, FedSVDConfig, PrivacyLedger, QuorumError
from eigenhub.federated.flower import FedSVDStrategy, InProcessGrid, make_client_app
from eigenhub.federated.flower.client_state import LEDGER
from eigenhub.federated.flower.messages import RoundRequest
from eigenhub.federated.local_job import LocalOutcome
from tests.federated.flower.federation import (
    NUM_CLIENTS,
    SIZES,
    embedded,
    federation,
    largest_difference,
    make_app,
    make_model,
    on_flower,
    rows_of,
)


def a_guarantee(**options):
    """With noise that need not be searched for, which takes seconds."""
    values = {"target_epsilon": 50.0, "target_delta": 1e-3, "noise_multiplier": 2.0, "accountant": "rdp", "seed": 0}
    return DPConfig(**(values | options))


DP = a_guarantee()


def private(**options):
    return federation(**({"dp": DP, "client_fraction": 1.0, "num_rounds": 2} | options))


def play(config, app, rounds=None, nodes=NUM_CLIENTS, **options):
    """The strategy and the grid, whose contexts are what the clients have kept."""
    strategy = FedSVDStrategy(config, make_model(), **({"fraction_evaluate": 0.0} | options))
    with InProcessGrid(app, nodes) as grid:
        strategy.run(grid)
    return strategy, grid


def test_a_function_of_ones_own_trains_in_place_of_ours(tmp_path):
    jobs = []

    def train(model, dataset, job):
        jobs.append(job)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert {name.split(".")[-3] for name in trained} == {"lora_B"}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in trained:
                    parameter.fill_(len(dataset))
        return LocalOutcome(job.num_steps, {"loss": 2.0})

    app = make_client_app(lambda context: make_model(), train, data_fn=rows_of)
    strategy = on_flower(FedSVDConfig(method="ffa", num_rounds=1, client_fraction=1.0, local_steps=7), app)
    mean = sum(n * n for n in SIZES) / sum(SIZES)
    for key in strategy.server.upload_keys:
        torch.testing.assert_close(strategy.server.state[key], torch.full_like(strategy.server.state[key], mean))
    assert [(job.client_id, job.num_steps) for job in jobs] == [(str(index), 7) for index in range(NUM_CLIENTS)]
    assert strategy.history[0]["loss"] == 2.0


def test_without_a_function_there_must_be_arguments():
    with pytest.raises(ValueError, match="`args` must be given"):
        make_client_app(lambda context: make_model(), data_fn=rows_of)


def test_the_model_is_made_once_and_remembers_nobody(tmp_path):
    made = []

    def make(context):
        made.append(context.node_id)
        return make_model()

    fresh = on_flower(federation(method="flora"), make_app(tmp_path))
    app = make_app(tmp_path, model_fn=make)
    for _ in range(2):  # the second run starts with what the first has left in model and base weights
        again = on_flower(federation(method="flora"), app)
        for name, total in fresh.server.base_sums.items():
            torch.testing.assert_close(torch.mm(*again.server.base_sums[name].factors()), torch.mm(*total.factors()))
    assert len(made) == 1


def test_clients_without_held_out_rows_decline(tmp_path):
    app = make_app(tmp_path, eval_data_fn=None)
    strategy = on_flower(federation(num_rounds=1), app, fraction_evaluate=1.0)
    assert not any(name.startswith("eval") for name in strategy.history[0])


def test_a_node_has_the_name_of_its_configuration(tmp_path):
    config = federation(client_ranks={"Ulm": 2}, client_fraction=1.0, num_rounds=1, method="flexlora")
    nodes = [{"client-id": "Bern", "partition-id": 0}, {"client-id": "Ulm", "partition-id": 1}]
    strategy = on_flower(config, make_app(tmp_path), nodes=nodes)
    sizes = sum(tensor.numel() for key, tensor in strategy.server.state.items() if "lora" in key)
    assert strategy.history[0]["upload_bytes"] == 4 * (sizes + sizes // 2)


# Differential privacy

opacus = pytest.mark.skipif(find_spec("opacus") is None, reason="needs the extra `dp`")


@opacus
def test_every_client_keeps_its_own_ledger(tmp_path):
    dp = a_guarantee(target_epsilon=8.0, noise_multiplier=None)
    strategy, grid = play(private(dp=dp), make_app(tmp_path), nodes=2)
    assert [record["failures"] for record in strategy.history] == [{}, {}]
    for index, (node, context) in enumerate(grid.contexts.items()):
        state = json.loads(str(context.state[LEDGER]["json"]))
        ledger = PrivacyLedger(dp)
        ledger.load_state_dict(state)
        (account,) = ledger.accounts.values()
        assert (account.participations, account.steps, account.num_examples) == (2, 6, SIZES[index])
        assert 0 < ledger.epsilon(str(index)) <= dp.target_epsilon
        assert node == index + 2


@opacus
def test_it_trains_as_the_embedded_trainer_does(tmp_path):
    """Of the same seeds, so that the noise is the same."""
    config = private(client_sampling="balanced")
    strategy, _ = play(config, make_app(tmp_path))
    trainer = embedded(config, tmp_path)
    assert largest_difference(strategy.server.state, trainer.server.state) <= 1e-6


@opacus
def test_beyond_its_cap_a_client_declines(tmp_path):
    with pytest.raises(QuorumError, match="its privacy budget of 1 rounds is spent"):
        play(private(dp=a_guarantee(max_participations=1)), make_app(tmp_path))


@opacus
def test_neither_sizes_nor_figures_leave(tmp_path):
    sent = []
    app = make_app(tmp_path)

    def listening(message, context):
        reply = app(message, context)
        sent.append(reply.content["metrics"])
        return reply

    strategy, _ = play(private(num_rounds=1), listening, fraction_evaluate=1.0)
    assert [dict(metrics) for metrics in sent] == [{"num-examples": 1, "num-steps": 3}] * NUM_CLIENTS
    assert "train_loss" not in strategy.history[0]


def test_figures_on_private_rows_are_declined(tmp_path):
    """Also where a strategy of another kind asks for them."""
    request = RoundRequest(1, "B", private(), 1, "", {})
    with InProcessGrid(make_app(tmp_path), 1) as grid:
        message = Message(request.to_records(), message_type="evaluate", dst_node_id=2)
        (reply,) = grid.send_and_receive([message])
    assert "not covered by the privacy guarantee" in reply.error.reason


@opacus
def test_private_rounds_are_followed_by_no_other_kind(tmp_path):
    app, dp = make_app(tmp_path), a_guarantee(max_participations=2)
    with InProcessGrid(app, NUM_CLIENTS) as grid:
        FedSVDStrategy(private(num_rounds=1, dp=dp), make_model(), fraction_evaluate=0).run(grid)
        with pytest.raises(QuorumError, match="takes part in no round without privacy"):
            FedSVDStrategy(federation(), make_model(), fraction_evaluate=0).run(grid)
        weaker = a_guarantee(max_participations=2, target_epsilon=80.0)
        with pytest.raises(QuorumError, match="kept under other settings"):
            FedSVDStrategy(private(dp=weaker), make_model(), fraction_evaluate=0).run(grid)
        with pytest.raises(QuorumError, match="has answered round 1, and is asked for round 1"):
            FedSVDStrategy(private(dp=dp), make_model(), fraction_evaluate=0).run(grid)


def test_a_client_holds_the_server_to_its_own_terms(tmp_path):
    with pytest.raises(QuorumError, match="insists on DPConfig.*the round has None"):
        on_flower(federation(), make_app(tmp_path, dp=DP))


def test_a_function_of_ones_own_vouches_for_no_privacy(tmp_path):
    def train(model, dataset, job):
        raise AssertionError("must not be called")

    with pytest.raises(ValueError, match="`train_fn` cannot train under `dp`"):
        make_app(tmp_path, train_fn=train, dp=DP)
    with pytest.raises(QuorumError, match="which no privacy ledger can vouch for"):
        on_flower(private(), make_app(tmp_path, train_fn=train))


@opacus
def test_an_unreachable_target_is_told_before_training(tmp_path):
    with pytest.raises(QuorumError, match="more than `target_epsilon=0.01`"):
        on_flower(private(dp=a_guarantee(target_epsilon=0.01)), make_app(tmp_path))
