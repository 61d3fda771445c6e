# SPDX-License-Identifier: Apache-2.0
"""Clients that fail, drop out or answer garbage: named, left out, and never averaged."""

import json

import pytest
import torch


pytest.importorskip("flwr")

from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from eigenhub.federated import FederatedLoraTrainer, QuorumError
from eigenhub.federated.flower import FedSVDStrategy, InProcessGrid, arrays_to_peft, peft_to_arrays
from eigenhub.federated.round_files import latest_round
from tests.federated.flower.federation import (
    NUM_CLIENTS,
    arguments,
    client_rows,
    embedded,
    federation,
    largest_difference,
    make_app,
    make_model,
    meddling,
    on_flower,
    rows_of,
)


BAD_NODE = "3"  # partition 1: ids start at 2


def with_state(change):
    """A client whose trained tensors are changed on the way."""

    def meddle(reply, message):
        state = arrays_to_peft(reply.content["arrays"])
        change(state, next(iter(sorted(state))))
        reply.content["arrays"] = peft_to_arrays(state)
        return reply

    return meddle


def put(record, key, value):
    def meddle(reply, message):
        reply.content[record][key] = value
        return reply

    return meddle


def crash(reply, message):
    raise RuntimeError("out of memory")


def tear(reply, message):
    key = next(iter(reply.content["arrays"]))
    reply.content["arrays"][key] = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=b"\x93NUMPY")
    return reply


GARBAGE = {
    "crash": (crash, "out of memory"),
    "error": (lambda reply, message: Message(Error(7, "disk full"), reply_to=message), "disk full"),
    "NaN": (with_state(lambda state, key: state[key].fill_(float("nan"))), "NaN or infinite"),
    "infinite": (with_state(lambda state, key: state[key].view(-1)[0].fill_(float("inf"))), "NaN or infinite"),
    "shape": (with_state(lambda state, key: state.update({key: torch.zeros(2, 2)})), r"has shape \(2, 2\)"),
    "missing": (with_state(lambda state, key: state.pop(key)), "1 tensors are missing"),
    "surplus": (with_state(lambda state, key: state.update(mine=torch.ones(1))), "not asked for, such as `mine`"),
    "changed A": (put("config", "fingerprint", "0123456789abcdef"), "has changed tensors that are shared"),
    "stale": (put("config", "server-round", 0), "answers round 0, this is round"),
    "no rows": (put("metrics", "num-examples", 0), "has 0 examples"),
    "torn": (tear, "cannot be read as an array"),
    "empty": (lambda reply, message: Message(RecordDict(), reply_to=message), "the reply cannot be read"),
    "nothing": (lambda reply, message: with_empty(reply), "tensors are missing"),
}


def with_empty(reply):
    reply.content["arrays"] = ArrayRecord()
    return reply


@pytest.fixture(scope="module")
def without_the_bad_one(tmp_path_factory):
    """One round of the three others."""
    rows = [part.select([]) if index == 1 else part for index, part in enumerate(client_rows())]
    config = federation(num_rounds=1, client_fraction=1.0)
    trainer = FederatedLoraTrainer(make_model(), arguments(tmp_path_factory.mktemp("embedded")), rows, config=config)
    trainer.train()
    return trainer.server.state


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_named_and_left_out(kind, tmp_path, without_the_bad_one):
    meddle, message = GARBAGE[kind]
    config = federation(num_rounds=1, client_fraction=1.0)
    strategy = on_flower(config, meddling(make_app(tmp_path), meddle))
    (record,) = strategy.history
    assert list(record["failures"]) == [BAD_NODE]
    with pytest.raises(ValueError, match=message):
        raise ValueError(record["failures"][BAD_NODE])
    assert largest_difference(strategy.server.state, without_the_bad_one) <= 1e-6


def test_below_the_quorum_the_run_stops_and_the_state_before_is_saved(tmp_path):
    def fail_later(reply, message):
        if message.content["config"]["server-round"] == 2:
            raise RuntimeError("no power")
        return reply

    config = federation(client_fraction=1.0, min_clients=NUM_CLIENTS, checkpoint_every=100)
    app = make_app(tmp_path)
    strategy = FedSVDStrategy(config, make_model(), fraction_evaluate=0, output_dir=tmp_path / "rounds")
    with pytest.raises(QuorumError, match=rf"round 2: 3 usable replies, `min_clients` is 4 \({BAD_NODE}: .*no power"):
        with InProcessGrid(meddling(app, fail_later), NUM_CLIENTS) as grid:
            strategy.run(grid)
    folder = latest_round(tmp_path / "rounds")
    assert json.loads((folder / "server.json").read_text())["round"] == 1

    resumed = FedSVDStrategy(config, make_model(), fraction_evaluate=0, output_dir=tmp_path / "rounds")
    assert resumed.resume() == 1
    with InProcessGrid(app, NUM_CLIENTS) as grid:
        resumed.run(grid)
    whole = embedded(federation(client_fraction=1.0), tmp_path / "embedded")
    assert largest_difference(resumed.server.state, whole.server.state) <= 1e-6


