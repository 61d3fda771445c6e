# SPDX-License-Identifier: Apache-2.0
"""The S5 layer against its definition, and the nonlinearities against theirs."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.models.s5_ptd import S5Config, S5ForTimeSeriesRegression, S5Model
from eigenhub.models.s5_ptd.mixer_s5 import S5Gate
from eigenhub.models.s5_ptd.ssm_s5 import S5SSM
from tests.models.s5_ptd.reference import s5_reference


TINY = {"hidden_size": 4, "state_size": 16, "num_blocks": 2, "c_init": "trunc_standard_normal"}
VARIANTS = [
    {},
    {"init": "legs", "conj_sym": "none", "b_init": "hippo"},
    {"init": "lowrank", "dt_tying": "block", "c_init": "complex_normal"},
    {"init": "lin", "discretization": "bilinear", "dt_tying": "layer"},
    {"init": "real", "step_rescale": 3.0},
    {"init": "inv", "state_size": 8, "num_blocks": 1, "dt_max": 0.5},
    {"init": "lowrank", "state_size": 7, "num_blocks": 1},
    {"init": "ptd", "state_size": 2, "num_blocks": 2},
    {"init": "ptd", "ptd_method": "gaussian", "ptd_delta": 1e-2},
]


def layer(seed=0, **settings):
    torch.manual_seed(seed)
    ssm = S5SSM(S5Config(**(TINY | settings)))
    ssm.reset_parameters()
    return ssm


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_layer_is_its_definition(settings, bidirectional):
    ssm = layer(bidirectional=bidirectional, **settings)
    u = torch.randn(2, 37, 4)
    y, _, _ = ssm(u)
    expected = s5_reference(ssm, u)
    assert_close(y.double(), expected, atol=2e-5 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("backend", ["fused", "reference", "associative"])
def test_backends_agree(backend):
    u = torch.randn(2, 50, 4)
    assert_close(layer(scan_backend=backend)(u)[0], layer()(u)[0], atol=1e-5, rtol=1e-5)
    assert_close(layer(chunk_size=7)(u)[0], layer()(u)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_irregular_times_are_steps_of_their_own_length(discretization, bidirectional):
    ssm = layer(discretization=discretization, bidirectional=bidirectional)
    u, deltas = torch.randn(2, 20, 4), torch.rand(2, 20) * 3
    expected = s5_reference(ssm, u, deltas)
    y, _, states = ssm(u, time_deltas=deltas, return_states=True)
    assert_close(y.double(), expected, atol=2e-5 * expected.abs().max().item(), rtol=0)
    assert states.shape == ((2, 20, 2) if bidirectional else (2, 20)) + (len(ssm.Lambda_re), 2)
    assert_close(ssm(u, time_deltas=torch.ones(2, 20))[0], ssm(u)[0], atol=1e-5, rtol=1e-5)


def test_a_gap_of_zero_holds_the_state_to_the_bit():
    ssm = layer()
    state = torch.randn(1, len(ssm.Lambda_re), 2)
    _, final, _ = ssm(torch.randn(1, 6, 4), state=state, time_deltas=torch.zeros(1, 6), return_state=True)
    assert torch.equal(final, state)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_among_irregular_times(side, bidirectional):
    torch.manual_seed(0)
    config = S5Config(**TINY, input_size=2, num_hidden_layers=2, num_labels=3, bidirectional=bidirectional)
    model = S5ForTimeSeriesRegression(config).eval()
    values, times = torch.randn(1, 6, 2), torch.rand(1, 6).cumsum(1)
    alone = model(input_values=values, timestamps=times).logits
    junk, mask = (torch.randn(1, 3, 2), torch.rand(1, 3) * 50), torch.cat([torch.ones(1, 6), torch.zeros(1, 3)], 1)
    order = slice(None) if side == "right" else torch.arange(9).roll(3)
    padded = [torch.cat([real, pad], 1)[:, order] for real, pad in ((values, junk[0]), (times, junk[1]))]
    found = model(input_values=padded[0], timestamps=padded[1], attention_mask=mask[:, order]).logits
    assert_close(found[:, mask[0, order].bool()], alone, atol=1e-5, rtol=1e-5)


def test_pieces_of_an_irregular_sequence():
    torch.manual_seed(0)
    model = S5Model(S5Config(**TINY, input_size=2, num_hidden_layers=2)).eval()
    values, deltas = torch.randn(2, 9, 2), torch.rand(2, 9)
    whole = model(input_values=values, time_deltas=deltas)
    cache = model(input_values=values[:, :5], time_deltas=deltas[:, :5]).past_key_values
    for k in range(5, 9):
        part = model(input_values=values[:, k : k + 1], time_deltas=deltas[:, k : k + 1], past_key_values=cache)
        assert_close(part.last_hidden_state[:, 0], whole.last_hidden_state[:, k], atol=1e-5, rtol=1e-5)
    assert_close(cache.get_state(1), whole.past_key_values.get_state(1), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="`timestamps` cannot continue a cache"):
        model(input_values=values, timestamps=deltas.cumsum(1), past_key_values=cache)


def test_regression_averages_over_real_steps():
    model = S5ForTimeSeriesRegression(S5Config(**TINY, input_size=1, num_hidden_layers=1, num_labels=2)).eval()
    values, labels, mask = torch.randn(2, 5, 1), torch.randn(2, 5, 2), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    labels[1, 2:] = torch.nan
    output = model(input_values=values, attention_mask=mask, labels=labels)
    real = mask.bool()
    assert_close(output.loss, (output.logits[real] - labels[real]).square().mean())
    with pytest.raises(ValueError, match=r"`labels` must have shape \(2, 5, 2\), got \(2, 5\)"):
        model(input_values=values, labels=labels[..., 0])


def gelu(x):
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("activation", ["full_glu", "half_glu1", "half_glu2", "gelu"])
def test_nonlinearities_by_hand(activation):
    gate = S5Gate(S5Config(**TINY, activation=activation)).eval()
    x = torch.randn(2, 3, 4)
    g = gelu(x)
    if activation == "gelu":
        assert_close(gate(x), g)
        assert not list(gate.parameters())
        return
    sigmoid = (g @ gate.gate.weight.T + gate.gate.bias).sigmoid()
    main = {"half_glu1": g, "half_glu2": x}.get(activation)
    if main is None:
        main = g @ gate.value.weight.T + gate.value.bias
    assert_close(gate(x), main * sigmoid)


def test_dropout_of_the_model_is_constant_over_time():
    """Silenced features are the same at every step: after `gelu`, and before the residual sum."""
    torch.manual_seed(0)
    config = S5Config(**TINY, vocab_size=5, num_hidden_layers=1, hidden_dropout=0.5, residual=False, norm_type="none")
    output = S5Model(config).train()(torch.randint(0, 5, (8, 30))).last_hidden_state
    silent = (output == 0).all(1)
    assert silent.any() and not silent.all()
    assert torch.equal(silent[:, None].expand_as(output), output == 0)


@pytest.mark.parametrize("prenorm", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_a_block_by_hand(prenorm, residual):
    torch.manual_seed(0)
    settings = TINY | {"vocab_size": 5, "num_hidden_layers": 1, "prenorm": prenorm, "residual": residual}
    model = S5Model(S5Config(**settings)).eval()
    block, ids = model.layers[0], torch.randint(0, 5, (2, 6))
    x = model.encoder.embed_tokens(ids) + model.encoder.token_bias
    y, _, _ = block.mixer.ssm(block.norm(x) if prenorm else x)
    y = block.mixer.activation(y) + (x if residual else 0)
    assert_close(model(ids).last_hidden_state, y if prenorm else block.norm(y))


def test_eigenvalues_are_kept_stable_if_asked():
    for settings, expected in (
        ({"clip_eigs": True}, [-1e-4, -2.0]),
        ({"clip_eigs": False}, [0.5, -2.0]),
        ({"clip_eigs": False, "force_neg": True}, [-0.5, -2.0]),
        ({"clip_eigs": True, "force_neg": True}, [-1e-4, -2.0]),
    ):
        ssm = layer(**settings)
        with torch.no_grad():
            ssm.Lambda_re[:2] = torch.tensor([0.5, -2.0])
        assert_close(ssm.eigenvalues[0][:2], torch.tensor(expected))


def test_half_equals_all_for_a_real_output_map():
    """Both sizes of the state compute the same real system; n = 7 has a real eigenvalue of weight one."""
    for settings in ({}, {"init": "lowrank", "state_size": 7, "num_blocks": 1}, {"init": "lin"}):
        half, full = layer(**settings).double(), layer(conj_sym="none", **settings).double()
        n, blocks = half.config.system_size, half.config.num_blocks
        c, b = torch.randn(4, blocks, n, dtype=torch.complex128).real, torch.randn(blocks, n, 4).double()
        for ssm in (half, full):
            system = ssm.config.initial_system()
            with torch.no_grad():
                ssm.C.copy_(torch.view_as_real((c.to(system.v.dtype) @ system.v).flatten(1)))
                ssm.B.copy_(torch.view_as_real((system.v_inverse @ b.to(system.v.dtype)).flatten(0, 1)))
                ssm.Lambda_re.copy_(system.eigenvalues.real.repeat(blocks))
                ssm.Lambda_im.copy_(system.eigenvalues.imag.repeat(blocks))
                ssm.state_weight.copy_(system.weight.repeat(blocks))
                ssm.D.zero_()
                ssm.log_step.fill_(-3.0)
        u = torch.randn(2, 40, 4, dtype=torch.float64)
        assert_close(half(u)[0], full(u)[0], atol=1e-12, rtol=1e-12)
