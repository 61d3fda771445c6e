# SPDX-License-Identifier: Apache-2.0
"""Projectors in a trained generator: what they keep, what they change, and how they come out again."""

import pytest
import torch

from eigenhub.linalg import gram_defect
from eigenhub.models.stylegan2 import StyleGAN2Generator
from eigenhub.models.stylegan2.projectors import affine_of, projector_at
from tests.models.stylegan2.tiny import gaussian, generator


@pytest.mark.parametrize("parameterization", ["thin", "dense"])
@pytest.mark.parametrize("layers", ["upsample", "all", ["b16.conv1", "b8.conv0"]])
def test_every_chosen_affine_becomes_the_nearest_of_its_kind(parameterization, layers):
    model, before = generator(), generator()
    assert model.add_projectors(layers, rank=3, parameterization=parameterization) is model
    names = model.config.projected_names
    expected = {"upsample": 2, "all": 8}.get(layers if isinstance(layers, str) else "", 2)
    assert len(names) == expected
    for layer in model.config.style_layers:
        weight, old = affine_of(model, layer.name).effective_weight(), affine_of(before, layer.name).effective_weight()
        if layer.name not in names:
            assert torch.equal(weight, old)
            continue
        u, s, vh = torch.linalg.svd(old)
        nearest = s[:3].mean() * u[:, :3] @ vh[:3]
        torch.testing.assert_close(weight, nearest, rtol=0, atol=1e-5)
        assert torch.equal(affine_of(model, layer.name).bias, affine_of(before, layer.name).bias)


@pytest.mark.parametrize("gain", ["mean", "unit", "equalized", 0.7])
def test_folding_changes_no_image(gain, tmp_path):
    model = generator().add_projectors("all", rank=2, gain=gain)
    z = gaussian(2, 6)
    images = model(z).images
    model.save_pretrained(tmp_path / "projected")
    loaded = StyleGAN2Generator.from_pretrained(tmp_path / "projected")
    assert torch.equal(loaded(z).images, images) and loaded.config.projector_gain == gain
    assert loaded.fold_projectors() is loaded
    assert loaded.config.projector_layers is None and loaded.projector_parameters() == []
    assert loaded.state_dict().keys() == generator().state_dict().keys()
    loaded.save_pretrained(tmp_path / "folded")
    folded = StyleGAN2Generator.from_pretrained(tmp_path / "folded")
    torch.testing.assert_close(folded(z).images, images, rtol=0, atol=2e-5)


def test_full_rank_with_learned_values_changes_no_image():
    model, z = generator(), gaussian(2, 6)
    images = model(z).images
    model.add_projectors(rank=8, singular_values="learned")
    torch.testing.assert_close(model(z).images, images, rtol=0, atol=1e-4)


def test_a_rotation_of_both_frames_changes_no_image():
    model, z = generator().add_projectors(rank=4), gaussian(2, 6)
    images = model(z).images
    projector = projector_at(model, "b8.conv0")
    u, _, v = projector.factors()
    turn = torch.linalg.qr(gaussian(4, 4)).Q
    with torch.no_grad():
        projector.left.copy_(projector.map.left.right_inverse(u @ turn))
        projector.right.copy_(projector.map.right.right_inverse(v @ turn))
    assert not torch.allclose(projector.factors().right, v, atol=0.1)
    torch.testing.assert_close(model(z).images, images, rtol=0, atol=1e-5)


def test_training_the_projectors_alone_changes_nothing_else():
    model = generator().add_projectors(rank=3).train()
    parameters = model.projector_parameters()
    assert len(parameters) == 4 and all(p.shape in ((12, 3), (8, 3)) for p in parameters)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    average = [p.detach().clone() for p in parameters]
    for step in range(5):
        optimizer.zero_grad()
        model(gaussian(4, 6, seed=step)).images.square().mean().backward()
        optimizer.step()
        for mean, p in zip(average, parameters, strict=True):
            mean.lerp_(p.detach(), 0.3)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (".projector." not in name), name
    with torch.no_grad():
        for mean, p in zip(average, parameters, strict=True):
            p.copy_(mean)  # an average of vectors is one of a frame, an average of frames is none
    for name in model.config.projected_names:
        u, _, v = projector_at(model, name).factors()
        assert max(gram_defect(u).abs().max(), gram_defect(v).abs().max()) < 1e-5


def test_random_start_is_far_from_the_weight():
    models = {start: generator().add_projectors(rank=3, init=start) for start in ("nearest", "random")}
    old = affine_of(generator(), "b8.conv0").effective_weight()
    cosines = {}
    for start, model in models.items():
        weight = affine_of(model, "b8.conv0").effective_weight()
        cosines[start] = ((weight * old).sum() / (weight.norm() * old.norm())).item()
    assert cosines["nearest"] > 0.75 > 0.5 > abs(cosines["random"])


def test_a_fresh_model_starts_with_orthonormal_frames_and_a_gain():
    model = generator(projector_layers="upsample", projector_rank=3)
    weight = affine_of(model, "b8.conv0").effective_weight()
    values = torch.linalg.svdvals(weight)
    torch.testing.assert_close(values[:3], torch.full((3,), 1 + (12 / 8) ** 0.5), rtol=1e-5, atol=0)
    assert (values[3:] < 1e-5).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 9}, "layer 'b8.conv0': `rank` must be between 1 and 8 .* got 9"),
        ({"rank": 0}, "layer 'b8.conv0': `rank` must be between 1 and 8"),
        ({"layers": "conv0"}, "`projector_layers` must be 'upsample', 'all' or names among"),
        ({"layers": ["b8.conv0", "b64.conv0"]}, "`projector_layers` must be"),
        ({"rank": 2, "gain": 0.0}, "layer 'b8.conv0': `gain` must be one of"),
        ({"rank": 2, "init": "svd"}, "layer 'b8.conv0': `init` must be one of nearest, random"),
    ],
)
def test_bad_settings_leave_the_model_as_it_was(options, message):
    model = generator()
    with pytest.raises(ValueError, match=message):
        model.add_projectors(**options)
    assert model.config.projector_layers is None and model.projector_parameters() == []


def test_bad_weights_and_a_second_projection():
    model = generator()
    with torch.no_grad():
        affine_of(model, "b16.conv0").weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match="layer 'b16.conv0': `weight` has entries that are NaN or infinite"):
        model.add_projectors(rank=2)
    assert model.config.projector_layers is None
    model = generator().add_projectors(rank=2)
    with pytest.raises(ValueError, match="the model has projectors already"):
        model.add_projectors(rank=2)
    assert generator().fold_projectors().config.projector_layers is None
