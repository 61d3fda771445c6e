# SPDX-License-Identifier: Apache-2.0
"""From style latents to images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from eigenhub.models.stylegan2.configuration_stylegan2 import StyleGAN2Config
from eigenhub.models.stylegan2.equalized import ACTIVATION_GAIN, EqualizedLinear, activated, compute_dtype
from eigenhub.models.stylegan2.modulated_conv import modulated_conv2d, modulated_image
from eigenhub.models.stylegan2.projected_affine import ProjectedAffine, StyleAffine
from eigenhub.models.stylegan2.resample import separable_filter, upsample_image
from eigenhub.models.stylegan2.style_layers import StyleLayer


NOISE_MODES = ("const", "random", "none")


class SynthesisLayer(nn.Module):
    """A modulated 3 x 3 convolution, noise, bias, leaky ReLU and clamp.

    Args:
        layer ([`StyleLayer`]): its place.
        config ([`StyleGAN2Config`]): of the model.
    """

    noise_const: Tensor

    def __init__(self, layer: StyleLayer, config: StyleGAN2Config) -> None:
        super().__init__()
        self.name, self.resolution, self.up = layer.name, layer.resolution, layer.kind == "conv0"
        self.clamp = config.conv_clamp
        self.affine = make_affine(layer, config)
        self.weight = nn.Parameter(torch.empty(layer.out_channels, layer.in_channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(layer.out_channels))
        self.noise_strength = nn.Parameter(torch.empty(()))
        self.register_buffer("noise_const", torch.empty(layer.resolution, layer.resolution))

    def reset_parameters(self) -> None:
        """Draws weight and constant noise."""
        init.normal_(self.weight)
        init.normal_(self.noise_const)
        init.zeros_(self.bias)
        init.zeros_(self.noise_strength)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, edit: Tensor | None, kernel: Tensor) -> Tensor:
        styles = edited(self.affine(w), edit)
        gain = ACTIVATION_GAIN  # leaky ReLU commutes with positive factors
        x = modulated_conv2d(x, self.weight, styles, kernel if self.up else None, gain * self.bias, gain)
        if noise is not None:
            x = x + (noise * (gain * self.noise_strength)).to(x.dtype)
        return activated(x, self.clamp)


class ToImageLayer(nn.Module):
    """A modulated 1 x 1 convolution to an image, without demodulation.

    Args:
        layer ([`StyleLayer`]): its place.
        config ([`StyleGAN2Config`]): of the model.
    """

    def __init__(self, layer: StyleLayer, config: StyleGAN2Config) -> None:
        super().__init__()
        self.name, self.clamp = layer.name, config.conv_clamp
        self.affine = make_affine(layer, config)
        self.weight = nn.Parameter(torch.empty(layer.out_channels, layer.in_channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(layer.out_channels))

    def reset_parameters(self) -> None:
        """Draws the weight."""
        init.normal_(self.weight)
        init.zeros_(self.bias)

    def forward(self, x: Tensor, w: Tensor, edit: Tensor | None) -> Tensor:
        image = modulated_image(x, self.weight, edited(self.affine(w), edit), self.bias)
        return image if self.clamp is None else image.clamp(-self.clamp, self.clamp)


class SynthesisBlock(GradientCheckpointingLayer):
    """One resolution: two convolutions (one at 4 px) and the image so far.

    Args:
        layers (`list[StyleLayer]`): its layers.
        config ([`StyleGAN2Config`]): of the model.
    """

    torgb: ToImageLayer

    def __init__(self, layers: list[StyleLayer], config: StyleGAN2Config) -> None:
        super().__init__()
        self.layers = layers
        self.resolution = layers[0].resolution
        self.use_fp16 = config.fp16_from is not None and self.resolution >= config.fp16_from
        if self.resolution == 4:
            self.const = nn.Parameter(torch.empty(config.channels_at(4), 4, 4))
        for layer in layers:
            module = ToImageLayer if layer.kind == "torgb" else SynthesisLayer
            self.add_module(layer.kind, module(layer, config))

    def reset_parameters(self) -> None:
        """Draws the constant input."""
        if self.resolution == 4:
            init.normal_(self.const)

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor,
        noise: Mapping[str, Tensor],
        edits: Mapping[str, Tensor],
        kernel: Tensor,
    ) -> tuple[Tensor, Tensor]:
        dtype = compute_dtype(self.torgb.weight, self.use_fp16)
        if x is None:
            x = self.const.expand(len(ws), -1, -1, -1)
        x = x.to(dtype)
        *convolutions, last = self.layers
        for layer in convolutions:
            edit = edits.get(layer.name)
            x = self.get_submodule(layer.kind)(x, ws[:, layer.ws_index], noise.get(layer.name), edit, kernel)
        added = self.torgb(x, ws[:, last.ws_index], edits.get(last.name))
        added = added.to(torch.promote_types(ws.dtype, torch.float32))
        return x, added if image is None else upsample_image(image, kernel) + added


class SynthesisNetwork(nn.Module):
    """All blocks.

    Args:
        config ([`StyleGAN2Config`]): of the model.
    """

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.num_ws, self.w_dim, self.taps = config.num_ws, config.w_dim, config.resample_filter
        layers = config.style_layers
        self.block_names = list(dict.fromkeys(layer.name.partition(".")[0] for layer in layers))
        for name in self.block_names:
            self.add_module(name, SynthesisBlock([one for one in layers if one.name.startswith(f"{name}.")], config))
        self.register_buffer("resample_filter", torch.empty(len(self.taps), len(self.taps)))

    def reset_parameters(self) -> None:
        """Fills the filter."""
        init.copy_(self.resample_filter, separable_filter(self.taps))

    @property
    def blocks(self) -> list[SynthesisBlock]:
        """The blocks from 4 px up."""
        return [getattr(self, name) for name in self.block_names]

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "const",
        noise: Mapping[str, Tensor] | None = None,
        style_edits: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """Images.

        Args:
            ws (`Tensor` of shape `(batch, num_ws, w_dim)`): style latents.
            noise_mode (`str`, *optional*, defaults to `"const"`): `"const"`, `"random"` or `"none"`.
            noise (`Mapping[str, Tensor]`, *optional*): noise of some layers by name, broadcast to `(batch, 1, side, side)`.
            style_edits (`Mapping[str, Tensor]`, *optional*): what is added to the styles of some layers by name,
                `(channels,)` or `(batch, channels)`.
            generator (`torch.Generator`, *optional*): source of random noise.
            hidden_states (`list[Tensor]`, *optional*): receives the features of each block.

        Returns:
            `Tensor` of shape `(batch, img_channels, side, side)`, float32 or better.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"`ws` must have shape (batch, {self.num_ws}, {self.w_dim}), got {tuple(ws.shape)}")
        edits = self._checked_edits(style_edits or {})
        given = self.noise(len(ws), noise_mode, noise or {}, generator)
        first, *others = self.blocks
        x, image = first(None, None, ws, given, edits, self.resample_filter)
        keep = hidden_states.append if hidden_states is not None else _forget
        keep(x)
        for block in others:
            x, image = block(x, image, ws, given, edits, self.resample_filter)
            keep(x)
        return image.contiguous()

    def noise(
        self, batch: int, mode: str, given: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Noise of every layer that has any; given noise counts in every mode.

        Args:
            batch (`int`): number of samples.
            mode (`str`): `"const"`, `"random"` or `"none"`.
            given (`Mapping[str, Tensor]`): by name of the layer.
            generator (`torch.Generator`, *optional*): source of random noise.
        """
        if mode not in NOISE_MODES:
            raise ValueError(f"`noise_mode` must be one of {', '.join(NOISE_MODES)}; got {mode!r}")
        layers = {m.name: m for block in self.blocks for m in block.children() if isinstance(m, SynthesisLayer)}
        if unknown := [name for name in given if name not in layers]:
            raise ValueError(f"`noise` must name layers among {', '.join(layers)}; got {', '.join(unknown)}")
        found = {}
        for name, layer in layers.items():
            like = layer.noise_const
            if name in given:
                found[name] = _as_noise(given[name].to(like.device), name, batch, layer.resolution)
            elif mode == "random":
                shape = (batch, 1, layer.resolution, layer.resolution)
                device = like.device if generator is None else generator.device
                found[name] = torch.randn(shape, generator=generator, device=device).to(like)
            elif mode == "const":
                found[name] = like
        return found

    def _checked_edits(self, edits: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        known = {layer.name: layer.in_channels for block in self.blocks for layer in block.layers}
        for name, edit in edits.items():
            if name not in known:
                raise ValueError(f"`style_edits` must name layers among {', '.join(known)}; got {name}")
            if edit.shape[-1] != known[name] or edit.ndim > 2:
                raise ValueError(
                    f"`style_edits[{name!r}]` must have shape ({known[name]},) or (batch, {known[name]}), got "
                    f"{tuple(edit.shape)}"
                )
        return edits


def make_affine(layer: StyleLayer, config: StyleGAN2Config) -> StyleAffine:
    """The affine of a layer: projected where the configuration says so.

    Args:
        layer ([`StyleLayer`]): the layer.
        config ([`StyleGAN2Config`]): of the model.
    """
    if layer.name not in config.projected_names:
        return EqualizedLinear(config.w_dim, layer.in_channels, bias_init=1.0)
    settings: dict[str, Any] = {
        "gain": config.projector_gain,
        "parameterization": config.projector_parameterization,
        "singular_values": config.projector_singular_values,
    }
    return ProjectedAffine(config.w_dim, layer.in_channels, config.projector_rank, **settings)


def edited(styles: Tensor, edit: Tensor | None) -> Tensor:
    """Styles after an edit, if there is one.

    Args:
        styles (`Tensor` of shape `(batch, channels)`): styles.
        edit (`Tensor`, *optional*): what is added.
    """
    return styles if edit is None else styles + edit.to(styles)


def _as_noise(noise: Tensor, name: str, batch: int, side: int) -> Tensor:
    noise = noise if noise.ndim == 4 else noise.reshape(-1, 1, *noise.shape[-2:])
    if noise.shape[1:] != (1, side, side) or noise.shape[0] not in (1, batch):
        raise ValueError(
            f"`noise[{name!r}]` must have shape (1 or {batch}, 1, {side}, {side}), got {tuple(noise.shape)}"
        )
    return noise


def _forget(features: Tensor) -> None:
    """Where nobody asks for features, they are freed as soon as the next block has read them."""