class Postbox(InProcessGrid):
    """A grid that may lose, repeat and misaddress replies."""

    def __init__(self, app, change):
        super().__init__(app, NUM_CLIENTS)
        self.change = change

    def send_and_receive(self, messages, *, timeout=None):
        replies = list(super().send_and_receive(messages))
        return self.change(replies) if replies else []


def through(change, tmp_path, **options):
    config = federation(num_rounds=1, client_fraction=1.0, **options)
    strategy = FedSVDStrategy(config, make_model(), fraction_evaluate=0)
    with Postbox(make_app(tmp_path), change) as grid:
        strategy.run(grid)
    return strategy


def test_a_late_client_is_named(tmp_path):
    strategy = through(lambda replies: replies[1:], tmp_path)
    assert strategy.history[0]["failures"] == {"2": "has not replied in time"}


def test_a_second_reply_counts_once(tmp_path):
    strategy = through(lambda replies: [*replies, replies[0]], tmp_path)
    assert strategy.history[0]["failures"] == {"2": "has already replied in round 1"}
    once = through(lambda replies: replies, tmp_path)
    assert largest_difference(strategy.server.state, once.server.state) == 0


def test_the_order_of_replies_changes_nothing(tmp_path):
    forward, backward = (through(lambda replies, step=step: replies[::step], tmp_path) for step in (1, -1))
    assert largest_difference(forward.server.state, backward.server.state) == 0


def test_a_reply_of_somebody_who_was_not_asked_is_left_out(tmp_path):
    def misaddress(replies):
        replies[0].metadata.__dict__["_src_node_id"] = 77
        return replies

    strategy = through(misaddress, tmp_path)
    assert strategy.history[0]["failures"] == {"77": "was not asked in this round", "2": "has not replied in time"}


def test_nobody_replies(tmp_path):
    with pytest.raises(QuorumError, match="0 usable replies"):
        through(lambda replies: [], tmp_path)


def test_a_client_without_rows_says_so(tmp_path):
    app = make_app(tmp_path, data_fn=lambda context: rows_of(context).select([]))
    with pytest.raises(QuorumError, match="has no examples"):
        on_flower(federation(num_rounds=1), app)


def test_a_client_with_another_adapter_says_so(tmp_path):
    app = make_app(tmp_path, model_fn=lambda context: make_model(layers_to_transform=[0]))
    with pytest.raises(QuorumError, match="only the server's adapter has `base_model.model.bert.encoder.layer.1"):
        on_flower(federation(num_rounds=1), app)


def test_factors_that_change_on_the_way_are_noticed(tmp_path):
    app = make_app(tmp_path)

    def corrupt(message, context):
        state = arrays_to_peft(message.content["arrays"])
        key = next(key for key in state if "lora_A" in key)
        state[key][0, 0] += 1
        message.content["arrays"] = peft_to_arrays(state)
        return app(message, context)

    with pytest.raises(QuorumError, match="not those that the server has sent"):
        on_flower(federation(num_rounds=1), corrupt)


def test_evaluations_that_fail_are_left_out(tmp_path):
    def score(model, dataset):
        if len(dataset) == len(client_rows()[0]):
            raise RuntimeError("no labels")
        return {"accuracy": len(dataset) / 100}

    strategy = on_flower(federation(num_rounds=1), make_app(tmp_path, eval_fn=score), fraction_evaluate=1.0)
    sizes = [len(rows) for rows in client_rows()[1:]]
    assert strategy.history[0]["accuracy"] == pytest.approx(sum(n * n / 100 for n in sizes) / sum(sizes))


def test_too_few_nodes_are_told_after_a_while(tmp_path):
    with pytest.raises(TimeoutError, match="4 nodes have connected.*`min_available_nodes` is 5"):
        on_flower(federation(), make_app(tmp_path), min_available_nodes=5, connect_timeout=0.0)


def test_the_arrays_must_be_those_of_the_strategy(tmp_path):
    strategy = on_flower(federation(num_rounds=1), make_app(tmp_path))
    with InProcessGrid(make_app(tmp_path), NUM_CLIENTS) as grid:
        with pytest.raises(ValueError, match="not those that round 1 has returned"):
            strategy.start(grid, initial_arrays=peft_to_arrays(make_model()), num_rounds=1)
        with pytest.raises(ValueError, match="not those of the strategy's adapter"):
            strategy.start(grid, initial_arrays=ArrayRecord(), num_rounds=1)


def test_a_user_may_start_from_other_arrays(tmp_path):
    model, config = make_model(), federation(num_rounds=1)
    state = arrays_to_peft(peft_to_arrays(model))
    for key in (key for key in state if "lora_B" in key):
        state[key] += 0.1
    strategy = FedSVDStrategy(config, model, fraction_evaluate=0)
    with InProcessGrid(make_app(tmp_path), NUM_CLIENTS) as grid:
        strategy.start(grid, initial_arrays=peft_to_arrays(state), num_rounds=1)
    plain = on_flower(config, make_app(tmp_path))
    assert largest_difference(strategy.server.state, plain.server.state) > 0.1
