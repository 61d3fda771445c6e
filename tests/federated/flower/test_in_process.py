# SPDX-License-Identifier: Apache-2.0
"""The strategy and the client app in one process do what the embedded trainer does."""

import pytest
import torch


pytest.importorskip("flwr")

from flwr.app import Message, RecordDict
from peft import PeftModel

from eigenhub.federated.flower import FedSVDStrategy, InProcessGrid
from eigenhub.federated.flower.messages import RoundRequest
from eigenhub.federated.recipes import METHOD_NAMES
from tests.federated.flower.federation import (
    SIZES,
    arguments,
    base_model,
    client_rows,
    embedded,
    federation,
    largest_difference,
    make_app,
    make_model,
    on_flower,
)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_is_that_of_the_embedded_trainer(method, tmp_path):
    config = federation(method=method)
    trainer, strategy = embedded(config, tmp_path), on_flower(config, make_app(tmp_path))
    assert largest_difference(strategy.server.state, trainer.server.state) <= 1e-6
    for name in trainer.server.base_sums:
        expected, found = (
            torch.mm(*sums[name].factors()) for sums in (trainer.server.base_sums, strategy.server.base_sums)
        )
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for theirs, ours in zip(trainer.history, strategy.history, strict=True):
        assert [str(2 + trainer.clients.index(client)) for client in theirs["clients"]] == ours["clients"]
        assert ours["train_loss"] == pytest.approx(weighted_loss(theirs), rel=1e-6)
        assert ours["upload_bytes"] == theirs["upload_bytes"]


def weighted_loss(record):
    sizes = {client: SIZES[int(client)] for client in record["client_metrics"]}
    total = sum(sizes[client] * metrics["train_loss"] for client, metrics in record["client_metrics"].items())
    return total / sum(sizes.values())


