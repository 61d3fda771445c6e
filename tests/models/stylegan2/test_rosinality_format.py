# SPDX-License-Identifier: Apache-2.0
"""rosinality's checkpoints and those of the official Householder GAN, both ways."""

import argparse

import pytest
import torch

from eigenhub.linalg.householder import householder_product_reference
from eigenhub.models.stylegan2 import (
    StyleGAN2Config,
    StyleGAN2Networks,
    load_checkpoint,
    load_rosinality,
    save_rosinality,
)
from eigenhub.models.stylegan2.format_loading import infer_channels
from eigenhub.models.stylegan2.projectors import affine_of
from eigenhub.models.stylegan2.rosinality_format import (
    discriminator_filters,
    discriminator_pairs,
    generator_filters,
    generator_pairs,
    rosinality_state_dict,
)
from eigenhub.models.stylegan2.style_layers import num_channels, resolutions
from tests.common.model_case import assert_equal_tensors
from tests.models.stylegan2 import reference_rosinality
from tests.models.stylegan2.tiny import discriminator, gaussian, generator


RGB32 = {"z_dim": 8, "img_resolution": 32, "channel_base": 256}


def checkpoint(folder, **entries):
    """A file as `train.py` writes it, arguments and states of optimizers included."""
    path = folder / "model.pt"
    torch.save(entries | {"args": argparse.Namespace(size=32, channel_multiplier=2), "g_optim": {"state": {}}}, path)
    return path


def test_every_tensor_of_a_checkpoint_arrives_and_leaves_again(tmp_path):
    models = {"g": generator(0, **RGB32), "g_ema": generator(1, **RGB32), "d": discriminator(2, **RGB32)}
    states = {key: rosinality_state_dict(model) for key, model in models.items()}
    path = checkpoint(tmp_path, **states, latent_avg=models["g_ema"].mapping.w_avg)
    networks = load_rosinality(path)
    with torch.no_grad():
        models["g"].mapping.w_avg.copy_(models["g_ema"].mapping.w_avg)  # the file has one
    for key, name in {"g": "generator", "g_ema": "generator_ema", "d": "discriminator"}.items():
        assert_equal_tensors(getattr(networks, name), models[key])
    save_rosinality(networks, tmp_path / "back" / "model.pt")
    back = torch.load(tmp_path / "back" / "model.pt", weights_only=True)
    assert back.keys() == {"g", "g_ema", "d", "latent_avg"}
    for key, state in states.items():
        assert back[key].keys() == state.keys()
        assert all(
            torch.equal(back[key][name], tensor) and back[key][name].shape == tensor.shape
            for name, tensor in state.items()
        )


@pytest.mark.parametrize("size", [32, 64])
def test_both_layouts_compute_the_same(size):
    variant = RGB32 | {"img_resolution": size, "channel_base": 8 * size}
    model, judge = generator(**variant), discriminator(**variant)
    z = gaussian(4, 8)
    images = model(z).images
    expected = reference_rosinality.generated(rosinality_state_dict(model), z)
    torch.testing.assert_close(images.double(), expected, rtol=0, atol=3e-5)
    scores = reference_rosinality.scored(rosinality_state_dict(judge), images.detach())
    torch.testing.assert_close(judge(images).logits.double(), scores, rtol=0, atol=1e-4)


NAMES = """input.input conv1.conv.weight conv1.conv.modulation.weight conv1.conv.modulation.bias conv1.activate.bias
conv1.noise.weight noises.noise_0 to_rgb1.bias to_rgb1.conv.weight to_rgb1.conv.modulation.weight
to_rgb1.conv.modulation.bias""".split()


