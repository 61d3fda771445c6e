# SPDX-License-Identifier: Apache-2.0
"""Rounds of the server without a model: saving, resuming, weighting, the rotation downlink."""

import json

import pytest
import torch

from eigenhub.federated import FederatedServer, FedSVDConfig
from eigenhub.federated.downlink import basis_of, num_bytes, rebuilt
from eigenhub.federated.recipes import METHOD_NAMES
from eigenhub.federated.server import ROUND_FILE
from tests.federated.states import LAYERS, a_state, product
from tests.federated.test_updates import a_reply


def make(**options) -> FederatedServer:
    state = {key: tensor.float() for key, tensor in a_state(b_is_zero=True).items()}
    return FederatedServer(FedSVDConfig(**options), state, {"q": 2.0, "v": 0.5})


def play(server: FederatedServer, rounds: int) -> FederatedServer:
    for _ in range(rounds):
        server.open_round()
        for position, client in enumerate("abc"):
            server.accept(a_reply(server, client, seed=10 * server.round + position, num_examples=position + 1))
        server.close_round()
    return server


def assert_equal(one: FederatedServer, other: FederatedServer) -> None:
    assert one.round == other.round and list(one.state) == list(other.state)
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    assert list(one.base_sums) == list(other.base_sums)
    for name, total in one.base_sums.items():
        assert torch.equal(torch.mm(*total.factors()), torch.mm(*other.base_sums[name].factors()))


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_saved_server_goes_on_as_if_nothing_had_happened(method, tmp_path):
    straight = play(make(method=method), 4)
    play(make(method=method), 2).save(tmp_path)
    resumed = make(method=method)
    resumed.load(tmp_path)
    assert_equal(play(resumed, 2), straight)


def test_another_run_is_not_resumed(tmp_path):
    play(make(method="fedsvd"), 1).save(tmp_path)
    with pytest.raises(ValueError, match="another run \\(refactor_every: 1 there, 3 here; seed: 42 there, 7 here\\)"):
        make(method="fedsvd", refactor_every=3, seed=7).load(tmp_path)
    longer = make(method="fedsvd", num_rounds=500, checkpoint_every=9)
    longer.load(tmp_path)
    assert longer.round == 1
    other = FederatedServer(FedSVDConfig(), {k: v.float() for k, v in a_state(rank=2).items()}, {"q": 1.0, "v": 1.0})
    with pytest.raises(ValueError, match="state of another adapter"):
        other.load(tmp_path)


def test_weights_are_examples_or_equal():
    by_size, uniform = (play(make(method="ffa", weighting=w), 1) for w in ("num_examples", "uniform"))
    replies = [a_reply(make(method="ffa"), "a", seed=seed).state["q.lora_B.weight"] for seed in range(3)]
    assert torch.allclose(
        by_size.state["q.lora_B.weight"].double(), sum(i * r for i, r in zip((1, 2, 3), replies, strict=True)) / 6
    )
    assert torch.allclose(uniform.state["q.lora_B.weight"].double(), sum(replies) / 3)


def test_the_row_space_of_A_never_leaves_that_of_the_first_one():
    server = make(method="fedsvd")
    q = torch.linalg.qr(server.state["q.lora_A.weight"].double().mT).Q
    play(server, 5)
    a = server.state["q.lora_A.weight"].double()
    assert (a - a @ q @ q.mT).norm() < 1e-5
    assert (a @ a.mT - torch.eye(len(a))).abs().max() < 1e-6


@pytest.mark.parametrize("method", ["fedsvd", "ffa", "ffa_orth"])
def test_a_late_joiner_rebuilds_the_adapter_from_the_rotation(method):
    server = play(make(method=method, downlink="rotation"), 3)
    payload = server.broadcast()
    joined = rebuilt(payload, basis_of(make().state), make().state)
    assert all(torch.equal(joined[key], server.state[key]) for key in server.state)
    full = play(make(method=method), 3)
    for name in LAYERS:
        assert torch.allclose(product(joined, name), product(full.state, name), atol=1e-5)


def test_the_rotation_is_smaller_than_the_adapter():
    state = {"q.lora_A.weight": torch.randn(4, 512), "q.lora_B.weight": torch.randn(512, 4)}
    full, rotated = (FederatedServer(FedSVDConfig(downlink=d), state, {"q": 1.0}) for d in ("full", "rotation"))
    assert num_bytes(full.broadcast()) == 2 * 4 * 512 * 4
    assert num_bytes(rotated.broadcast()) == 4 * 512 * 4 + 4 * 4 * 8


def test_a_rotation_downlink_resumes(tmp_path):
    straight = play(make(downlink="rotation"), 3)
    play(make(downlink="rotation"), 1).save(tmp_path)
    resumed = make(downlink="rotation")
    resumed.load(tmp_path)
    assert_equal(play(resumed, 2), straight)


def test_the_saved_round_says_who_failed(tmp_path):
    server = make()
    server.open_round()
    server.note_failure("b", "no answer")
    server.accept(a_reply(server))
    server.close_round()
    server.save(tmp_path)
    assert json.loads((tmp_path / ROUND_FILE).read_text())["failures"] == {"b": "no answer"}
