# SPDX-License-Identifier: Apache-2.0
"""StyleGAN2 written down once more, straight from its definition, in float64: one grouped convolution per layer, loops for
filters, nothing shared with the package. Reads the names of stylegan2-ada-pytorch.
"""

import math

import torch
from torch.nn import functional as F


def double(tensors):
    return {name: t.double() for name, t in tensors.items()}


def filtered(x, taps, up=1, down=1, before=0, after=0, gain=1.0):
    """Zero insertion, margin, true convolution, every `down`-th pixel: by explicit sums over the taps."""
    f = torch.tensor(taps, dtype=torch.float64)
    f = torch.outer(f, f) / f.sum() ** 2 * gain
    n, c, h, w = x.shape
    y = x.new_zeros(n, c, h * up, w * up)
    y[:, :, ::up, ::up] = x
    full = y.new_zeros(n, c, h * up + max(before, 0) + max(after, 0), w * up + max(before, 0) + max(after, 0))
    full[:, :, max(before, 0) : max(before, 0) + h * up, max(before, 0) : max(before, 0) + w * up] = y
    cut = slice(max(-before, 0), full.shape[2] - max(-after, 0))
    full = full[:, :, cut, cut]
    size = full.shape[2] - len(taps) + 1
    out = x.new_zeros(n, c, size, size)
    for i in range(len(taps)):
        for j in range(len(taps)):
            out += f[len(taps) - 1 - i, len(taps) - 1 - j] * full[:, :, i : i + size, j : j + size]
    return out[:, :, ::down, ::down]


def lrelu(x, clamp=None, gain=1.0):
    x = torch.where(x < 0, 0.2 * x, x) * math.sqrt(2) * gain
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def linear(t, name, x, lr=1.0):
    w = t[f"{name}.weight"]
    return x @ (w * (lr / math.sqrt(w.shape[1]))).T + t[f"{name}.bias"] * lr


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def mapped(t, z, c, layers, lr=0.01, prefix="mapping."):
    parts = [] if z is None else [unit(z)]
    if c is not None:
        parts.append(unit(linear(t, f"{prefix}embed", c)))
    x = torch.cat(parts, 1)
    for i in range(layers):
        x = lrelu(linear(t, f"{prefix}fc{i}", x, lr))
    return x


def modulated(t, name, x, w, up, demodulate, taps, style_edit=0.0):
    s = linear(t, f"{name}.affine", w) + style_edit
    weight = t[f"{name}.weight"]
    o, i, k, _ = weight.shape
    n, _, h, width = x.shape
    weights = weight[None] * s[:, None, :, None, None] / math.sqrt(i * k * k)
    if demodulate:
        weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    x = x.reshape(1, n * i, h, width)
    if not up:
        return F.conv2d(x, weights.reshape(n * o, i, k, k), padding=k // 2, groups=n).reshape(n, o, h, width)
    x = F.conv_transpose2d(x, weights.transpose(1, 2).reshape(n * i, o, k, k), stride=2, groups=n)
    return filtered(x.reshape(n, o, *x.shape[2:]), taps, before=1, after=1, gain=4.0)


def synthesized(t, ws, taps=(1, 3, 3, 1), clamp=None, noise=True):
    """Images; constant noise or none."""
    t, ws = double(t), ws.double()
    x = t["synthesis.b4.const"][None].repeat(len(ws), 1, 1, 1)
    image, index = None, 0
    blocks = sorted({int(name.split(".")[1][1:]) for name in t if name.startswith("synthesis.b")})
    for r in blocks:
        for layer in ("conv1",) if r == 4 else ("conv0", "conv1"):
            name = f"synthesis.b{r}.{layer}"
            x = modulated(t, name, x, ws[:, index], layer == "conv0", True, taps)
            if noise:
                x = x + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
            x = lrelu(x + t[f"{name}.bias"][None, :, None, None], clamp)
            index += 1
        name = f"synthesis.b{r}.torgb"
        added = modulated(t, name, x, ws[:, index], False, False, taps) + t[f"{name}.bias"][None, :, None, None]
        added = added if clamp is None else added.clamp(-clamp, clamp)
        image = added if image is None else filtered(image, taps, up=2, before=2, after=1, gain=4.0) + added
    return image


def conv(t, name, x, taps, down=False, clamp=None, gain=1.0, activate=True):
    weight = t[f"{name}.weight"] / math.sqrt(t[f"{name}.weight"][0].numel())
    k = weight.shape[2]
    if down:
        margin = 2 if k == 3 else 1
        x = F.conv2d(filtered(x, taps, before=margin, after=margin), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=k // 2)
    return lrelu(x + t[f"{name}.bias"][None, :, None, None], clamp, gain) if activate else x * gain


def deviation(x, group, channels=1):
    n, f, h, w = x.shape
    size = min(group, n)
    out = x.new_zeros(n, channels, h, w)
    for i in range(n):
        members = x[i % (n // size) :: n // size]
        std = (members.var(0, unbiased=False) + 1e-8).sqrt().reshape(channels, -1)
        out[i] = std.mean(1)[:, None, None]
    return out


def judged(t, x, c=None, taps=(1, 3, 3, 1), clamp=None, group=4, mapping_layers=8):
    """Logits."""
    t, x = double(t), x.double()
    blocks = sorted({int(name.split(".")[0][1:]) for name in t if name.startswith("b")}, reverse=True)
    for r in blocks[:-1]:
        if r == blocks[0]:
            x = conv(t, f"b{r}.fromrgb", x, taps, clamp=clamp)
        skip = conv(t, f"b{r}.skip", x, taps, down=True, gain=math.sqrt(0.5), activate=False)
        x = conv(t, f"b{r}.conv0", x, taps, clamp=clamp)
        x = conv(t, f"b{r}.conv1", x, taps, down=True, clamp=clamp, gain=math.sqrt(0.5)) + skip
    x = conv(t, "b4.conv", torch.cat([x, deviation(x, group)], 1), taps, clamp=clamp)
    x = linear(t, "b4.out", lrelu(linear(t, "b4.fc", x.flatten(1))))
    if c is None:
        return x
    return (x * mapped(t, None, c.double(), mapping_layers)).sum(1, keepdim=True) / math.sqrt(x.shape[1])