@pytest.mark.parametrize("size", [32, 256, 1024])
@pytest.mark.parametrize("channel_base", [16384, 32768])
@pytest.mark.parametrize("mapping_layers", [2, 8])
def test_names_shapes_and_sizes_of_published_models(size, channel_base, mapping_layers):
    """The entries of rosinality's `Generator(size, 512, n_mlp)` and `Discriminator(size)`, counted from its constructors."""
    config = StyleGAN2Config(img_resolution=size, channel_base=channel_base, mapping_layers=mapping_layers)
    levels = size.bit_length() - 3
    pairs = [pair.theirs for pair in generator_pairs(config)]
    assert len(pairs) == len(set(pairs)) == 11 + 2 * mapping_layers + levels * (2 * 6 + 4)
    assert set(NAMES) <= set(pairs)
    assert f"noises.noise_{2 * levels}" in pairs and f"to_rgbs.{levels - 1}.bias" in pairs
    assert f"convs.{2 * levels - 1}.conv.weight" in pairs and f"style.{mapping_layers}.bias" in pairs
    assert len(generator_filters(config)) == 2 * levels
    theirs = [pair.theirs for pair in discriminator_pairs(config)]
    assert len(theirs) == len(set(theirs)) == 2 + 5 * levels + 2 + 4
    assert len(discriminator_filters(config)) == 2 * levels and f"convs.{levels}.conv2.1.weight" in theirs
    channels = {r: num_channels(r, channel_base, 512) for r in resolutions(size)}
    inferred = infer_channels(channels)
    assert {r: num_channels(r, **inferred) for r in channels} == channels
    if size > 32:
        assert inferred == {"channel_base": channel_base, "channel_max": 512}


def test_a_missing_mean_is_computed(tmp_path):
    model = generator(**RGB32)
    networks = load_rosinality(checkpoint(tmp_path, g_ema=rosinality_state_dict(model)))
    mean = model.mapping(gaussian(20000, 8))[:, 0].mean(0)
    found = networks.generator_ema.mapping.w_avg
    spread = model.mapping(gaussian(1000, 8))[:, 0].std(0)
    assert ((found - mean).abs() < 6 * spread / 4096**0.5 + 1e-4).all()
    wrapped = {f"module.{name}": tensor for name, tensor in rosinality_state_dict(model).items()}
    again = load_rosinality(checkpoint(tmp_path, g_ema=wrapped))
    assert_equal_tensors(again.generator_ema, networks.generator_ema)


def official(model, rank, seed=0):
    """The entries of a projected checkpoint: square vectors in place of the weights of upsampling convolutions."""
    state = rosinality_state_dict(model)
    draws = torch.Generator().manual_seed(seed)
    for i in range(len([name for name in state if name.startswith("to_rgbs.") and name.endswith("conv.weight")])):
        name = f"convs.{2 * i}.conv.modulation"
        d_out, d_in = state.pop(f"{name}.weight").shape
        state[f"{name}.U"] = 0.05 * torch.randn(d_out, d_out, generator=draws)
        state[f"{name}.V"] = 0.05 * torch.randn(d_in, d_in, generator=draws)
    return state


def with_weights(state, rank):
    """The product that published checkpoints were made with, from the definition."""
    state = dict(state)
    for name in [name for name in state if name.endswith(".U")]:
        u, v = state[name], state[name.removesuffix("U") + "V"]
        s = torch.zeros(len(u), len(v), dtype=torch.float64)
        s[range(rank), range(rank)] = 1
        state[name.removesuffix("U") + "A"] = householder_product_reference(u) @ s @ householder_product_reference(v)
    return state


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("channel_base", [64, 256])  # layers that narrow and layers that widen
def test_official_projectors(rank, channel_base, tmp_path):
    model = generator(**(RGB32 | {"channel_base": channel_base}))
    state = official(model, rank)
    path = checkpoint(tmp_path, g_ema=state, latent_avg=torch.zeros(8))
    loaded = load_checkpoint(path, "householder", rank=rank).generator_ema
    assert loaded.config.projector_layers == ["b8.conv0", "b16.conv0", "b32.conv0"]
    assert (loaded.config.projector_rank, loaded.config.projector_gain) == (rank, "unit")
    expected = with_weights(state, rank)
    weight = affine_of(loaded, "b16.conv0").effective_weight()
    torch.testing.assert_close(weight.double(), expected["convs.2.conv.modulation.A"], rtol=0, atol=1e-5)
    z = gaussian(3, 8)
    images = reference_rosinality.generated(expected, z)
    torch.testing.assert_close(loaded(z).images.double(), images, rtol=0, atol=3e-5)

    loaded.save_pretrained(tmp_path / "out")
    again = StyleGAN2Networks.from_pretrained(tmp_path / "out").generator_ema
    assert torch.equal(again(z).images, loaded(z).images)
    save_rosinality(StyleGAN2Networks(again), tmp_path / "folded.pt")
    folded = load_checkpoint(tmp_path / "folded.pt")
    torch.testing.assert_close(folded.generator_ema(z).images, loaded(z).images, rtol=0, atol=2e-5)


