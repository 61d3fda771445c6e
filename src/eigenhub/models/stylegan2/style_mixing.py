# SPDX-License-Identifier: Apache-2.0
"""Style mixing: coarse layers from one latent, fine layers from another."""

from typing import Any

import torch
from torch import Tensor


def mix_styles(coarse: Tensor, fine: Tensor, cutoff: int) -> Tensor:
    """Style latents whose first entries come from one sample and the rest from another.

    Args:
        coarse (`Tensor` of shape `(batch, num_ws, w_dim)`): gives the first `cutoff` entries.
        fine (`Tensor` of shape `(batch, num_ws, w_dim)`): gives the others.
        cutoff (`int`): from 0 to `num_ws`.

    Returns:
        `Tensor` of shape `(batch, num_ws, w_dim)`.
    """
    if coarse.ndim != 3 or coarse.shape[1:] != fine.shape[1:]:
        raise ValueError(
            f"`coarse` and `fine` must be alike, got shapes {tuple(coarse.shape)} and {tuple(fine.shape)}"
        )
    if not 0 <= cutoff <= coarse.shape[1]:
        raise ValueError(f"`cutoff` must be between 0 and {coarse.shape[1]}, got {cutoff}")
    coarse, fine = torch.broadcast_tensors(coarse, fine)
    return torch.cat([coarse[:, :cutoff], fine[:, cutoff:]], dim=1)


def mixed_latents(
    model: Any,
    z: Tensor,
    c: Tensor | None = None,
    probability: float = 0.9,
    generator: torch.Generator | None = None,
    update_w_avg: bool = False,
) -> Tensor:
    """Style latents of a training step: with some probability, a random number of fine layers comes from new latents.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        z (`Tensor` of shape `(batch, z_dim)`): latents.
        c (`Tensor` of shape `(batch, c_dim)`, *optional*): conditions.
        probability (`float`, *optional*, defaults to 0.9): of mixing at all, for the whole batch.
        generator (`torch.Generator`, *optional*): source of the new latents, on the CPU.
        update_w_avg (`bool`, *optional*, defaults to `False`): move the running mean of `w`.

    Returns:
        `Tensor` of shape `(batch, num_ws, w_dim)`.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"`probability` must be between 0 and 1, got {probability}")
    ws = model.mapping(z, c, update_w_avg=update_w_avg)
    draw = torch.rand((), generator=generator, device="cpu").item()
    cutoff = int(torch.randint(1, ws.shape[1], (), generator=generator, device="cpu"))
    other = torch.randn(z.shape, generator=generator, device="cpu", dtype=torch.float32).to(z)
    if draw >= probability:
        return ws
    return mix_styles(ws, model.mapping(other, c), cutoff)
