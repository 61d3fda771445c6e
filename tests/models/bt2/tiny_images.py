# SPDX-License-Identifier: Apache-2.0
"""Tiny image models for the tests of BT2."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, ResNetConfig, ViTConfig

from eigenhub.models.bt2 import (
    Bt2Config,
    Bt2EmbedderConfig,
    Bt2EmbedderForImageClassification,
    Bt2ForImageClassification,
    class_prototypes,
)


LABELS = 3


def tiny_vit(**overrides: Any) -> ViTConfig:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTConfig(**(shape | {"image_size": 8, "patch_size": 4, "num_channels": 1} | overrides))


def tiny_resnet() -> ResNetConfig:
    return ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")


def tiny_bt2(
    backbone: PreTrainedConfig | None = None, prototypes: bool = True, **overrides: Any
) -> Bt2ForImageClassification:
    """A classifier with prototypes of random old vectors."""
    sizes = {"new_dim": 6, "old_dim": 5, "added_dim": 2, "num_labels": LABELS}
    model = Bt2ForImageClassification(Bt2Config(backbone_config=backbone or tiny_vit(), **(sizes | overrides)))
    if prototypes:
        old = torch.randn(9, model.config.old_dim)
        model.set_old_prototypes(class_prototypes(old, torch.arange(9) % LABELS, LABELS))
    return model


def tiny_embedder(backbone: PreTrainedConfig | None = None, **overrides: Any) -> Bt2EmbedderForImageClassification:
    sizes = {"embedding_dim": 6, "num_labels": LABELS}
    return Bt2EmbedderForImageClassification(
        Bt2EmbedderConfig(backbone_config=backbone or tiny_vit(), **(sizes | overrides))
    )


def batch(rows: int = 6, new_dim: int = 6, old_dim: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Images with labels and the vectors of both teachers."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(rows, 1, 8, 8, generator=generator),
        "labels": torch.arange(rows) % LABELS,
        "old_embedding": torch.randn(rows, old_dim, generator=generator),
        "new_embedding": torch.randn(rows, new_dim, generator=generator),
    }
