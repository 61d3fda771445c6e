# SPDX-License-Identifier: Apache-2.0
import pytest
import torch


pytest.importorskip("flwr")

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from eigenhub.federated import ClientUpdate
from eigenhub.federated.flower import arrays_to_peft, peft_to_arrays, wire_dtypes
from eigenhub.federated.flower.messages import RoundRequest, records_to_update, update_to_records
from eigenhub.federated.flower.records import arrays_to_sums, sums_to_arrays
from eigenhub.federated.lora_model import read_adapter
from eigenhub.federated.products import LowRankSum
from tests.federated.flower.federation import federation, make_model


def over_the_wire(record):
    """Through Flower's own bytes: what another process gets."""
    return ArrayRecord({key: Array.inflate(array.deflate(), array.children) for key, array in record.items()})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_arrives_to_the_bit(dtype):
    state = {"q.lora_B.weight": torch.randn(5, 3).to(dtype), "v.lora_B.weight": torch.randn(3, 5).to(dtype).T}
    found = arrays_to_peft(over_the_wire(peft_to_arrays(state)), wire_dtypes(state))
    assert list(found) == list(state)
    assert all(found[key].dtype == dtype and found[key].equal(state[key]) for key in state)


def test_flower_itself_has_no_bfloat16():
    with pytest.raises(TypeError, match="BFloat16"):
        ArrayRecord({"a": torch.zeros(2, dtype=torch.bfloat16)})
    state = {"a": torch.ones(2, dtype=torch.bfloat16)}
    assert peft_to_arrays(state)["a"].dtype == "float32"
    assert arrays_to_peft(peft_to_arrays(state))["a"].dtype == torch.float32


def test_a_model_is_its_adapter():
    model = make_model()
    found, expected = arrays_to_peft(peft_to_arrays(model)), read_adapter(model)
    assert all(found[key].equal(expected[key]) for key in expected)
    found["base_model.model.classifier.weight"].zero_()  # a copy that may be written to
    assert read_adapter(model)["base_model.model.classifier.weight"].any()


def test_sums_keep_their_product():
    total = LowRankSum()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        total.add(torch.randn(6, 2, generator=generator), torch.randn(2, 9, generator=generator), 0.5)
    found = arrays_to_sums(over_the_wire(sums_to_arrays({"a.b": total})))
    torch.testing.assert_close(torch.mm(*found["a.b"].factors()), torch.mm(*total.factors()))


def test_unreadable_arrays_are_named():
    torn = ArrayRecord({"q.lora_B.weight": Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=b"torn")})
    with pytest.raises(ValueError, match="`q.lora_B.weight` cannot be read as an array"):
        arrays_to_peft(torn)
    with pytest.raises(ValueError, match="dtype 'load' is none of torch's"):
        arrays_to_peft(peft_to_arrays({"a": torch.zeros(1)}), {"a": "load"})


def a_request(**options):
    values = {"round": 4, "factors": "B", "participations": 7, "fingerprint": "ab", "config": federation(method="ffa")}
    return RoundRequest(**(values | {"payload": {"b": torch.ones(2, dtype=torch.bfloat16)}} | options))


def test_a_request_says_all_of_itself():
    sums = {"a": LowRankSum(torch.ones(2, 1), torch.ones(1, 3))}
    request = a_request(once={"head": torch.zeros(3)}, base_sums=sums)
    content = request.to_records(ConfigRecord({"mine": 1.5}))
    found = RoundRequest.from_records(content)
    for name in ("round", "factors", "participations", "fingerprint", "config"):
        assert getattr(found, name) == getattr(request, name)
    assert found.payload["b"].equal(request.payload["b"])
    assert found.once["head"].equal(torch.zeros(3))
    torch.testing.assert_close(torch.mm(*found.base_sums["a"].factors()), torch.ones(2, 3, dtype=torch.float64))
    assert content["config"]["mine"] == 1.5
    assert request.num_bytes() == 2 * 2 + 3 * 4 + (2 + 3) * 4


def test_a_request_of_another_strategy_is_told():
    foreign = RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord({"server-round": 1})})
    with pytest.raises(ValueError, match="'dtypes': it does not come from a FedSVDStrategy"):
        RoundRequest.from_records(foreign)


def test_two_adapters_that_differ_are_told():
    like = {"b": torch.zeros(2), "c": torch.zeros(1)}
    with pytest.raises(ValueError, match="only the client's adapter has `c`"):
        a_request().adapter({}, like)
    with pytest.raises(ValueError, match="only the server's adapter has `b`"):
        a_request().adapter({}, {})


def an_update(**options):
    state = {"b": torch.ones(2, dtype=torch.bfloat16)}
    return ClientUpdate("3", 4, state, **({"num_examples": 9, "num_steps": 5, "fingerprint": "ab"} | options))


@pytest.mark.parametrize("share_size, size", [(True, 9), (False, 1)])
def test_a_reply_says_all_of_itself(share_size, size):
    update = an_update(metrics={"train_loss": 0.25})
    found = records_to_update(update_to_records(update, share_size), client_id="node")
    assert (found.client_id, found.round, found.num_steps, found.fingerprint) == ("node", 4, 5, "ab")
    assert found.num_examples == size
    assert found.metrics == {"train_loss": 0.25}
    assert found.state["b"].equal(update.state["b"]) and found.state["b"].dtype == torch.bfloat16


@pytest.mark.parametrize("record", ["arrays", "metrics", "config"])
@pytest.mark.parametrize("instead", [None, MetricRecord({"a": 1}), ConfigRecord({"a": "b"}), ArrayRecord()])
def test_a_reply_that_says_less_cannot_be_read(record, instead):
    content = update_to_records(an_update())
    was = content.pop(record)
    if instead is not None:
        content[record] = instead
    if record == "arrays" and isinstance(instead, type(was)):
        assert records_to_update(content, "3").state == {}  # the server says which tensors are missing
        return
    with pytest.raises(ValueError, match="the reply cannot be read"):
        records_to_update(content, "3")
