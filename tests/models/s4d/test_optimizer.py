# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from eigenhub.models.s4d import S4DAdamW, S4DConfig, S4DForSequenceClassification, S4DLayer, s4d_param_groups


def model(**settings):
    return S4DForSequenceClassification(
        S4DConfig(vocab_size=5, hidden_size=4, state_size=4, num_hidden_layers=2, **settings)
    )


def leaves(group):
    return {name.rpartition(".")[2] for name in group["members"] if ".ssm." in f".{name}"}


def test_groups_by_name():
    ssm, regular = s4d_param_groups(model(bidirectional=True), lr=1e-2, weight_decay=0.05)
    assert (ssm["lr"], ssm["weight_decay"]) == (1e-3, 0.0) and (regular["lr"], regular["weight_decay"]) == (1e-2, 0.05)
    assert leaves(ssm) == {"A_real", "A_imag", "B", "inv_dt"} and len(ssm["members"]) == 8
    assert leaves(regular) == {"C", "C_backward", "D"}
    listed = [id(p) for group in (ssm, regular) for p in group["params"]]
    assert len(set(listed)) == len(listed)


def test_rates_come_from_the_configuration_or_the_call():
    assert s4d_param_groups(model(ssm_lr=5e-4))[0]["lr"] == 5e-4
    assert s4d_param_groups(model(ssm_lr=5e-4), ssm_lr=2e-4)[0]["lr"] == 2e-4
    assert s4d_param_groups(torch.nn.ModuleDict({"module": model(ssm_lr=5e-4)}))[0]["lr"] == 5e-4
    assert s4d_param_groups(torch.nn.Linear(2, 2))[0]["name"] == "regular"
    assert s4d_param_groups(S4DLayer(hidden_size=4, state_size=4))[0]["lr"] == 1e-3


def test_a_rate_of_zero_freezes():
    frozen = model(ssm_lr=0)
    (regular,) = s4d_param_groups(frozen)
    assert leaves(regular) == {"C", "D"}
    before = {name: t.clone() for name, t in frozen.state_dict().items() if name.endswith(("A_real", "inv_dt", ".B"))}
    optimizer = S4DAdamW()(frozen, lr=0.1)
    frozen(torch.tensor([[1, 2, 3]]), labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    assert len(before) == 6
    assert all(torch.equal(frozen.state_dict()[name], tensor) for name, tensor in before.items())
    with pytest.raises(ValueError, match="`ssm_lr` must not be negative, got -1"):
        s4d_param_groups(frozen, ssm_lr=-1)
