# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the official minimal S4D, whose forward pass is written down here from its specification."""

import torch
from torch import nn
from torch.testing import assert_close

from eigenhub.models.s4d import S4DConfig, S4DForSequenceClassification, S4DLayer, convert_official_state_dict


H, N = 6, 8


def official_layer(prefix="", seed=0):
    torch.manual_seed(seed)
    entries = {
        "D": torch.randn(H),
        "kernel.C": torch.randn(H, N // 2, 2),
        "kernel.log_dt": torch.empty(H).uniform_(-7, -2.3),
        "kernel.log_A_real": torch.randn(H, N // 2) * 0.1 - 0.7,
        "kernel.A_imag": torch.pi * torch.arange(N // 2).repeat(H, 1) + torch.rand(H, N // 2),
        "output_linear.0.weight": torch.randn(2 * H, H, 1) * 0.3,
        "output_linear.0.bias": torch.randn(2 * H),
    }
    return {prefix + name: tensor for name, tensor in entries.items()}


def official_forward(entries, u):
    """`u (batch, length, features)`: kernel with positive imaginary parts, GELU, 1 x 1 convolution, gate."""
    c = torch.view_as_complex(entries["kernel.C"].double())
    a = -entries["kernel.log_A_real"].double().exp() + 1j * entries["kernel.A_imag"].double()
    dta = a * entries["kernel.log_dt"].double().exp()[:, None]
    length = u.shape[1]
    coefficient = c * (dta.exp() - 1) / a
    kernel = 2 * torch.einsum("hn,hnl->hl", coefficient, (dta[..., None] * torch.arange(length)).exp()).real
    u = u.double().mT
    spectrum = torch.fft.rfft(kernel, n=2 * length) * torch.fft.rfft(u, n=2 * length)
    y = torch.fft.irfft(spectrum, n=2 * length)[..., :length] + entries["D"].double()[:, None] * u
    y = nn.functional.gelu(y)
    y = nn.functional.conv1d(y, entries["output_linear.0.weight"].double(), entries["output_linear.0.bias"].double())
    return nn.functional.glu(y, dim=1).mT


def test_a_layer_loads_official_names_and_computes_the_same():
    entries, u = official_layer(), torch.randn(2, 40, H)
    layer = S4DLayer(hidden_size=H, state_size=N, init="lin").eval()
    layer.load_state_dict(dict(entries))
    expected = official_forward(entries, u)
    assert_close(layer(u).double(), expected, atol=1e-4 * expected.abs().max().item(), rtol=0)
    as_complex = entries | {"kernel.C": torch.view_as_complex(entries["kernel.C"])}
    twin = S4DLayer(hidden_size=H, state_size=N, init="lin").eval()
    twin.load_state_dict(as_complex)
    assert torch.equal(twin(u), layer(u))


def test_own_names_still_load():
    layer, other = (S4DLayer(hidden_size=H, state_size=N) for _ in range(2))
    other.load_state_dict(layer.state_dict())
    u = torch.randn(1, 5, H)
    assert torch.equal(other(u), layer(u))


def test_the_example_model_loads_whole():
    torch.manual_seed(1)
    official = {"encoder.weight": torch.randn(H, 3), "encoder.bias": torch.randn(H)}
    for i in range(2):
        official |= official_layer(f"s4_layers.{i}.", seed=i)
        official |= {f"norms.{i}.weight": torch.rand(H) + 0.5, f"norms.{i}.bias": torch.randn(H)}
    official |= {"decoder.weight": torch.randn(5, H), "decoder.bias": torch.randn(5)}
    config = S4DConfig(
        input_size=3, hidden_size=H, state_size=N, num_hidden_layers=2, init="lin", prenorm=False, num_labels=5
    )
    model = S4DForSequenceClassification(config).eval()
    model.load_state_dict(convert_official_state_dict(official))
    u = torch.randn(2, 30, 3)
    x = u.double() @ official["encoder.weight"].double().T + official["encoder.bias"]
    for i in range(2):
        entries = {name.split(".", 2)[2]: t for name, t in official.items() if name.startswith(f"s4_layers.{i}.")}
        x = x + official_forward(entries, x)
        scale, shift = (official[f"norms.{i}.{name}"].double() for name in ("weight", "bias"))
        x = nn.functional.layer_norm(x, (H,), scale, shift, eps=1e-5)
    expected = x.mean(1) @ official["decoder.weight"].double().T + official["decoder.bias"]
    assert_close(model(input_values=u).logits.double(), expected, atol=1e-3, rtol=1e-3)
