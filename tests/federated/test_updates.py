# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from eigenhub.federated import ClientUpdate, FederatedServer, FedSVDConfig, QuorumError, RejectedUpdate
from eigenhub.federated.updates import check_update, fingerprint, uploaded_keys
from tests.federated.states import a_state, an_upload


SCALINGS = {"q": 1.0, "v": 1.0}


def a_server(**options) -> FederatedServer:
    server = FederatedServer(FedSVDConfig(**({"method": "fedsvd"} | options)), a_state(), SCALINGS)
    server.open_round()
    return server


def a_reply(server: FederatedServer, client: str = "a", seed: int = 0, **changes) -> ClientUpdate:
    state = an_upload(server.state, server.factors, seed)
    values = {"round": server.round + 1, "num_examples": 10, "fingerprint": server.fingerprint()} | changes
    return ClientUpdate(client, state=state, **values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"round": 3}, "client a: answers round 3, this is round 1"),
        ({"num_examples": 0}, "client a: has 0 examples"),
        ({"fingerprint": "abc"}, "client a: has changed tensors that are shared and frozen"),
    ],
)
def test_stale_empty_and_tampered_replies_are_refused(changes, message):
    server = a_server()
    with pytest.raises(RejectedUpdate, match=message):
        server.accept(a_reply(server, **changes))
    assert list(server.failures) == ["a"]
    server.accept(a_reply(server, "b"))
    assert server.close_round().num_clients == 1


def test_garbage_is_refused_and_named():
    server = a_server()
    reply = a_reply(server, "clinic")
    reply.state["q.lora_B.weight"][0, 0] = torch.nan
    with pytest.raises(RejectedUpdate, match="client clinic: `q.lora_B.weight` has entries that are NaN"):
        server.accept(reply)
    assert "NaN" in server.failures["clinic"]


def test_a_second_reply_of_a_client_is_refused():
    server = a_server()
    server.accept(a_reply(server))
    with pytest.raises(RejectedUpdate, match="client a: has already replied in round 1"):
        server.accept(a_reply(server))


def test_below_the_quorum_the_state_stays():
    server = a_server(min_clients=2)
    before = {key: tensor.clone() for key, tensor in server.state.items()}
    server.accept(a_reply(server))
    server.note_failure("b", "no answer")
    with pytest.raises(QuorumError, match="round 1: 1 usable replies, `min_clients` is 2 \\(b: no answer\\)"):
        server.close_round()
    assert server.round == 0 and all(torch.equal(server.state[key], before[key]) for key in before)
    with pytest.raises(ValueError, match="no round is open"):
        server.accept(a_reply(server, "c"))


def test_fingerprints_tell_values_shapes_dtypes_and_names():
    state = a_state()
    keys = uploaded_keys(state, "A")
    reference = fingerprint(state, keys)
    assert fingerprint(dict(reversed(state.items())), keys[::-1]) == reference
    changed = dict(state)
    changed["q.lora_A.weight"] = state["q.lora_A.weight"].clone()
    changed["q.lora_A.weight"][0, 0] += 1e-12
    assert fingerprint(changed, keys) != reference
    assert fingerprint({key: tensor.float() for key, tensor in state.items()}, keys) != reference
    assert fingerprint(state, keys[:1]) != reference
    assert len(fingerprint({"x": torch.ones(2, dtype=torch.bfloat16)}, ["x"])) == 16


def test_a_check_without_a_server():
    state = a_state()
    update = ClientUpdate("a", 1, an_upload(state, "B", 0), 5)
    check_update(update, 1, state, uploaded_keys(state, "B"))
