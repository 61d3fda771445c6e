# SPDX-License-Identifier: Apache-2.0
"""The test noise: its wave, where it enters, that it is off otherwise, and that it tells initialisations apart."""

import pytest
import torch

from eigenhub.linalg.hippo import gain_peaks
from eigenhub.models.s4d import S4DConfig, S4DModel
from eigenhub.models.s5_ptd import FourierNoise
from tests.models.state_space.cases import backbone, random_tokens


def test_the_wave():
    noise = FourierNoise(amplitude=0.5, frequency=3.0)
    steps = torch.tensor([0.1, 0.2])
    found = noise(torch.zeros(4, 50, 2), steps)
    height = found[:, :1]
    assert ((height >= 0) & (height <= 0.5)).all() and len(height.unique()) == 8
    expected = height * torch.cos(3.0 * steps * torch.arange(50)[:, None])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.equal(noise(torch.zeros(4, 50, 2), steps), found)
    noise.reset()
    assert torch.equal(noise(torch.zeros(4, 50, 2), steps), found)


@pytest.mark.parametrize("family", ["s5", "s4d"])
def test_it_enters_every_layer_and_leaves_nothing_behind(family):
    model, ids = backbone(family), random_tokens(2, 9)
    seen = []
    handles = [layer.mixer.register_forward_hook(lambda m, args, out: seen.append(args[0])) for layer in model.layers]
    clean = model(ids).last_hidden_state
    inputs = list(seen)
    with FourierNoise(amplitude=0.3).applied_to(model):
        noisy = model(ids).last_hidden_state
    assert (seen[2] - inputs[0]).abs().max() > 0.01 and not torch.equal(seen[3], inputs[1])
    assert not torch.equal(noisy, clean)
    with FourierNoise(amplitude=0.3).applied_to(model):
        assert torch.equal(model(ids).last_hidden_state, noisy)
    with FourierNoise(amplitude=0.0).applied_to(model):
        assert torch.equal(model(ids).last_hidden_state, clean)
    with pytest.raises(KeyError), FourierNoise().applied_to(model):
        raise KeyError
    assert torch.equal(model(ids).last_hidden_state, clean)
    for handle in handles:
        handle.remove()


def test_what_it_is_for():
    """At the frequency of the highest peak the diagonal start rings, the perturbed ones stay with exact HiPPO's gain."""
    frequency = gain_peaks(32)[0][0].item()
    swing = {}
    for init in ("legs", "ptd", "lowrank"):
        torch.manual_seed(0)
        settings = {"input_size": 1, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 32, "init": init}
        model = S4DModel(S4DConfig(**settings, dt_min=0.003, dt_max=0.003)).eval()
        ssm = model.layers[0].mixer.layer.ssm
        steps = ssm.step_sizes.detach()
        u = FourierNoise(1.0, frequency)(torch.zeros(2, 2000, 16), steps)
        swing[init] = (ssm(u)[0] - ssm.D * u)[:, 1000:].abs().mean().item()
    assert swing["legs"] > 100 * max(swing["ptd"], swing["lowrank"])


def test_bad_settings_are_named():
    for keywords, message in (
        ({"amplitude": -0.1}, "`amplitude` must be finite and not negative, got -0.1"),
        ({"frequency": float("inf")}, "`frequency` must be finite and not negative, got inf"),
    ):
        with pytest.raises(ValueError, match=message):
            FourierNoise(**keywords)
    with (
        pytest.raises(ValueError, match="`model` must hold state space layers, got Linear"),
        FourierNoise().applied_to(torch.nn.Linear(2, 2)),
    ):
        pass
