# SPDX-License-Identifier: Apache-2.0
"""Images of style latents with any number of edits."""

from collections.abc import Sequence
from typing import Any

import torch
from places import layers_at
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from eigenhub.models.stylegan2.projectors import affine_of


@torch.no_grad()
def edited(
    model: Any, ws: Tensor, shifts: Sequence[tuple[str, str, Tensor]], noise: str, batch_size: int = 8
) -> Tensor:
    """
    Images of style latents with any number of edits.

    Args:
        model (`StyleGAN2Generator`): the generator.
        ws (`Tensor` of shape `(count, num_ws, w_dim)`): style latents.
        shifts (`Sequence`): place, `"ws"` or `"style"`, and what is added, `(count, w_dim)` or `(w_dim,)`.
        noise (`str`): noise mode; random noise is the same for the same call.
        batch_size (`int`, *optional*, defaults to 8): images at a time.
    """
    ws, styles = ws.clone(), dict[str, Tensor]()
    for place, edit, vector in shifts:
        vector = vector.to(ws).expand(len(ws), -1)
        layers = layers_at(model, place)
        if edit == "ws":
            for index in {layer.ws_index for layer in layers}:  # an image layer shares that of the next block
                ws[:, index] += vector
        else:
            for layer in layers:
                weight = affine_of(model, layer.name).effective_weight()
                styles[layer.name] = styles.get(layer.name, 0) + vector @ weight.mT
    draws = torch.Generator(ws.device).manual_seed(0)
    images = []
    for i in tqdm(range(0, len(ws), batch_size), desc="drawing", disable=len(ws) <= batch_size):
        part = {layer: style[i : i + batch_size] for layer, style in styles.items()}
        images.append(model.synthesis(ws[i : i + batch_size], noise, style_edits=part, generator=draws))
    return torch.cat(images).float().cpu()


def to_bytes(images: Tensor, side: int) -> Tensor:
    """
    Images for the page, made smaller where they are larger than it shows them.

    Args:
        images (`Tensor` of shape `(count, channels, height, width)`): in [-1, 1].
        side (`int`): largest side.
    """
    if images.shape[-1] > side:
        images = interpolate(images, (side, side), mode="area")
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