def changed(**changes):
    state = rosinality_state_dict(generator(**RGB32))
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    return {"g_ema": state}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model": {}}, r"must hold one of g_ema, g, d, got the keys \['args', 'g_optim', 'model'\]"),
        (changed(conv1__activate__bias=None), "must have a tensor 'conv1.activate.bias', got NoneType"),
        (changed(extra__weight=torch.ones(2)), "entries that StyleGAN2 does not know: extra.weight"),
        (changed(to_rgbs__1__bias=None), r"without a gap, got \[0, 2\]"),
        (changed(style__2__weight=None), "StyleGAN2 does not know: style.2.bias"),
        (changed(convs__2__conv__weight=torch.ones(1, 7, 12, 3, 3)), "channels must be min"),
        (changed(conv1__noise__weight=torch.ones(2)), r"`conv1.noise.weight` must have the form \(1,\), got \(2,\)"),
        (changed(to_rgbs__0__upsample__kernel=torch.ones(4, 4)), "`to_rgbs.0.upsample.kernel` must be the filter"),
        (changed(conv1__conv__weight=torch.ones(1, 12, 12, 1, 1)), "must have shape"),
        ({"d": {"convs.0.0.weight": torch.ones(3, 3, 1, 1)}}, "must have entries"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(entries, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_rosinality(checkpoint(tmp_path, **entries))


class Trap:
    def __reduce__(self):
        return eval, ("1 + 1",)


def test_files_that_run_code_or_are_none(tmp_path):
    torch.save({"g_ema": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "trap.pt").read_bytes()[:200])
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("trap.pt", "half.pt", "text.pt"):
        with pytest.raises(ValueError, match="is no checkpoint that can be read safely"):
            load_rosinality(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="must hold a dictionary, got list"):
        load_rosinality(tmp_path / "list.pt")
    with pytest.raises(ValueError, match="`rank` must be at least 1, got 0"):
        load_checkpoint(tmp_path / "list.pt", rank=0)
    with pytest.raises(ValueError, match="`source` must be one of auto, nvidia"):
        load_checkpoint(tmp_path / "list.pt", source="tensorflow")
    plain = checkpoint(tmp_path, g_ema=rosinality_state_dict(generator(**RGB32)))
    with pytest.raises(ValueError, match="has no projectors"):
        load_checkpoint(plain, "householder")
    projected = checkpoint(tmp_path, g_ema=official(generator(**RGB32), 3))
    with pytest.raises(ValueError, match="`projector_rank` must be between 1 and 8 for layer 'b8.conv0', got 10"):
        load_checkpoint(projected)


def test_the_older_form_of_torch_files_is_told_from_a_pickle(tmp_path):
    model = generator(**RGB32)
    torch.save({"g_ema": rosinality_state_dict(model)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    loaded = load_checkpoint(tmp_path / "old.pt").generator_ema
    z = gaussian(2, 8)
    assert torch.equal(loaded(z).images, model(z).images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"c_dim": 2}, "needs `c_dim` = 0, got 2"),
        ({"img_channels": 1}, "needs `img_channels` = 3, got 1"),
        ({"z_dim": 5}, "needs `z_dim` = 8, got 5"),
        ({"mapping_lr_multiplier": 1.0}, "needs `mapping_lr_multiplier` = 0.01, got 1.0"),
    ],
)
def test_what_the_layout_cannot_hold(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_rosinality(StyleGAN2Networks(generator(**(RGB32 | settings))), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="`networks` must hold at least one network"):
        save_rosinality(StyleGAN2Networks(), tmp_path / "x.pt")
    with pytest.warns(UserWarning, match="does not know `conv_clamp` = 256"):
        save_rosinality(StyleGAN2Networks(generator(**RGB32, conv_clamp=256)), tmp_path / "x.pt")
