# SPDX-License-Identifier: Apache-2.0
"""Images of style latents that are shifted for one layer."""

from typing import Any

import torch
from torch import Tensor

from eigenhub.models.stylegan2.projectors import affine_of


EDITS = ("ws", "style")


def displacement(model: Any, layer: str, v: Tensor) -> float:
    r"""Length $\lVert A v \rVert$ by which the style of a layer moves per unit of its style latent.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        layer (`str`): for example `"b8.conv0"`.
        v (`Tensor` of shape `(w_dim,)`): a direction.
    """
    length = torch.linalg.vector_norm(affine_of(model, layer).effective_weight() @ v.to(model.device)).item()
    if not length > 0:
        raise ValueError(f"the direction does not move the style of layer {layer!r} at all: use unit='w'")
    return length


@torch.no_grad()
def edited_images(
    model: Any, ws: Tensor, layer: str, shifts: Tensor, edit: str = "ws", noise_mode: str = "const"
) -> Tensor:
    """Images of style latents of which the entry of one layer is shifted.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        ws (`Tensor` of shape `(batch, num_ws, w_dim)`): style latents.
        layer (`str`): for example `"b8.conv0"`.
        shifts (`Tensor` of shape `(batch, w_dim)` or `(w_dim,)`): what is added to its entry.
        edit (`str`, *optional*, defaults to `"ws"`): `"ws"`, or `"style"` for this layer alone.
        noise_mode (`str`, *optional*, defaults to `"const"`): see [`StyleGAN2Generator`].
    """
    check_edit(edit)
    place = model.config.layer(layer)
    shifts = shifts.to(ws)
    if edit == "ws":
        ws = ws.clone()
        ws[:, place.ws_index] += shifts
        return model.synthesis(ws, noise_mode)
    weight = affine_of(model, layer).effective_weight()
    return model.synthesis(ws, noise_mode, style_edits={layer: shifts.to(weight) @ weight.mT})


def check_edit(edit: str) -> None:
    """Raises `ValueError` for an unknown kind of edit.

    Args:
        edit (`str`): `"ws"` or `"style"`.
    """
    if edit not in EDITS:
        raise ValueError(f"`edit` must be one of {', '.join(EDITS)}; got {edit!r}")
