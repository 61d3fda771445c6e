# SPDX-License-Identifier: Apache-2.0
"""Every number of both networks against the definition in float64, and the parts of it."""

import pytest
import torch

from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator
from eigenhub.models.stylegan2.discriminator_blocks import minibatch_deviation
from eigenhub.models.stylegan2.equalized import compute_dtype
from eigenhub.models.stylegan2.modulated_conv import modulated_conv2d, modulated_conv2d_reference
from eigenhub.models.stylegan2.resample import separable_filter, upfirdn2d
from tests.models.stylegan2 import reference
from tests.models.stylegan2.tiny import discriminator, gaussian, generator


VARIANTS = [
    {},
    {"conv_clamp": 0.7},
    {"c_dim": 4},
    {"img_channels": 1, "img_resolution": 32, "channel_base": 256},
    {"img_resolution": 8, "channel_max": 5},
]


def condition(model, batch):
    return torch.eye(model.config.c_dim)[torch.arange(batch) % model.config.c_dim] if model.config.c_dim else None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("batch", [1, 3])
def test_generator_is_its_definition(variant, batch):
    model = generator(**variant)
    z, c = gaussian(batch, 6), condition(model, batch)
    tensors = dict(model.state_dict())
    w = reference.mapped(reference.double(tensors), z.double(), None if c is None else c.double(), 2)
    ws = model.mapping(z, c)
    torch.testing.assert_close(ws, w.float()[:, None].expand_as(ws), rtol=0, atol=1e-5)
    for mode in ("const", "none"):
        expected = reference.synthesized(tensors, ws.detach(), clamp=model.config.conv_clamp, noise=mode == "const")
        images = model(ws=ws, noise_mode=mode).images
        torch.testing.assert_close(images.double(), expected, rtol=0, atol=2e-5)
        exact = model.double()(ws=ws.double(), noise_mode=mode).images
        torch.testing.assert_close(exact, expected, rtol=0, atol=1e-11)
        model.float()


