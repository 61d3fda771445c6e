# SPDX-License-Identifier: Apache-2.0
"""Starting values, and when the solver runs."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import AutoConfig
from transformers.initialization import no_init_weights

from eigenhub.linalg.hippo import legs_normal_diagonalize, ptd_diagonalize, s4d_init
from eigenhub.models.s5_ptd import S5Config, S5ForSequenceClassification, S5Model
from eigenhub.models.s5_ptd.initialization_s5 import initial_tensors
from eigenhub.models.state_space import initial_system


TINY = {"hidden_size": 8, "state_size": 16, "num_blocks": 2, "num_hidden_layers": 1}


def tensors(**settings):
    torch.manual_seed(0)
    return initial_tensors(S5Config(**(TINY | settings)))


def complex_of(pairs):
    return torch.view_as_complex(pairs.contiguous())


def sorted_values(tensors):
    values = torch.complex(tensors["Lambda_re"], tensors["Lambda_im"])
    return values[torch.argsort(values.imag)]


@pytest.mark.parametrize("blocks", [1, 2])
def test_eigenvalues_are_those_of_the_solver_in_every_block(blocks):
    n = 16 // blocks
    full = ptd_diagonalize(n)
    found = sorted_values(tensors(num_blocks=blocks, conj_sym="none"))
    expected = full.lambda_[torch.argsort(full.lambda_.imag)].repeat_interleave(blocks)
    assert_close(found.imag, expected.imag)
    half = tensors(num_blocks=blocks)
    assert (half["Lambda_im"] <= 0).all()
    assert half["state_weight"].sum() == 16
    assert len(half["Lambda_re"]) == S5Config(**(TINY | {"num_blocks": blocks})).num_states


def test_the_number_of_states_counts_real_eigenvalues():
    config = S5Config(**(TINY | {"state_size": 7, "num_blocks": 1, "init": "lowrank"}))
    assert config.ptd_info["num_real"] % 2 == 1
    assert config.num_states == (7 + config.ptd_info["num_real"]) // 2
    assert S5Config(**TINY, conj_sym="none").num_states == 16
    assert S5Config(**(TINY | {"state_size": 5, "num_blocks": 1, "init": "legs"})).num_states == 3


@pytest.mark.parametrize("init", ["lin", "inv", "quad", "inv2", "real"])
def test_eigenvalues_by_formula(init):
    found = sorted_values(tensors(num_blocks=1, init=init))
    expected = s4d_init(init, 16).conj()
    assert_close(found.imag, expected[torch.argsort(expected.imag)].imag)
    assert_close(found.real.sort().values, expected.real.sort().values)


def test_legs_is_the_normal_part_of_hippo():
    values, _ = legs_normal_diagonalize(8)
    assert_close(sorted_values(tensors(init="legs", num_blocks=2))[::2], values[:4])


@pytest.mark.parametrize("init", ["ptd", "lowrank", "legs", "lin", "random"])
def test_the_change_of_basis_is_that_of_a_real_matrix(init):
    system = S5Config(**TINY, init=init, conj_sym="none").initial_system()
    matrix = (system.v * system.eigenvalues) @ system.v_inverse
    assert matrix.imag.abs().max() < 1e-9 * matrix.abs().max()
    assert_close(system.v @ system.v_inverse, torch.eye(8, dtype=torch.complex128), atol=1e-9, rtol=0)


def std(pairs):
    return pairs.std().item()


def test_scale_of_b_and_c():
    sizes = {"hidden_size": 64, "state_size": 128, "num_blocks": 8, "init": "legs", "conj_sym": "none"}
    for c_init, expected in (
        ("trunc_standard_normal", 128**-0.5),
        ("lecun_normal", (64 * 128) ** -0.5),
        ("complex_normal", 0.5**0.5),
    ):
        assert std(tensors(**sizes, c_init=c_init)["C"]) == pytest.approx(expected, rel=0.02)
    # V is unitary, and B real before the change of basis
    assert complex_of(tensors(**sizes)["B"]).abs().square().mean().sqrt().item() == pytest.approx(128**-0.5, rel=0.02)
    column = complex_of(tensors(**sizes, b_init="hippo")["B"])
    assert (column == column[:, :1]).all()
    _, v = legs_normal_diagonalize(16)
    assert_close(column[:16, 0], v.mH @ (2 * torch.arange(16) + 1).double().sqrt().to(v.dtype))


def test_half_is_the_kept_part_of_all():
    sizes = {"hidden_size": 64, "state_size": 32, "num_blocks": 2, "init": "legs", "c_init": "trunc_standard_normal"}
    half, full = tensors(**sizes), tensors(**sizes, conj_sym="none")
    assert_close(half["B"].view(2, 8, 64, 2), full["B"].view(2, 16, 64, 2)[:, :8])
    assert_close(half["C"].view(64, 2, 8, 2), full["C"].view(64, 2, 16, 2)[:, :, :8])


def test_truncated_normals_are_truncated():
    config = S5Config(hidden_size=256, vocab_size=512, state_size=8, num_blocks=1, num_hidden_layers=1)
    model = S5ForSequenceClassification(config)
    weight = model.model.encoder.embed_tokens.weight
    assert weight.std().item() == pytest.approx(512**-0.5, rel=0.02)
    assert weight.abs().max().item() <= 2 * 512**-0.5 / 0.8796 * 1.0001
    gate = model.model.layers[0].mixer.activation.gate
    assert gate.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert (module.bias == 0).all()
    assert (model.model.encoder.token_bias == 0).all()


@pytest.mark.parametrize(("tying", "size"), [("state", 8), ("block", 2), ("layer", 1)])
def test_time_steps(tying, size):
    found = tensors(dt_tying=tying, init="legs")["log_step"]
    assert found.shape == (size,)
    many = tensors(hidden_size=1, state_size=4000, num_blocks=500, init="legs", dt_min=0.01, dt_max=0.2)["log_step"]
    assert math.log(0.01) <= many.min() < math.log(0.0105) and math.log(0.19) < many.max() <= math.log(0.2)
    assert many.mean().item() == pytest.approx(math.log(0.01 * 0.2) / 2, abs=0.1)


def test_feedthrough_and_backward_map_are_drawn():
    found = tensors(hidden_size=2000, bidirectional=True, init="legs")
    assert found["D"].std().item() == pytest.approx(1, rel=0.1)
    assert std(found["C_backward"]) == pytest.approx(std(found["C"]), rel=0.1)
    assert not torch.equal(found["C"], found["C_backward"])


def test_a_given_perturbation():
    e = (0.2 * ptd_diagonalize(8, "lowrank").E).tolist()
    config = S5Config(**TINY, ptd_method="given", ptd_perturbation=e)
    assert config.ptd_info["kappa"] == pytest.approx(ptd_diagonalize(8, "lowrank", tau=0.02).info["kappa"])
    complex_e = [[[x, 1e-3] for x in row] for row in e]
    assert S5Config(**TINY, ptd_method="given", ptd_perturbation=complex_e, conj_sym="none").num_states == 16
    with pytest.raises(ValueError, match="no conjugate pairs"):
        S5Config(**TINY, ptd_method="given", ptd_perturbation=complex_e)
    unstable = torch.diag(torch.full((8,), 10.0)).tolist()
    with pytest.raises(ValueError, match="unstable"):
        S5Config(**TINY, ptd_method="given", ptd_perturbation=unstable)


def count_solutions(monkeypatch):
    calls = []

    def solve(n, **keywords):
        calls.append(n)
        return ptd_diagonalize(n, **keywords)

    monkeypatch.setattr(initial_system, "ptd_diagonalize", solve)
    return calls


def test_loading_never_solves(tmp_path, monkeypatch):
    calls = count_solutions(monkeypatch)
    config = S5Config(**TINY, vocab_size=5)
    assert calls == [8]
    model = S5Model(config)
    assert len(calls) == 2  # starting values, from the solver's own cache
    model.save_pretrained(tmp_path)
    AutoConfig.from_pretrained(tmp_path)
    S5Model.from_pretrained(tmp_path)
    head, report = S5ForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert (head.classifier.bias == 0).all() and head.classifier.weight.std() > 0
    assert len(calls) == 2


def test_building_without_values_never_solves(monkeypatch):
    config = S5Config(**TINY, vocab_size=5)
    calls = count_solutions(monkeypatch)
    with torch.device("meta"):
        assert S5Model(config).layers[0].mixer.ssm.B.device.type == "meta"
    with no_init_weights():
        S5Model(config)
    assert calls == []


def test_information_belongs_to_the_settings():
    config = S5Config(**TINY)
    first = dict(config.ptd_info)
    assert {"kappa", "rel_spectral", "rel_frobenius", "max_re", "backward_error", "max_gain"} <= first.keys()
    assert first["max_re"] < 0 and first["backward_error"] < 1e-10
    config.init = "lowrank"
    lowrank = config.solved_info()
    assert lowrank["recipe"] == {"n": 8, "method": "lowrank", "tau": 0.1} and lowrank["kappa"] > first["kappa"]
    assert S5Config(**(config.to_dict() | {"init": "ptd"})).ptd_info == first
    assert S5Config(**TINY, init="legs", ptd_info=first).ptd_info is None


def test_a_solver_that_changed_its_mind_is_noticed(monkeypatch):
    config = S5Config(**TINY)
    config.ptd_info["num_real"] += 2
    with pytest.raises(RuntimeError, match="set `ptd_info=None`"):
        config.initial_system()


def test_equal_seeds_give_equal_models():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(S5Model(S5Config(**TINY, vocab_size=5, init="random")))
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b), name