@pytest.mark.parametrize(
    "options",
    [
        {"downlink": "rotation"},
        {"train_head": True},
        {"init_A": "orthonormal"},
        {"client_ranks": {"1": 2, "2": 3}, "client_fraction": 1.0},
        {"client_sampling": "balanced", "weighting": "uniform"},
        {"refactor_every": 2},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_setting_is_that_of_the_embedded_trainer(options, tmp_path):
    config = federation(**options)
    trainer, strategy = embedded(config, tmp_path), on_flower(config, make_app(tmp_path))
    assert largest_difference(strategy.server.state, trainer.server.state) <= 1e-6
    assert [r["download_bytes"] for r in strategy.history] == [r["download_bytes"] for r in trainer.history]


def test_adamw_too(tmp_path):
    config, options = federation(), {"optim": "adamw_torch", "learning_rate": 3e-3}
    trainer = embedded(config, tmp_path, **options)
    strategy = on_flower(config, make_app(tmp_path, args=arguments(tmp_path, **options)))
    assert largest_difference(strategy.server.state, trainer.server.state) <= 1e-6


@pytest.mark.parametrize("downlink", ["full", "rotation"])
def test_a_half_precision_adapter_is_trained_as_it_is(downlink, tmp_path):
    def half(context=None):
        return make_model().to(torch.bfloat16)

    config = federation(num_rounds=2, downlink=downlink)
    strategy = on_flower(config, make_app(tmp_path, model_fn=half), model=half())
    assert [record["failures"] for record in strategy.history] == [{}, {}]
    assert {tensor.dtype for tensor in strategy.server.state.values()} == {torch.bfloat16}


def test_the_head_is_sent_once_and_a_late_joiner_gets_all_that_it_needs(tmp_path):
    config = federation(num_rounds=6, client_fraction=0.25, downlink="rotation", client_sampling="balanced")
    strategy = on_flower(config, make_app(tmp_path))
    first, later = (record["download_bytes"] for record in strategy.history[0::4][:2])
    assert {client for record in strategy.history[:4] for client in record["clients"]} == {"2", "3", "4", "5"}
    assert later < first
    trainer = embedded(config, tmp_path)
    assert largest_difference(strategy.server.state, trainer.server.state) <= 1e-6


@pytest.mark.parametrize("method", ["fedsvd", "fedex", "flora"])
def test_stock_peft_loads_the_result(method, tmp_path):
    strategy = on_flower(federation(method=method), make_app(tmp_path))
    strategy.save_pretrained(tmp_path / "adapter")
    batch = {"input_ids": client_rows()[0][:4]["input_ids"]}
    expected = strategy.load_global().eval()(**batch).logits
    loaded = PeftModel.from_pretrained(base_model(), tmp_path / "adapter").eval()
    torch.testing.assert_close(loaded(**batch).logits, expected, rtol=1e-5, atol=1e-5)
    assert (expected - base_model()(**batch).logits).abs().max() > 1e-2


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    app = make_app(tmp_path)
    whole = on_flower(federation(num_rounds=4), app)
    on_flower(federation(num_rounds=2), app, output_dir=tmp_path / "rounds")

    strategy = FedSVDStrategy(
        federation(num_rounds=4), make_model(), fraction_evaluate=0, output_dir=tmp_path / "rounds"
    )
    assert strategy.resume() == 2
    with InProcessGrid(app, len(SIZES)) as grid:
        result = strategy.run(grid)
    assert largest_difference(strategy.server.state, whole.server.state) == 0
    assert [record["round"] for record in strategy.history] == [3, 4]
    assert list(result.train_metrics_clientapp) == [1, 2]


def test_evaluation_is_that_of_the_clients_rows(tmp_path):
    config = federation(eval_every=2, num_rounds=3)
    strategy = on_flower(config, make_app(tmp_path), fraction_evaluate=1.0)
    assert ["eval_accuracy" in record for record in strategy.history] == [False, True, True]
    trainer = embedded(config, tmp_path / "embedded")
    scores = [trainer.evaluate(rows) for rows in client_rows()]
    expected = sum(size * score["eval_loss"] for size, score in zip(SIZES, scores, strict=True)) / sum(SIZES)
    assert strategy.history[-1]["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_clients_do_not_see_one_another(tmp_path):
    """All messages of a round share their records, and a client may change what it was sent."""

    def meddle(message, context):
        message.content["config"]["server-round"] = 99
        message.content["arrays"].clear()
        context.state["seen"] = message.content["config"]
        return Message(RecordDict(), reply_to=message)

    with InProcessGrid(meddle, 2) as grid:
        content = make_request().to_records()
        messages = [Message(content, message_type="train", dst_node_id=node) for node in grid.get_node_ids()]
        replies = list(grid.send_and_receive(messages))
    assert not any(reply.has_error() for reply in replies)
    assert content["config"]["server-round"] == 1
    assert [len(context.state) for context in grid.contexts.values()] == [1, 1]


def make_request():
    payload = {"q.lora_B.weight": torch.ones(3, 2)}
    return RoundRequest(round=1, factors="B", config=federation(), participations=2, fingerprint="", payload=payload)


def test_replies_come_one_by_one():
    asked = []

    def answer(message, context):
        asked.append(context.node_id)
        return Message(RecordDict(), reply_to=message)

    with InProcessGrid(answer, 1000) as grid:
        content = make_request().to_records()
        messages = [
            Message(content, message_type="train", dst_node_id=node) for node in list(grid.get_node_ids())[:50]
        ]
        replies = iter(grid.send_and_receive(messages))
        next(replies)
        assert len(asked) == 1
        assert len(list(replies)) == 49
    assert len(grid.contexts) == 50


def test_push_and_pull():
    def answer(message, context):
        if context.node_config["partition-id"] == 1:
            raise RuntimeError("no power")
        return Message(message.content, reply_to=message)

    with InProcessGrid(answer, 2) as grid:
        message = [Message(RecordDict(), message_type="query", dst_node_id=node) for node in grid.get_node_ids()]
        ids = grid.push_messages(message)
        good, bad = grid.pull_messages(ids)
        assert grid.pull_messages(ids) == []
    assert good.has_content() and bad.has_error()
    assert "no power" in bad.error.reason
    with pytest.raises(RuntimeError, match="not set"):
        Message(RecordDict(), message_type="query", dst_node_id=2)  # outside of the grid as before it


def test_nodes_have_their_configurations():
    seen = {}

    def answer(message, context):
        seen[context.node_id] = dict(context.node_config), dict(context.run_config)
        return Message(RecordDict(), reply_to=message)

    with InProcessGrid(answer, [{"client-id": "Ulm"}, {"client-id": "Bern"}], run_config={"lr": 0.1}) as grid:
        messages = [Message(RecordDict(), message_type="query", dst_node_id=node) for node in grid.get_node_ids()]
        list(grid.send_and_receive(messages))
    assert list(seen.values()) == [({"client-id": name}, {"lr": 0.1}) for name in ("Ulm", "Bern")]
    with pytest.raises(ValueError, match="`nodes` must be at least one"):
        InProcessGrid(answer, 0)