@pytest.mark.parametrize(
    "variant", [*VARIANTS, {"mbstd_group_size": 2}, {"c_dim": 4, "cmap_dim": 3, "cmap_layers": 3}]
)
@pytest.mark.parametrize("batch", [1, 4])
def test_discriminator_is_its_definition(variant, batch):
    model = discriminator(**variant)
    config = model.config
    images = gaussian(batch, config.img_channels, config.img_resolution, config.img_resolution)
    c = condition(model, batch)
    settings = {"clamp": config.conv_clamp, "group": config.mbstd_group_size, "mapping_layers": config.cmap_layers}
    expected = reference.judged(dict(model.state_dict()), images, c, **settings)
    torch.testing.assert_close(model(images, c).logits.double(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("size", "generator_size", "discriminator_size"),
    [(256, 30.03, 28.86), (512, 30.28, 28.98), (1024, 30.37, 29.01)],
)
def test_published_sizes(size, generator_size, discriminator_size):
    """Millions of parameters of the published models."""
    config = StyleGAN2Config(img_resolution=size)
    with torch.device("meta"):
        pair = StyleGAN2Generator(config), StyleGAN2Discriminator(config)
    counts = [sum(p.numel() for p in model.parameters()) / 1e6 for model in pair]
    assert counts == pytest.approx([generator_size, discriminator_size], abs=0.005)
    assert config.num_ws == 2 * size.bit_length() - 4


@pytest.mark.parametrize("size", [32, 64, 128])
def test_small_sizes_run(size):
    config = StyleGAN2Config(img_resolution=size, channel_base=4 * size, channel_max=8, z_dim=8, w_dim=8)
    images = StyleGAN2Generator(config).sample(2)
    assert images.shape == (2, 3, size, size)
    assert StyleGAN2Discriminator(config)(images).logits.shape == (2, 1)


# ---------------------------------------------------------------- parts
@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1), (3, 3), (-1, 2), (-2, -1)])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 4)])
def test_resampling_is_the_sum_over_taps(up, down, padding, taps):
    x = gaussian(2, 3, 7, 7, dtype=torch.float64)
    before, after = padding
    expected = reference.filtered(x, taps, up, down, before, after, gain=2.5)
    kernel = separable_filter(taps).double()
    found = upfirdn2d(x, kernel, up, down, padding, gain=2.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    shifted = upfirdn2d(x, kernel, up, down, padding, bias=torch.arange(3.0).double())
    torch.testing.assert_close(shifted, found / 2.5 + torch.arange(3.0).double()[:, None, None], rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", [(1, 1), (2, 1), (-1, 0)])
@pytest.mark.parametrize("up", [1, 2])
def test_derivatives_of_a_filter(up, padding):
    """Backwards twice, forwards, and over a batch of batches: the filter has derivatives of its own."""
    x, bias = gaussian(2, 2, 5, 5, dtype=torch.float64).requires_grad_(), gaussian(2, dtype=torch.float64)
    kernel = torch.tensor(
        [[1.0, 3, 2, 1], [2, 1, 0, 1], [1, 1, 1, 4], [0, 2, 1, 1]]
    ).double()  # no symmetry to hide behind

    def filtered(x, bias):
        return upfirdn2d(x, kernel, up, padding=padding, gain=2.0, bias=bias)

    leaves = (x, bias.requires_grad_())
    assert torch.autograd.gradcheck(filtered, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(filtered, leaves)
    many = gaussian(3, 2, 2, 5, 5, seed=1, dtype=torch.float64)
    together = torch.func.vmap(filtered, (0, None))(many, bias)
    torch.testing.assert_close(together, torch.stack([filtered(one, bias) for one in many]))


def test_a_constant_keeps_its_brightness():
    kernel = separable_filter((1, 3, 3, 1))
    torch.testing.assert_close(kernel, torch.outer(*[torch.tensor([1.0, 3, 3, 1])] * 2) / 64)
    x = torch.ones(1, 1, 8, 8)
    inside = upfirdn2d(x, kernel, up=2, padding=(2, 1), gain=4.0)[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.ones_like(inside))


@pytest.mark.parametrize("side", [5, 24])  # of the second, one sample scales the weights
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_in_both_forms(side, batch, up):
    x, weight = gaussian(batch, 4, side, side).requires_grad_(), gaussian(5, 4, 3, 3, seed=1).requires_grad_()
    styles, bias = (1 + gaussian(batch, 4, seed=2)).requires_grad_(), gaussian(5, seed=3)
    kernel = separable_filter((1, 3, 3, 1)) if up else None
    leaves = (x, weight, styles)
    found = modulated_conv2d(x, weight, styles, kernel, bias, 1.4)
    expected = modulated_conv2d_reference(x, weight, styles, kernel, bias, 1.4)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)
    target = gaussian(*found.shape, seed=4)
    ours = torch.autograd.grad((found * target).sum(), leaves)
    theirs = torch.autograd.grad((expected * target).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_second_derivatives(up, batch):
    kernel = separable_filter((1, 3, 3, 1)).double() if up else None
    x, weight = gaussian(batch, 2, 5, 5, dtype=torch.float64), gaussian(1, 2, 3, 3, seed=1, dtype=torch.float64)
    styles = 1 + gaussian(batch, 2, seed=2, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (x, weight, styles)]
    assert torch.autograd.gradgradcheck(lambda *t: modulated_conv2d(*t, kernel), leaves)


def test_demodulation_is_blind_to_the_scale_of_a_style():
    x, weight, styles = gaussian(2, 4, 5, 5), gaussian(5, 4, 3, 3, seed=1), 1 + gaussian(2, 4, seed=2)
    found = modulated_conv2d(x, weight, 100 * styles)
    torch.testing.assert_close(found, modulated_conv2d(x, weight, styles), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_float16_does_not_overflow(batch):
    """Weights and styles beyond the range of float16 are normalised first."""
    x, weight = gaussian(batch, 64, 8, 8), gaussian(4, 64, 3, 3, seed=1)
    styles = 3e4 * (1 + gaussian(batch, 64, seed=2).abs())
    expected = modulated_conv2d_reference(x, weight, styles)
    found = modulated_conv2d(x.half(), 1e3 * weight, styles)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize(("group", "channels", "batch"), [(4, 1, 8), (4, 1, 3), (2, 2, 6), (1, 1, 3)])
def test_comparison_of_samples(group, channels, batch):
    x = gaussian(batch, 6, 3, 3, dtype=torch.float64)
    found = minibatch_deviation(x, group, channels)
    torch.testing.assert_close(found, reference.deviation(x, group, channels), rtol=0, atol=1e-12)


def test_halves_are_for_accelerators():
    weight = torch.zeros(1)
    assert compute_dtype(weight, use_fp16=True) == compute_dtype(weight.half()) == torch.float32
    assert compute_dtype(weight.double()) == torch.float64
    meta = weight.to("meta")
    assert compute_dtype(meta, use_fp16=True) == compute_dtype(meta.half()) == torch.float16
    assert compute_dtype(meta) == torch.float32
    blocks = generator(num_fp16_res=1).synthesis.blocks
    assert [block.use_fp16 for block in blocks] == [False, False, True]


# ---------------------------------------------------------------- penalties
def test_r1_and_path_length_by_finite_differences():
    """What training differentiates twice: the squared gradient of D at images, and the length of the Jacobian of G."""
    judge = discriminator(mbstd_channels=0, img_resolution=8, channel_max=3).double()
    images = gaussian(2, 3, 8, 8, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(images).logits.sum(), images, create_graph=True)
    v = gaussian(2, 3, 8, 8, seed=1, dtype=torch.float64)
    with torch.no_grad():
        slope = (judge(images + 1e-6 * v).logits.sum() - judge(images - 1e-6 * v).logits.sum()) / 2e-6
    torch.testing.assert_close((gradient * v).sum(), slope, rtol=1e-5, atol=1e-8)
    gradient.square().sum().backward()
    _check_second(judge, lambda: _r1(judge, images), judge.b8.conv0.weight)

    model = generator(img_resolution=8, channel_max=3).double()
    ws = model.mapping(gaussian(2, 6)).detach().double().requires_grad_()
    noise = gaussian(2, 3, 8, 8, seed=2, dtype=torch.float64) / 8
    model.zero_grad()
    _path_length(model, ws, noise).backward()
    _check_second(model, lambda: _path_length(model, ws, noise), model.synthesis.b8.conv0.weight)


def _r1(judge, images):
    (gradient,) = torch.autograd.grad(judge(images).logits.sum(), images, create_graph=True)
    return gradient.square().sum()


def _path_length(model, ws, noise):
    (gradient,) = torch.autograd.grad((model(ws=ws).images * noise).sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt().sum()


def _check_second(model, penalty, weight):
    analytic = weight.grad.flatten()[3].item()
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight.view(-1)[3] += step
        values.append(penalty().item())
        with torch.no_grad():
            weight.view(-1)[3] -= step
    assert analytic == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3, abs=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, d: g(), "give either `z` or `ws`, got neither"),
        (lambda g, d: g(gaussian(1, 6), ws=gaussian(1, 6, 8)), "not both"),
        (lambda g, d: g(gaussian(1, 5)), r"`z` must have shape \(batch, 6\), got \(1, 5\)"),
        (lambda g, d: g(gaussian(1, 6), c=gaussian(1, 2)), "`c` was given to a model without conditions"),
        (lambda g, d: g(ws=gaussian(1, 5, 8)), r"`ws` must have shape \(batch, 6, 8\), got \(1, 5, 8\)"),
        (lambda g, d: g(gaussian(1, 6), noise_mode="fixed"), "`noise_mode` must be one of const, random, none"),
        (lambda g, d: g(gaussian(1, 6), noise={"b4.conv0": gaussian(4, 4)}), "`noise` must name layers among"),
        (lambda g, d: g(gaussian(1, 6), noise={"b8.conv0": gaussian(4, 4)}), r"must have shape \(1 or 1, 1, 8, 8\)"),
        (lambda g, d: g(gaussian(1, 6), style_edits={"b32.conv0": gaussian(4)}), "`style_edits` must name layers"),
        (lambda g, d: g(gaussian(1, 6), style_edits={"b8.conv0": gaussian(4)}), r"must have shape \(12,\)"),
        (lambda g, d: g.sample(1, batch_size=0), "`batch_size` must be at least 1, got 0"),
        (lambda g, d: g.latents(-1), "`n` must not be negative, got -1"),
        (lambda g, d: d(gaussian(2, 3, 8, 8)), r"`pixel_values` must have shape \(batch, 3, 16, 16\)"),
        (lambda g, d: d(gaussian(2, 3, 16, 16), gaussian(2, 1)), "`c` was given to a model without conditions"),
        (lambda g, d: d(gaussian(6, 3, 16, 16)), "batch must be divisible by `mbstd_group_size` = 4 .* got 6"),
        (lambda g, d: generator(c_dim=2)(gaussian(1, 6)), r"`c` must have shape \(1, 2\), got None"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(generator(), discriminator())
