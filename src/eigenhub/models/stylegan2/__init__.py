# SPDX-License-Identifier: Apache-2.0
"""StyleGAN2 with Householder projectors: a generator whose layers carry orthonormal editing directions (arXiv 2307.08012)."""

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from eigenhub.models.stylegan2.augmentation import AdaptiveAugment
from eigenhub.models.stylegan2.averaging import average_decay, averaged_copy, update_average
from eigenhub.models.stylegan2.configuration_stylegan2 import StyleGAN2Config
from eigenhub.models.stylegan2.conversion import load_checkpoint
from eigenhub.models.stylegan2.direction_files import LabelledDirections, load_directions, save_directions
from eigenhub.models.stylegan2.directions import Directions, layer_directions, sefa_directions
from eigenhub.models.stylegan2.losses import (
    PathLengthPenalty,
    discriminator_loss,
    generator_loss,
    hessian_penalty,
    jacobian_penalty,
    r1_penalty,
)
from eigenhub.models.stylegan2.modeling_stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from eigenhub.models.stylegan2.networks import StyleGAN2Networks
from eigenhub.models.stylegan2.nvidia_format import load_nvidia, save_nvidia
from eigenhub.models.stylegan2.rosinality_format import load_rosinality, save_rosinality
from eigenhub.models.stylegan2.style_mixing import mix_styles, mixed_latents
from eigenhub.models.stylegan2.stylegan2_outputs import StyleGAN2DiscriminatorOutput, StyleGAN2Output
from eigenhub.models.stylegan2.traversal import traverse


AutoConfig.register(StyleGAN2Config.model_type, StyleGAN2Config, exist_ok=True)
AutoModel.register(StyleGAN2Config, StyleGAN2Generator, exist_ok=True)
AutoModelForImageClassification.register(StyleGAN2Config, StyleGAN2Discriminator, exist_ok=True)  # real or not

__all__ = [
    "AdaptiveAugment",
    "Directions",
    "LabelledDirections",
    "PathLengthPenalty",
    "StyleGAN2Config",
    "StyleGAN2Discriminator",
    "StyleGAN2DiscriminatorOutput",
    "StyleGAN2Generator",
    "StyleGAN2Networks",
    "StyleGAN2Output",
    "average_decay",
    "averaged_copy",
    "discriminator_loss",
    "generator_loss",
    "hessian_penalty",
    "jacobian_penalty",
    "layer_directions",
    "load_checkpoint",
    "load_directions",
    "load_nvidia",
    "load_rosinality",
    "mix_styles",
    "mixed_latents",
    "r1_penalty",
    "save_directions",
    "save_nvidia",
    "save_rosinality",
    "sefa_directions",
    "traverse",
    "update_average",
]
