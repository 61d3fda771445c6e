# SPDX-License-Identifier: Apache-2.0
"""Output classes of StyleGAN2."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class StyleGAN2Output(ModelOutput):
    """
    Output of a [`StyleGAN2Generator`].

    Args:
        images (`Tensor` of shape `(batch, img_channels, img_resolution, img_resolution)`): about -1 to 1, not clamped.
        ws (`Tensor` of shape `(batch, num_ws, w_dim)`): style latents after truncation.
        hidden_states (`tuple(Tensor)`, *optional*): features after each block, from 4 px up.
    """

    images: Tensor | None = None
    ws: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


@dataclass
class StyleGAN2DiscriminatorOutput(ModelOutput):
    """
    Output of a [`StyleGAN2Discriminator`].

    Args:
        logits (`Tensor` of shape `(batch, 1)`): above zero for what looks real.
        hidden_states (`tuple(Tensor)`, *optional*): features after each block, from the highest resolution down.
    """

    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
