# SPDX-License-Identifier: Apache-2.0
"""The generator and discriminator of rosinality's layout once more, in float64, from the tensors of a checkpoint as they are."""

import math

import torch
from torch.nn import functional as F

from tests.models.stylegan2.reference import deviation, double, lrelu, unit


def smoothed(x, kernel, pad):
    x = F.pad(x, (*pad, *pad))
    return F.conv2d(x.flatten(0, 1)[:, None], kernel.flip(0, 1)[None, None]).unflatten(0, x.shape[:2])[:, :, 0]


def linear(t, name, x, lr=1.0):
    return x @ (t[f"{name}.weight"] * (lr / math.sqrt(x.shape[1]))).T + t[f"{name}.bias"] * lr


def styled(t, name, x, w, up=False, demodulate=True):
    if f"{name}.conv.modulation.U" in t:
        s = w @ t[f"{name}.conv.modulation.A"].T + t[f"{name}.conv.modulation.bias"]
    else:
        s = linear(t, f"{name}.conv.modulation", w)
    weight = t[f"{name}.conv.weight"]
    k, fan = weight.shape[-1], weight[0, 0].numel()
    weight = weight * s[:, None, :, None, None] / math.sqrt(fan)
    if demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    rows = []
    for one, kernel in zip(x, weight, strict=True):
        if up:
            wide = F.conv_transpose2d(one[None], kernel.transpose(0, 1), stride=2)
            rows.append(smoothed(wide, t[f"{name}.conv.blur.kernel"], (1, 1)))
        else:
            rows.append(F.conv2d(one[None], kernel, padding=k // 2))
    return torch.cat(rows)


def generated(t, z):
    """Images with the stored noise."""
    t, w = double(t), unit(z.double())
    i = 1
    while f"style.{i}.weight" in t:
        w = lrelu(linear(t, f"style.{i}", w, 0.01))
        i += 1
    x = t["input.input"].expand(len(w), -1, -1, -1)
    image = None
    layers = [("conv1", False, 0, "to_rgb1")]
    i = 0
    while f"to_rgbs.{i}.bias" in t:
        layers += [(f"convs.{2 * i}", True, 2 * i + 1, None), (f"convs.{2 * i + 1}", False, 2 * i + 2, f"to_rgbs.{i}")]
        i += 1
    for name, up, noise, to_image in layers:
        x = styled(t, name, x, w, up) + t[f"{name}.noise.weight"] * t[f"noises.noise_{noise}"]
        x = lrelu(x + t[f"{name}.activate.bias"][None, :, None, None])
        if to_image is not None:
            added = styled(t, to_image, x, w, demodulate=False) + t[f"{to_image}.bias"]
            if image is not None:
                wide = torch.zeros(*image.shape[:2], *added.shape[2:], dtype=image.dtype)
                wide[:, :, ::2, ::2] = image
                added = added + smoothed(wide, t[f"{to_image}.upsample.kernel"], (2, 1))
            image = added
    return image


def scored(t, x):
    """Logits."""
    t, x = double(t), x.double()

    def conv(weight, bias, x, stride=1, padding=0):
        w = t[f"{weight}.weight"]
        x = F.conv2d(x, w / math.sqrt(w[0].numel()), stride=stride, padding=padding)
        return x if bias is None else lrelu(x + t[f"{bias}.bias"][None, :, None, None])

    x = conv("convs.0.0", "convs.0.1", x)
    i = 1
    while f"convs.{i}.skip.1.weight" in t:
        name = f"convs.{i}"
        y = conv(f"{name}.conv1.0", f"{name}.conv1.1", x, padding=1)
        y = conv(f"{name}.conv2.1", f"{name}.conv2.2", smoothed(y, t[f"{name}.conv2.0.kernel"], (2, 2)), stride=2)
        skip = conv(f"{name}.skip.1", None, smoothed(x, t[f"{name}.skip.0.kernel"], (1, 1)), stride=2)
        x, i = (y + skip) / math.sqrt(2), i + 1
    x = conv("final_conv.0", "final_conv.1", torch.cat([x, deviation(x, 4)], 1), padding=1)
    return linear(t, "final_linear.1", lrelu(linear(t, "final_linear.0", x.flatten(1))))
