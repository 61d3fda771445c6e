# SPDX-License-Identifier: Apache-2.0
"""StyleGAN2 with and without Householder projectors: generator and discriminator."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as hf_init

from eigenhub.models.stylegan2.configuration_stylegan2 import StyleGAN2Config
from eigenhub.models.stylegan2.directions import Directions, layer_directions
from eigenhub.models.stylegan2.discriminator_blocks import DiscriminatorBlock, DiscriminatorEpilogue
from eigenhub.models.stylegan2.mapping import MappingNetwork
from eigenhub.models.stylegan2.projected_affine import reset_map
from eigenhub.models.stylegan2.projectors import add_projectors, fold_projectors, projector_parameters
from eigenhub.models.stylegan2.resample import separable_filter
from eigenhub.models.stylegan2.style_layers import resolutions
from eigenhub.models.stylegan2.stylegan2_outputs import StyleGAN2DiscriminatorOutput, StyleGAN2Output
from eigenhub.models.stylegan2.synthesis import SynthesisNetwork
from eigenhub.models.stylegan2.traversal import traverse


#: Options of `from_pretrained` that say where a file is.
HUB_OPTIONS = ("subfolder", "revision", "token", "cache_dir", "force_download", "local_files_only", "proxies")


class StyleGAN2PreTrainedModel(PreTrainedModel):
    """Loading, saving and starting values."""

    config: StyleGAN2Config
    base_model_prefix = "stylegan2"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ["SynthesisBlock", "DiscriminatorBlock"]
    _keep_in_fp32_modules_strict = ["projector"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Loads a network; see `PreTrainedModel.from_pretrained`. The folder of the other network is an error.

        Args:
            pretrained_model_name_or_path (`str`): Hub id or folder. The discriminator lies in `subfolder="discriminator"`.
            model_args (`Any`): passed on.
            kwargs (`Any`): passed on.
        """
        config = kwargs.get("config")
        if config is None:
            given = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
            config = StyleGAN2Config.from_pretrained(pretrained_model_name_or_path, **given)
        saved = set(getattr(config, "architectures", None) or ())
        if cls.__name__ not in saved and saved & {"StyleGAN2Generator", "StyleGAN2Discriminator"}:
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a {', '.join(sorted(saved))}, not a {cls.__name__}; AutoModel is for "
                "the generator, AutoModelForImageClassification for the discriminator"
            )
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
        reset_map(module)

    def packed(self, output: Any, return_dict: bool | None) -> Any:
        """The output as a tuple where the caller or the configuration wants one.

        Args:
            output (`ModelOutput`): to be returned.
            return_dict (`bool`, *optional*): overrides the configuration.
        """
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()


