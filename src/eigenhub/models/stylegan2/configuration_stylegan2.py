# SPDX-License-Identifier: Apache-2.0
"""Settings of StyleGAN2, the same for the generator and the discriminator of a pair."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from eigenhub.models.stylegan2.style_layers import StyleLayer, num_channels, resolutions, style_layers
from eigenhub.nn.low_rank_orthogonal import check_gain


@strict
class StyleGAN2Config(PreTrainedConfig):
    r"""
    Configuration of a [`StyleGAN2Generator`] and a [`StyleGAN2Discriminator`].

    Args:
        z_dim (`int`, *optional*, defaults to 512): length of the latent.
        c_dim (`int`, *optional*, defaults to 0): length of a condition (one-hot labels); 0 for none.
        w_dim (`int`, *optional*, defaults to 512): length of a style latent.
        img_resolution (`int`, *optional*, defaults to 256): side of the images, a power of two from 8 on.
        img_channels (`int`, *optional*, defaults to 3): 1 for grayscale, 3 for RGB, 4 with opacity.
        channel_base (`int`, *optional*, defaults to 32768): channels are `min(channel_base // resolution, channel_max)`;
            16384 for the smaller models ("fmaps 0.5").
        channel_max (`int`, *optional*, defaults to 512): largest number of channels.
        mapping_layers (`int`, *optional*, defaults to 8): depth of the mapping network; 2 in many ADA models.
        mapping_lr_multiplier (`float`, *optional*, defaults to 0.01): scale of its step size.
        w_avg_beta (`float`, *optional*, defaults to 0.995): decay of the running mean of `w`.
        resample_filter (`list[int]`, *optional*, defaults to `[1, 3, 3, 1]`): separable low-pass filter.
        conv_clamp (`float`, *optional*): bound on activations; 256 where blocks run in float16.
        num_fp16_res (`int`, *optional*, defaults to 0): number of highest resolutions that run in float16 on a GPU.
        mbstd_group_size (`int`, *optional*, defaults to 4): samples that the discriminator compares; batches must be divisible
            by it, or smaller.
        mbstd_channels (`int`, *optional*, defaults to 1): channels of that comparison; 0 switches it off.
        cmap_dim (`int`, *optional*): length of the discriminator's embedding of conditions; by default its channels at 4 px.
        cmap_layers (`int`, *optional*, defaults to 8): depth of the network behind that embedding.
        projector_layers (`str` or `list[str]`, *optional*): where styles go through a [`LowRankOrthogonal`] weight: the
            `"upsample"` convolutions, as published, `"all"` layers, a list of names such as `"b8.conv0"`, or nowhere.
        projector_rank (`int`, *optional*, defaults to 10): number of directions per layer.
        projector_gain (`str` or `float`, *optional*, defaults to `"mean"`): see [`LowRankOrthogonal`]. A fresh model has no
            weight to take the mean of: it gets the expected largest singular value of a fresh one, $1 + \sqrt{d_{out}/d_{in}}$.
        projector_parameterization (`str`, *optional*, defaults to `"thin"`): `"thin"` or `"dense"`.
        projector_singular_values (`str`, *optional*, defaults to `"fixed"`): `"fixed"` or `"learned"`.
        initializer_range (`float`, *optional*, defaults to 1.0): unused; weights start from unit normals.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`): there are no embeddings to tie.

    Example:

    ```python
    >>> from eigenhub.models.stylegan2 import StyleGAN2Config
    >>> config = StyleGAN2Config(img_resolution=256, projector_layers="upsample")
    >>> config.num_ws, config.projected_names
    (14, ['b8.conv0', 'b16.conv0', 'b32.conv0', 'b64.conv0', 'b128.conv0', 'b256.conv0'])
    ```

    Karras et al., "Training Generative Adversarial Networks with Limited Data" (arXiv 2006.06676), whose code the arithmetic
    follows; Song et al., "Householder Projector for Unsupervised Latent Semantics Discovery" (arXiv 2307.08012).
    """

    model_type = "stylegan2"

    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    img_resolution: int = 256
    img_channels: int = 3
    channel_base: int = 32768
    channel_max: int = 512
    mapping_layers: int = 8
    mapping_lr_multiplier: float | int = 0.01
    w_avg_beta: float | int = 0.995
    resample_filter: list[int] | list[float] | tuple[int, ...] | tuple[float, ...] = (1, 3, 3, 1)
    conv_clamp: float | int | None = None
    num_fp16_res: int = 0
    mbstd_group_size: int = 4
    mbstd_channels: int = 1
    cmap_dim: int | None = None
    cmap_layers: int = 8
    projector_layers: str | list[str] | tuple[str, ...] | None = None
    projector_rank: int = 10
    projector_gain: str | float | int = "mean"
    projector_parameterization: Literal["thin", "dense"] = "thin"
    projector_singular_values: Literal["fixed", "learned"] = "fixed"
    initializer_range: float | int = 1.0
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.resample_filter = list(self.resample_filter)
        if isinstance(self.projector_layers, tuple):
            self.projector_layers = list(self.projector_layers)
        super().__post_init__(**kwargs)

    @property
    def num_ws(self) -> int:
        """Number of entries of `ws`."""
        return 2 * self.img_resolution.bit_length() - 4

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks, one per resolution."""
        return len(resolutions(self.img_resolution))

    @property
    def fp16_from(self) -> int | None:
        """Lowest resolution that runs in float16 on a GPU, if any."""
        return max(self.img_resolution * 2 // 2**self.num_fp16_res, 8) if self.num_fp16_res else None

    @property
    def condition_dim(self) -> int:
        """Length of the discriminator's embedding of conditions; 0 without them."""
        if not self.c_dim:
            return 0
        return self.cmap_dim if self.cmap_dim is not None else self.channels_at(4)

    @property
    def style_layers(self) -> list[StyleLayer]:
        """All layers with a style."""
        return style_layers(self.img_resolution, self.img_channels, self.channel_base, self.channel_max)

    @property
    def projected_names(self) -> list[str]:
        """Names of the layers whose styles go through a projector."""
        if self.projector_layers is None:
            return []
        return projected_names(self.style_layers, self.projector_layers)

    def channels_at(self, resolution: int) -> int:
        """Channels at a resolution."""
        return num_channels(resolution, self.channel_base, self.channel_max)

    def layer(self, name: str) -> StyleLayer:
        """The layer of a name.

        Args:
            name (`str`): for example `"b8.conv0"`.
        """
        known = {layer.name: layer for layer in self.style_layers}
        if name not in known:
            raise ValueError(f"`layer` must be one of {', '.join(known)}; got {name!r}")
        return known[name]

    def validate_architecture(self) -> None:
        """Raises a `ValueError` for sizes that cannot be."""
        size = self.img_resolution
        if size < 8 or size & (size - 1):
            raise ValueError(f"`img_resolution` must be a power of two, at least 8, got {size}")
        for name in (
            "z_dim",
            "w_dim",
            "img_channels",
            "channel_max",
            "mapping_layers",
            "cmap_layers",
            "mbstd_group_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("c_dim", "num_fp16_res", "mbstd_channels"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}")
        if self.channel_base < size:
            raise ValueError(f"`channel_base` must be at least `img_resolution` = {size}, got {self.channel_base}")
        if self.cmap_dim is not None and self.cmap_dim < 1:
            raise ValueError(f"`cmap_dim` must be at least 1, got {self.cmap_dim}")
        if self.mbstd_channels and self.channels_at(4) % self.mbstd_channels:
            raise ValueError(f"`mbstd_channels` must divide {self.channels_at(4)}, got {self.mbstd_channels}")

    def validate_numbers(self) -> None:
        """Raises a `ValueError` for numbers out of their range."""
        if not 0 < self.mapping_lr_multiplier < float("inf"):
            raise ValueError(f"`mapping_lr_multiplier` must be positive, got {self.mapping_lr_multiplier}")
        if not 0 <= self.w_avg_beta < 1:
            raise ValueError(f"`w_avg_beta` must be in [0, 1), got {self.w_avg_beta}")
        if self.conv_clamp is not None and not self.conv_clamp > 0:
            raise ValueError(f"`conv_clamp` must be positive, got {self.conv_clamp}")
        if len(self.resample_filter) < 2 or not sum(self.resample_filter) > 0:
            raise ValueError(
                f"`resample_filter` must be two or more numbers of positive sum, got {self.resample_filter}"
            )

    def validate_projector(self) -> None:
        """Raises a `ValueError` that names the layer for which the settings of the projector cannot be."""
        check_gain(self.projector_gain)
        names = set(self.projected_names)
        for layer in self.style_layers:
            limit = min(layer.in_channels, self.w_dim)
            if layer.name in names and not 1 <= self.projector_rank <= limit:
                raise ValueError(
                    f"`projector_rank` must be between 1 and {limit} for layer {layer.name!r}, got {self.projector_rank}"
                )


def projected_names(layers: list[StyleLayer], chosen: str | list[str] | tuple[str, ...]) -> list[str]:
    """Names of chosen layers, in the order in which they run.

    Args:
        layers (`list[StyleLayer]`): all there are.
        chosen (`str` or `list[str]`): `"upsample"`, `"all"` or names.
    """
    known = [layer.name for layer in layers]
    if chosen == "all":
        return known
    if chosen == "upsample":
        return [layer.name for layer in layers if layer.kind == "conv0"]
    unknown = [chosen] if isinstance(chosen, str) else [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ValueError(
            f"`projector_layers` must be 'upsample', 'all' or names among {', '.join(known)}; got {chosen!r}"
        )
    return [name for name in known if name in chosen]
