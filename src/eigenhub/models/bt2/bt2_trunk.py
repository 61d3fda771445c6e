# SPDX-License-Identifier: Apache-2.0
"""A backbone with one pooled feature per image, and what the BT2 models do alike with it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from eigenhub.linalg.orthogonal import random_orthogonal
from eigenhub.models.bt2.configuration_bt2 import Bt2TrunkConfig
from eigenhub.nn.compatibility import ClassPrototypes
from eigenhub.nn.orthogonal_transform import OrthogonalTransform


class Bt2TrunkModel(PreTrainedModel):
    """Base of the BT2 models: initialisation, precision of the changes of basis, loading."""

    config: Bt2TrunkConfig
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the terms are means over a batch
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = ["new_basis", "compat_basis", "rotation"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OrthogonalTransform):
            init.copy_(module.base, random_orthogonal(module.d))
            for name, parameter in module.named_parameters():
                if name == "left":
                    init.normal_(parameter, std=module.d**-0.5)
                else:
                    init.zeros_(parameter)

    def get_input_embeddings(self) -> nn.Module:
        """Those of the backbone: accelerate shards them apart under FSDP2."""
        trunk: Any = self.base_model
        return trunk.backbone.get_input_embeddings()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers, under the names that the modules have now: a `Trainer` resumes by them.

        By default some backbones are written under names of earlier releases, which `from_pretrained` translates and
        `Trainer` does not: a resumed run would silently start from fresh weights.
        """
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(*args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; changes of basis that were saved in half precision become orthogonal again."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for module in model.modules():
            if isinstance(module, OrthogonalTransform):
                module.repair_base_()
        return loaded


def make_backbone(config: Bt2TrunkConfig) -> PreTrainedModel:
    """The backbone of a configuration, with fresh weights; notes the length of its feature if only it can tell.

    Args:
        config ([`Bt2TrunkConfig`]): of the whole model.
    """
    backbone = AutoModel.from_config(config.backbone)
    if config.hidden_size is None:
        config.hidden_size = getattr(getattr(backbone, "timm_model", None), "num_features", None)
    if config.hidden_size is None:
        raise ValueError(f"`hidden_size` must be given for a backbone of type {config.backbone.model_type!r}")
    if config.pooling != "pooler" and isinstance(unused := getattr(backbone, "pooler", None), nn.Module):
        unused.requires_grad_(False)  # DDP would wait for its gradients
    return backbone


def run_backbone(
    config: Bt2TrunkConfig,
    backbone: PreTrainedModel,
    pixel_values: Tensor,
    output_hidden_states: bool | None,
    output_attentions: bool | None,
) -> ModelOutput:
    """The backbone's output, with the intermediate results that the caller or the configuration asks for.

    Args:
        config ([`Bt2TrunkConfig`]): of the whole model.
        backbone (`PreTrainedModel`): see [`make_backbone`].
        pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images.
        output_hidden_states (`bool`, *optional*): overrides the configuration.
        output_attentions (`bool`, *optional*): overrides the configuration.
    """
    asked = {}
    if config.output_hidden_states if output_hidden_states is None else output_hidden_states:
        asked["output_hidden_states"] = True
    if config.output_attentions if output_attentions is None else output_attentions:
        asked["output_attentions"] = True  # not passed as False: timm's wrapper knows no such argument for some models
    return backbone(pixel_values, return_dict=True, **asked)


def packed(config: Bt2TrunkConfig, output: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple:
    """The output as a tuple where the caller or the configuration wants one.

    Args:
        config ([`Bt2TrunkConfig`]): of the model.
        output (`ModelOutput`): to be returned.
        return_dict (`bool`, *optional*): overrides the configuration.
    """
    return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


def pooled_feature(config: Bt2TrunkConfig, outputs: ModelOutput) -> Tensor:
    """One vector per image.

    Args:
        config ([`Bt2TrunkConfig`]): tells the pooling.
        outputs (`ModelOutput`): of the backbone: tokens `(batch, tokens, hidden)` or maps `(batch, hidden, height, width)`.

    Returns:
        `Tensor` of shape `(batch, hidden_size)`.
    """
    if config.pooling == "pooler":
        pooled = outputs.get("pooler_output")
        if pooled is None:
            raise ValueError("`pooling='pooler'` needs a backbone with a pooler_output; take 'mean' or 'cls'")
        feature = pooled.flatten(1)  # convolutional backbones keep two sides of length one
    else:
        hidden = outputs["last_hidden_state"]
        maps = hidden.ndim == 4
        if maps and config.pooling == "cls":
            raise ValueError("`pooling='cls'` needs a backbone with tokens, this one has maps; take 'mean'")
        feature = hidden.mean((2, 3)) if maps else hidden.mean(1) if config.pooling == "mean" else hidden[:, 0]
    if config.hidden_size is not None and feature.shape[1] != config.hidden_size:
        raise ValueError(f"`hidden_size` is {config.hidden_size}, but the backbone's feature has {feature.shape[1]}")
    return feature


class CosineClassifier(nn.Linear):
    """Class vectors without bias on unit vectors, in float32 or better."""

    def __init__(self, config: Bt2TrunkConfig, dim: int) -> None:
        super().__init__(dim, config.num_labels or 0, bias=False)
        self.scale = config.logit_scale

    def forward(self, unit: Tensor) -> Tensor:
        with torch.autocast(unit.device.type, enabled=False):
            return self.scale * F.linear(unit, self.weight.to(unit.dtype))


class WithOldClasses:
    """Mixin: the mean old vector of every class, set for each training and never saved."""

    # A plain attribute: `from_pretrained` leaves a buffer that is not saved with whatever lies in memory.
    _prototypes: ClassPrototypes | None = None

    def set_old_prototypes(self, prototypes: ClassPrototypes) -> None:
        """Sets the class means of old vectors that the influence loss compares with. They are not saved.

        Args:
            prototypes ([`ClassPrototypes`]): see [`class_prototypes`].
        """
        config = self.config  # type: ignore[attr-defined]  # of the model that it is mixed into
        expected = (config.num_labels, config.old_dim)
        if tuple(prototypes.vectors.shape) != expected:
            raise ValueError(
                f"`prototypes` must have shape (num_labels, old_dim) = {expected}, got {tuple(prototypes.vectors.shape)}"
            )
        self._prototypes = prototypes

    def old_prototypes(self, device: torch.device) -> ClassPrototypes | None:
        """The class means on a device, if they have been set.

        Args:
            device (`torch.device`): of the embeddings to compare.
        """
        if self._prototypes is not None and self._prototypes.vectors.device != device:
            self._prototypes = ClassPrototypes(*(tensor.to(device) for tensor in self._prototypes))
        return self._prototypes
