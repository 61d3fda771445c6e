# SPDX-License-Identifier: Apache-2.0
"""Images along a direction: through the style latent, which two layers share, or through the style of one layer alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eigenhub.models.stylegan2.directions import Directions, layer_directions
from eigenhub.models.stylegan2.edits import check_edit, displacement, edited_images


UNITS = ("style", "w")


@torch.no_grad()
def traverse(
    model: Any,
    ws: Tensor,
    layer: str,
    k: int,
    alphas: Sequence[float] | Tensor,
    edit: str = "ws",
    unit: str = "style",
    directions: Directions | Tensor | None = None,
    basis: str = "parameter",
    noise_mode: str = "const",
    batch_size: int = 8,
    **options: Any,
) -> Tensor:
    r"""Images of style latents that are moved by $\alpha$ along the `k`-th direction of one layer.

    `edit="ws"` moves that layer's entry of `ws`, as published; the image layer of the block before reads the same entry and
    changes too. `edit="style"` adds $A v$ to the style of this layer and changes nothing else.

    In the unit `"style"` the style moves by the length $\alpha$, whatever the gain of the layer, so that all sliders have one
    range: 10 to 20 for StyleGAN2. `"w"` moves the style latent by $\alpha v$.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        ws (`Tensor` of shape `(batch, num_ws, w_dim)`): where to start; truncate before.
        layer (`str`): for example `"b8.conv0"`.
        k (`int`): number of the direction, from 0.
        alphas (`Sequence[float]`): where to stop on the way.
        edit (`str`, *optional*, defaults to `"ws"`): `"ws"` or `"style"`.
        unit (`str`, *optional*, defaults to `"style"`): `"style"` or `"w"`.
        directions ([`Directions`] or `Tensor` of shape `(w_dim, count)`, *optional*): computed before; by default they are
            computed now.
        basis (`str`, *optional*, defaults to `"parameter"`): see [`layer_directions`].
        noise_mode (`str`, *optional*, defaults to `"const"`): `"const"` does not flicker.
        batch_size (`int`, *optional*, defaults to 8): images at a time.
        options (`Any`): passed to [`layer_directions`].

    Returns:
        `Tensor` of shape `(batch, len(alphas), img_channels, img_resolution, img_resolution)`.
    """
    check_edit(edit)
    _check(unit, batch_size)
    found = layer_directions(model, layer, basis, **options) if directions is None else directions
    vectors = found.vectors if isinstance(found, Directions) else found
    if vectors.ndim != 2 or len(vectors) != model.config.w_dim:
        raise ValueError(f"`directions` must have shape ({model.config.w_dim}, count), got {tuple(vectors.shape)}")
    if not 0 <= k < vectors.shape[1]:
        raise ValueError(f"`k` must be between 0 and {vectors.shape[1] - 1}, got {k}")
    steps = torch.as_tensor(alphas, dtype=vectors.dtype, device=vectors.device).flatten()
    if not torch.isfinite(steps).all():
        raise ValueError(f"`alphas` must be finite, got {steps.tolist()}")
    v = vectors[:, k]
    if unit == "style":
        v = v / displacement(model, layer, v)
    starts = ws.repeat_interleave(len(steps), dim=0)
    shifts = steps.repeat(len(ws))[:, None] * v
    images = [
        edited_images(model, *parts, edit, noise_mode)
        for parts in zip(starts.split(batch_size), [layer] * len(starts), shifts.split(batch_size), strict=False)
    ]
    shape = (len(ws), len(steps), model.config.img_channels, *[model.config.img_resolution] * 2)
    return torch.cat(images).view(shape) if images else ws.new_zeros(shape)


def _check(unit: str, batch_size: int) -> None:
    if unit not in UNITS:
        raise ValueError(f"`unit` must be one of {', '.join(UNITS)}; got {unit!r}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
