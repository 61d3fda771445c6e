# SPDX-License-Identifier: Apache-2.0
"""Truncation, noise, mixing, seeds."""

import pytest
import torch

from eigenhub.models.stylegan2 import mix_styles, mixed_latents
from tests.models.stylegan2.tiny import gaussian, generator


def test_truncation_pulls_to_the_mean():
    model = generator()
    z = gaussian(2, 6)
    ws, mean = model.mapping(z), model.mapping.w_avg
    assert mean.abs().max() > 0.1
    torch.testing.assert_close(model.mapping(z, truncation_psi=0.3), mean + 0.3 * (ws - mean))
    cut = model.mapping(z, truncation_psi=0.3, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, :2], mean + 0.3 * (ws[:, :2] - mean))
    assert torch.equal(cut[:, 2:], ws[:, 2:])
    at_mean = model(z, truncation_psi=0.0).images
    torch.testing.assert_close(at_mean[0], at_mean[1])
    output = model(ws=ws, truncation_psi=0.3)
    torch.testing.assert_close(output.images, model(z, truncation_psi=0.3).images, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.ws, mean + 0.3 * (ws - mean))


def test_running_mean_moves_only_when_asked():
    model = generator().train()
    before = model.mapping.w_avg.clone()
    w = model.mapping(gaussian(5, 6))[:, 0]
    assert torch.equal(model.mapping.w_avg, before)
    model.mapping(gaussian(5, 6), update_w_avg=True)
    torch.testing.assert_close(model.mapping.w_avg, 0.995 * before + 0.005 * w.mean(0))


def test_noise():
    model = generator()
    z = gaussian(2, 6)
    const, none = model(z).images, model(z, noise_mode="none").images
    assert torch.equal(model(z).images, const) and not torch.equal(none, const)
    draws = [model(z, noise_mode="random", generator=torch.Generator().manual_seed(s)).images for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    layers = {name: m for name, m in model.synthesis.named_modules() if hasattr(m, "noise_const")}
    assert torch.equal(model(z, noise_mode="none", noise={n: m.noise_const for n, m in layers.items()}).images, const)
    given = {"b8.conv1": gaussian(2, 1, 8, 8)}
    changed = model(z, noise=given).images
    assert not torch.equal(changed, const)
    torch.testing.assert_close(changed[:1], model(z[:1], noise={"b8.conv1": given["b8.conv1"][:1]}).images)


def test_samples_follow_their_seed_and_not_their_batch():
    model = generator()
    images = model.sample(5, seed=3, truncation_psi=0.7)
    torch.testing.assert_close(images, model.sample(5, seed=3, truncation_psi=0.7, batch_size=2), rtol=0, atol=1e-5)
    torch.testing.assert_close(images[:2], model.sample(2, seed=3, truncation_psi=0.7), rtol=0, atol=1e-5)
    assert not torch.equal(images, model.sample(5, seed=4, truncation_psi=0.7))
    noisy = [model.sample(2, seed=3, noise_mode="random") for _ in range(2)]
    assert torch.equal(*noisy)
    conditional = generator(c_dim=2)
    classes = [conditional.sample(3, c=torch.eye(2)[k : k + 1]) for k in range(2)]
    assert not torch.equal(*classes)
    mixed = conditional.sample(3, c=torch.eye(2)[torch.tensor([0, 1, 0])], batch_size=2)
    torch.testing.assert_close(mixed, torch.stack([classes[0][0], classes[1][1], classes[0][2]]), rtol=0, atol=1e-5)


def test_hidden_states_are_features_of_the_blocks():
    model = generator()
    states = model(gaussian(2, 6), output_hidden_states=True).hidden_states
    assert [tuple(s.shape) for s in states] == [(2, 12, 4, 4), (2, 12, 8, 8), (2, 8, 16, 16)]


def test_style_mixing():
    model = generator()
    coarse, fine = (model.mapping(gaussian(2, 6, seed=s)) for s in (0, 1))
    mixed = mix_styles(coarse, fine, 2)
    assert torch.equal(mixed[:, :2], coarse[:, :2]) and torch.equal(mixed[:, 2:], fine[:, 2:])
    assert torch.equal(mix_styles(coarse, fine, 6), coarse) and torch.equal(mix_styles(coarse, fine, 0), fine)
    assert torch.equal(mix_styles(coarse[:1], fine, 2)[:, :2], coarse[:1, :2].expand(2, -1, -1))
    for cutoff in (-1, 7):
        with pytest.raises(ValueError, match=f"`cutoff` must be between 0 and 6, got {cutoff}"):
            mix_styles(coarse, fine, cutoff)
    with pytest.raises(ValueError, match="must be alike"):
        mix_styles(coarse, fine[:, :3], 2)


def test_mixing_in_training_happens_as_often_as_asked():
    model = generator()
    z = gaussian(2, 6)
    plain = model.mapping(z)
    assert torch.equal(mixed_latents(model, z, probability=0.0), plain)
    draws = torch.Generator().manual_seed(0)
    kept = []
    for _ in range(200):
        ws = mixed_latents(model, z, probability=0.5, generator=draws)
        same = (ws == plain).flatten(2).all(-1)
        assert same[:, 0].all() and torch.equal(same[0], same[1]) and (same[0].int().diff() <= 0).all()
        kept.append(int(same[0].sum()))
    assert 60 < sum(k == 6 for k in kept) < 140 and {1, 2, 3, 4, 5, 6} == set(kept)
    with pytest.raises(ValueError, match="`probability` must be between 0 and 1, got 1.5"):
        mixed_latents(model, z, probability=1.5)