class StyleGAN2Generator(StyleGAN2PreTrainedModel):
    r"""
    The generator of StyleGAN2, $z \mapsto w \mapsto$ image, with the arithmetic and the names of stylegan2-ada-pytorch.

    Its parts are `mapping` and `synthesis`, which may be called by themselves:
    `synthesis(mapping(z, c, truncation_psi=0.7), noise_mode="const")`.

    Args:
        config ([`StyleGAN2Config`]): sizes and projectors.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
    >>> model = StyleGAN2Generator(StyleGAN2Config(z_dim=16, w_dim=16, img_resolution=16, channel_max=16))
    >>> model(torch.randn(2, 16)).images.shape
    torch.Size([2, 3, 16, 16])
    >>> model = model.add_projectors(rank=4)
    >>> model.directions("b8.conv0").vectors.shape
    torch.Size([16, 4])
    ```

    Departures: activations are scaled in place of weights where that is less work, and memory lies channels last; images are
    those of the official code up to rounding.
    """

    main_input_name = "z"

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        self.mapping = MappingNetwork(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            config.num_ws,
            config.mapping_layers,
            config.mapping_lr_multiplier,
            config.w_avg_beta,
        )
        self.synthesis = SynthesisNetwork(config)
        self.post_init()

    def forward(
        self,
        z: Tensor | None = None,
        ws: Tensor | None = None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
        noise: Mapping[str, Tensor] | None = None,
        style_edits: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> StyleGAN2Output | tuple:
        """Images of latents or of style latents.

        Args:
            z (`Tensor` of shape `(batch, z_dim)`, *optional*): latents.
            ws (`Tensor` of shape `(batch, num_ws, w_dim)`, *optional*): style latents, in place of `z`.
            c (`Tensor` of shape `(batch, c_dim)`, *optional*): conditions of `z`.
            truncation_psi (`float`, *optional*, defaults to 1.0): pulls style latents to their mean.
            truncation_cutoff (`int`, *optional*): number of entries of `ws` that are pulled; all by default.
            noise_mode (`str`, *optional*, defaults to `"const"`): `"const"`, `"random"` or `"none"`.
            noise (`Mapping[str, Tensor]`, *optional*): noise of some layers by name.
            style_edits (`Mapping[str, Tensor]`, *optional*): what is added to the styles of some layers by name.
            generator (`torch.Generator`, *optional*): source of random noise.
            output_hidden_states (`bool`, *optional*): whether to return the features of each block.
            return_dict (`bool`, *optional*): False returns a tuple.
        """
        if (z is None) == (ws is None):
            raise ValueError("give either `z` or `ws`, " + ("not both" if z is not None else "got neither"))
        if ws is None:
            ws = self.mapping(z, c, truncation_psi, truncation_cutoff)
        else:
            ws = self.mapping.truncate(ws, truncation_psi, truncation_cutoff)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        states: list[Tensor] | None = [] if wanted else None
        images = self.synthesis(ws, noise_mode, noise, style_edits, generator, states)
        output = StyleGAN2Output(images.to(self.dtype), ws, tuple(states) if states is not None else None)
        return self.packed(output, return_dict)

    def latents(self, n: int, seed: int = 0) -> Tensor:
        """Unit normal latents that do not depend on the device.

        Args:
            n (`int`): number of samples.
            seed (`int`, *optional*, defaults to 0): the first `n` latents of a seed are always the same.

        Returns:
            `Tensor` of shape `(n, z_dim)`, float32.
        """
        if n < 0:
            raise ValueError(f"`n` must not be negative, got {n}")
        draws = torch.Generator().manual_seed(seed)
        rows = [torch.randn(self.config.z_dim, generator=draws, dtype=torch.float32, device="cpu") for _ in range(n)]
        return torch.stack(rows).to(self.device) if rows else torch.zeros(0, self.config.z_dim, device=self.device)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
        batch_size: int = 8,
    ) -> Tensor:
        """Random images, the same for the same seed.

        Args:
            n (`int`): number of images.
            seed (`int`, *optional*, defaults to 0): of latents and random noise.
            c (`Tensor` of shape `(n, c_dim)` or `(1, c_dim)`, *optional*): conditions.
            truncation_psi (`float`, *optional*, defaults to 1.0): see [`forward`].
            truncation_cutoff (`int`, *optional*): see [`forward`].
            noise_mode (`str`, *optional*, defaults to `"const"`): see [`forward`].
            batch_size (`int`, *optional*, defaults to 8): images at a time.

        Returns:
            `Tensor` of shape `(n, img_channels, img_resolution, img_resolution)`.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
        z = self.latents(n, seed)
        c = c if c is None else c.expand(n, -1)
        draws = torch.Generator(self.device).manual_seed(seed)
        images = [
            self(
                z=part,
                c=None if c is None else c[i * batch_size : i * batch_size + len(part)],
                truncation_psi=truncation_psi,
                truncation_cutoff=truncation_cutoff,
                noise_mode=noise_mode,
                generator=draws,
                return_dict=True,
            ).images
            for i, part in enumerate(z.split(batch_size))
        ]
        return torch.cat(images)

    def add_projectors(
        self,
        layers: str | Sequence[str] = "upsample",
        rank: int = 10,
        gain: str | float = "mean",
        parameterization: str = "thin",
        singular_values: str = "fixed",
        init: str = "nearest",
    ) -> "StyleGAN2Generator":
        """Projects the style affines of some layers, in place; the configuration follows. See [`LowRankOrthogonal`].

        Args:
            layers (`str` or `Sequence[str]`, *optional*, defaults to `"upsample"`): `"upsample"`, `"all"` or names.
            rank (`int`, *optional*, defaults to 10): number of directions per layer.
            gain (`str` or `float`, *optional*, defaults to `"mean"`): `"mean"`, `"unit"`, `"equalized"` or a number.
            parameterization (`str`, *optional*, defaults to `"thin"`): `"thin"` or `"dense"`.
            singular_values (`str`, *optional*, defaults to `"fixed"`): `"fixed"` or `"learned"`.
            init (`str`, *optional*, defaults to `"nearest"`): `"nearest"` to the present weights, or `"random"` (a control).

        Returns:
            [`StyleGAN2Generator`]: itself.
        """
        add_projectors(self, layers, rank, gain, parameterization, singular_values, init)
        return self

    def fold_projectors(self) -> "StyleGAN2Generator":
        """Turns projected affines into ordinary ones that compute the same, in place, for other layouts.

        Returns:
            [`StyleGAN2Generator`]: itself.
        """
        fold_projectors(self)
        return self

    def projector_parameters(self) -> list[nn.Parameter]:
        """Vectors and singular values of all projectors: a parameter group of its own, without weight decay."""
        return projector_parameters(self)

    def directions(self, layer: str, basis: str = "parameter", **options: Any) -> Directions:
        """Editing directions of one layer; see [`layer_directions`].

        Args:
            layer (`str`): for example `"b8.conv0"`.
            basis (`str`, *optional*, defaults to `"parameter"`): `"parameter"`, `"svd"`, `"sefa"`, `"jacobian"` or
                `"aligned"`.
            options (`Any`): further arguments.
        """
        return layer_directions(self, layer, basis, **options)

    def traverse(self, ws: Tensor, layer: str, k: int, alphas: Sequence[float] | Tensor, **options: Any) -> Tensor:
        """Images along one direction; see [`~eigenhub.models.stylegan2.traversal.traverse`].

        Args:
            ws (`Tensor` of shape `(batch, num_ws, w_dim)`): where to start, truncated already.
            layer (`str`): for example `"b8.conv0"`.
            k (`int`): number of the direction.
            alphas (`Sequence[float]`): lengths of the displacement of the layer's style.
            options (`Any`): further arguments.
        """
        return traverse(self, ws, layer, k, alphas, **options)


class StyleGAN2Discriminator(StyleGAN2PreTrainedModel):
    """
    The residual discriminator of StyleGAN2, with the arithmetic and the names of stylegan2-ada-pytorch.

    Args:
        config ([`StyleGAN2Config`]): sizes; projectors do not concern it.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Discriminator
    >>> model = StyleGAN2Discriminator(StyleGAN2Config(img_resolution=16, channel_max=16))
    >>> model(torch.randn(4, 3, 16, 16)).logits.shape
    torch.Size([4, 1])
    ```
    """

    main_input_name = "pixel_values"
    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        self.block_names = [f"b{resolution}" for resolution in reversed(resolutions(config.img_resolution))]
        for name in self.block_names[:-1]:
            self.add_module(name, DiscriminatorBlock(int(name[1:]), config))
        self.b4 = DiscriminatorEpilogue(config)
        if config.c_dim:
            self.mapping = MappingNetwork(
                0,
                config.c_dim,
                config.condition_dim,
                None,
                config.cmap_layers,
                config.mapping_lr_multiplier,
            )
        taps = len(config.resample_filter)
        self.register_buffer("resample_filter", torch.empty(taps, taps))
        self.post_init()

    def reset_parameters(self) -> None:
        """Fills the filter."""
        hf_init.copy_(self.resample_filter, separable_filter(self.config.resample_filter))

    def forward(
        self,
        pixel_values: Tensor,
        c: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> StyleGAN2DiscriminatorOutput | tuple:
        """How real images look.

        Args:
            pixel_values (`Tensor` of shape `(batch, img_channels, img_resolution, img_resolution)`): images from -1 to 1.
            c (`Tensor` of shape `(batch, c_dim)`, *optional*): conditions, for a conditional model.
            output_hidden_states (`bool`, *optional*): whether to return the features of each block.
            return_dict (`bool`, *optional*): False returns a tuple.
        """
        self._check(pixel_values, c)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        x, states = pixel_values, []
        blocks = [self.get_submodule(name) for name in self.block_names[:-1]]
        if self.training and blocks[0].gradient_checkpointing and torch.is_grad_enabled() and not x.requires_grad:
            x = (
                x.detach().requires_grad_()
            )  # a block with reentrant checkpoints trains only if its input asks for gradients
        for block in blocks:
            x = block(x, self.resample_filter)
            states.append(x)
        logits = self.b4(x, self.resample_filter)
        if self.config.c_dim:
            conditions = self.mapping(None, c)
            logits = (logits * conditions).sum(1, keepdim=True) * self.config.condition_dim**-0.5
        output = StyleGAN2DiscriminatorOutput(logits.to(self.dtype), tuple(states) if wanted else None)
        return self.packed(output, return_dict)

    def _check(self, images: Tensor, c: Tensor | None) -> None:
        side = self.config.img_resolution
        if images.ndim != 4 or images.shape[1:] != (self.config.img_channels, side, side):
            raise ValueError(
                f"`pixel_values` must have shape (batch, {self.config.img_channels}, {side}, {side}), got "
                f"{tuple(images.shape)}"
            )
        if not self.config.c_dim and c is not None and c.shape[-1]:
            raise ValueError(f"`c` was given to a model without conditions: shape {tuple(c.shape)}")
