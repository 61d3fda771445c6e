# SPDX-License-Identifier: Apache-2.0
"""The S4D layer against its definition: kernels, ways to convolve, states, rates, pads."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from eigenhub.models.s4d import S4DConfig, S4DForCausalLM, S4DLayer, S4DModel
from tests.models.s4d.reference import discrete_system, kernels, s4d_reference


VARIANTS = [
    {"init": "lin"},
    {"init": "legs", "b_scale": 0.5},
    {"init": "ptd", "state_size": 16},
    {"init": "lowrank", "discretization": "bilinear"},
    {"init": "inv", "n_ssm": 2},
    {"init": "real", "dt_per_state": True},
    {"init": "quad", "real_transform": "softplus", "dt_transform": "softplus"},
    {"init": "lin", "real_transform": "relu", "step_rescale": 2.0},
    {"init": "inv2", "real_transform": "sigmoid", "imag_transform": "exp"},
    {"init": "random", "real_transform": "none"},
]


def layer(seed=0, **settings):
    torch.manual_seed(seed)
    return S4DLayer(**({"hidden_size": 4, "state_size": 8} | settings)).eval()


def close(found, expected, tolerance=2e-5):
    assert_close(found.double(), expected.double(), atol=tolerance * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_layer_is_its_definition(settings, bidirectional):
    ssm = layer(bidirectional=bidirectional, **settings).ssm
    u = torch.randn(2, 23, 4)
    close(ssm(u)[0], s4d_reference(ssm, u))
    for found, expected in zip(ssm.kernel(23), kernels(ssm, 23), strict=True):
        close(found, expected)


def test_the_first_tap():
    ssm = layer().ssm
    _, bbar = discrete_system(ssm)
    c = torch.view_as_complex(ssm.C.detach().double())
    close(ssm.kernel(5)[0, :, 0], 2 * (c * bbar).sum(1).real)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000])
def test_ways_to_convolve_agree(length, bidirectional):
    u = torch.randn(1, length, 4)
    expected = layer(conv_backend="reference", bidirectional=bidirectional).double().ssm(u.double())[0]
    for settings in (
        {"conv_backend": "fft"},
        {"conv_backend": "chunk"},
        {"conv_backend": "chunk", "chunk_size": 7},
        {},
    ):
        close(layer(bidirectional=bidirectional, **settings).ssm(u)[0], expected, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("conv_backend", ["fft", "chunk"])
def test_long_sequences(conv_backend):
    u = torch.randn(1, 4096, 4)
    expected = layer(conv_backend="reference").double().ssm(u.double())[0]
    close(layer(conv_backend=conv_backend).ssm(u)[0], expected, 1e-5)


@pytest.mark.parametrize("conv_backend", ["fft", "chunk", "reference"])
@pytest.mark.parametrize("length", [1, 2, 65])
def test_steps_equal_the_whole(length, conv_backend):
    module = layer(conv_backend=conv_backend, init="ptd")
    u, state = torch.randn(3, length, 4), torch.randn(3, *module.initial_state(1).shape[1:])
    whole, final = module(u, state=state, return_state=True)
    outputs = []
    for step in u.unbind(1):
        y, state = module.step(step, state)
        outputs.append(y)
    assert_close(torch.stack(outputs, 1), whole, atol=1e-5, rtol=1e-5)
    assert_close(state, final, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("conv_backend", ["fft", "chunk"])
def test_two_halves_are_the_whole(conv_backend):
    module = layer(conv_backend=conv_backend)
    u = torch.randn(2, 50, 4)
    whole, final = module(u, return_state=True)
    first, state = module(u[:, :21], return_state=True)
    second, state = module(u[:, 21:], state=state, return_state=True)
    assert_close(torch.cat([first, second], 1), whole, atol=1e-5, rtol=1e-5)
    assert_close(state, final, atol=1e-5, rtol=1e-5)
    assert module.initial_state(2).shape == final.shape
    assert_close(module(u, state=module.initial_state(2)), module(u), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("conv_backend", ["fft", "chunk"])
def test_gradients_with_a_state(conv_backend):
    module = layer(hidden_size=2, state_size=4, conv_backend=conv_backend).double()
    u = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda u, s: module(u, state=s, return_state=True), (u, state))


def test_rate_is_a_factor_on_the_time_steps():
    module, other = layer(), layer()
    with torch.no_grad():
        other.ssm.inv_dt.add_(torch.tensor(2.0).log())
    u = torch.randn(2, 30, 4)
    assert_close(module(u, rate=2.0), other(u), atol=1e-5, rtol=1e-5)
    close(module.ssm(u, rate=2.0)[0], s4d_reference(module.ssm, u, rate=2.0))
    assert not torch.allclose(module(u), other(u), atol=1e-3)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_pads_of_a_layer(bidirectional):
    module = layer(bidirectional=bidirectional)
    real = torch.randn(1, 6, 4)
    for order in (torch.arange(9), torch.arange(9).roll(3)):
        u = torch.cat([real, 100 * torch.randn(1, 3, 4)], 1)[:, order]
        mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0, 0]])[:, order]
        assert_close(module(u, attention_mask=mask)[:, mask[0].bool()], module(real), atol=1e-5, rtol=1e-5)
        if not bidirectional:
            expected = module(real, return_state=True)[1]
            assert_close(module(u, attention_mask=mask, return_state=True)[1], expected, atol=1e-5, rtol=1e-5)


def test_the_nonlinearity_by_hand():
    for final in ("glu", "id"):
        module = layer(final_activation=final)
        u = torch.randn(2, 6, 4)
        y = module.ssm(u)[0]
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
        y = y @ module.output_linear.weight.T + module.output_linear.bias
        expected = y[..., :4] * y[..., 4:].sigmoid() if final == "glu" else y
        assert_close(module(u), expected)


def test_band_limit():
    """States of more than half a turn of `bandlimit` per step are silent."""
    limited, free = (
        layer(init="legs", bandlimit=0.5, dt_min=0.1, dt_max=0.1),
        layer(init="legs", dt_min=0.1, dt_max=0.1),
    )
    turns = 0.1 * limited.ssm.eigenvalues[1].abs() / (2 * torch.pi)
    silent = turns > 0.25
    assert 0 < silent.sum() < silent.numel()
    with torch.no_grad():
        free.ssm.C[silent] = 0
    u = torch.randn(2, 20, 4)
    assert_close(limited(u), free(u), atol=1e-6, rtol=1e-6)
    assert_close(limited(u, return_state=True)[0], free(u), atol=1e-5, rtol=1e-5)


def test_dss_has_a_kernel_and_no_state():
    module = layer(discretization="dss", init="lin")
    u = torch.randn(2, 20, 4)
    assert torch.isfinite(module(u)).all()
    assert not torch.allclose(module(u[:, :10]), module(u)[:, :10], atol=1e-3)  # the kernel depends on the length
    with pytest.raises(ValueError, match="`discretization='dss'` has no state"):
        module(u, return_state=True)
    model = S4DModel(S4DConfig(vocab_size=5, hidden_size=4, state_size=4, num_hidden_layers=1, discretization="dss"))
    assert model.eval()(torch.zeros(1, 3, dtype=torch.long)).past_key_values is None
    with pytest.raises(ValueError, match="need a model that has a state, but `discretization='dss'`"):
        model(torch.zeros(1, 3, dtype=torch.long), use_cache=True)


def test_frozen_parts():
    def trained(**settings):
        return {name for name, p in layer(**settings).ssm.named_parameters() if p.requires_grad}

    assert trained() == {"A_real", "A_imag", "B", "C", "D", "inv_dt"}
    assert trained(train_B=False) == {"A_real", "A_imag", "C", "D", "inv_dt"}
    assert trained(ssm_lr=0) == {"C", "D"}


def test_frozen_parts_stay_frozen_after_loading(tmp_path):
    config = S4DConfig(vocab_size=5, hidden_size=4, state_size=4, num_hidden_layers=1, ssm_lr=0)
    S4DModel(config).save_pretrained(tmp_path)
    loaded = S4DModel.from_pretrained(tmp_path)
    assert {n.rpartition(".")[2] for n, p in loaded.named_parameters() if ".ssm." in n and p.requires_grad} == {
        "C",
        "D",
    }


def test_half_precision_computes_in_float32():
    module, u = layer(), torch.randn(2, 40, 4)
    half = layer().bfloat16()
    assert half.ssm.A_imag.dtype == torch.float32 and half.output_linear.weight.dtype == torch.bfloat16
    y, state = half(u.bfloat16(), return_state=True)
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert (y.float() - module(u)).abs().max() < 0.05 * module(u).abs().max()


def test_stats():
    model = S4DModel(S4DConfig(vocab_size=5, hidden_size=4, state_size=4, num_hidden_layers=2))
    with torch.no_grad():
        model.layers[1].mixer.layer.ssm.inv_dt[0] = 3.0
    first, second = model.ssm_stats()
    assert first["max_real"] == pytest.approx(-0.5) and 0.9 < first["max_modulus"] < 1
    assert 1e-3 <= first["min_dt"] <= first["max_dt"] <= 0.1 < second["max_dt"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"state_size": 5}, "`state_size` must be even, got 5"),
        ({"n_ssm": 3}, "`n_ssm` must divide `hidden_size`, got 3 and 4"),
        ({"init": "real", "real_transform": "sigmoid"}, "`real_transform='sigmoid'` cannot start from numbers between 1 and 4"),
        ({"init": "lin", "imag_transform": "exp"}, "`imag_transform='exp'` cannot start from numbers between 0 and"),
        ({"ptd_method": "given", "init": "ptd", "ptd_perturbation": torch.diag(torch.full((8,), 90.0)).tolist()}, "unstable"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        layer(**settings)


def test_bad_calls_are_named():
    u = torch.randn(1, 5, 4)
    for call, message in (
        (lambda: layer(bidirectional=True)(u, return_state=True), "need a causal layer, but `bidirectional=True`"),
        (lambda: layer()(u, attention_mask=torch.ones(1, 4)), r"`attention_mask` must have shape .* = \(1, 5\)"),
        (
            lambda: S4DLayer(S4DConfig(), hidden_size=4),
            "give either `config` or settings of S4DConfig, got both: hidden_size",
        ),
        (lambda: layer(d_state=4, dropout=0.1), "`options` must be settings of S4DConfig, got d_state, dropout"),
        (lambda: layer()(u[..., :3]), r"`u` must have shape \(batch, length, 4\), got \(1, 5, 3\)"),
        (lambda: layer()(u[0]), r"`u` must have shape \(batch, length, 4\), got \(5, 4\)"),
        (lambda: layer()(u, rate=-1.0), "`rate` must be positive and finite, got -1.0"),
        (
            lambda: layer(bidirectional=True).step(u[:, 0], layer().initial_state(1)),
            "`step` needs a layer that has a state, but `bidirectional=True`",
        ),
        (
            lambda: layer(discretization="dss").step(u[:, 0], layer().initial_state(1)),
            "`step` needs a layer that has a state, but `discretization='dss'`",
        ),
        (lambda: S4DForCausalLM(S4DConfig(bidirectional=True)), "`bidirectional` must be False in S4DForCausalLM"),
        (
            lambda: S4DModel(S4DConfig(input_size=1))(input_values=u[..., 0], timestamps=u[..., 0]),
            "S4DModel takes evenly sampled sequences",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
