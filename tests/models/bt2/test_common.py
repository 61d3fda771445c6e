# SPDX-License-Identifier: Apache-2.0
"""The contract of the kind *model* for the image models, over a transformer and over a convolutional network."""

from pathlib import Path
from typing import Any

import torch
from transformers import ResNetConfig, ViTConfig

from eigenhub.models.bt2 import (
    Bt2EmbedderForImageClassification,
    Bt2ForImageClassification,
    Bt2Model,
    class_prototypes,
)
from tests.common.model_case import Inputs, assert_equal_tensors, tensors_of
from tests.common.model_saving import Saving
from tests.common.model_tester import ModelTester, classes, wave
from tests.common.model_trainer import UnderTrainer
from tests.common.model_training import Training


VIT: dict[str, Any] = ViTConfig(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    image_size=8,
    patch_size=4,
    num_channels=1,
).to_dict()
RESNET: dict[str, Any] = ResNetConfig(
    num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic"
).to_dict()
SIZES = {"new_dim": 6, "old_dim": 5, "added_dim": 2}
LABELS = 3


class Bt2Case:
    """Inputs and prototypes; mixed in before a tester."""

    float32_names = ("skew", "left", "right", "base")
    bad_configs = [
        ({"added_dim": -1}, "0 <= added_dim"),
        ({"added_dim": 6}, "added_dim <= old_dim"),
        ({"old_dim": 9}, "old_dim <= new_dim \\+ added_dim"),
        ({"scale": 0.0}, "`scale` must satisfy 0 < scale"),
        ({"added": "plain"}, "`added` must be one of normalized, linear; got 'plain'"),
        ({"basis_rank": 3}, "`rank` must be between 1 and d // 2 = 2, got 3"),
        ({"influence_weight": -1.0}, "weight of `influence` must be at least 0, got -1"),
        ({"old_model": {"id": "old", "dim": 7}}, "`old_model` has dim 7, but `old_dim` is 5"),
        ({"backbone_config": {"hidden_size": 8}}, "must name its model_type, got the keys \\['hidden_size'\\]"),
        ({"pooling": "max"}, "pooling"),
        ({"logit_scale": 0.0}, "`logit_scale` must be positive, got 0"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be in"),
        ({"hidden_size": 0}, "`hidden_size` must be at least 1, got 0"),
    ]

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        return {
            "pixel_values": wave(batch, 1, 8, 8),
            "labels": classes(batch, LABELS),
            "old_embedding": wave(batch, SIZES["old_dim"], frequency=1.3),
            "new_embedding": wave(batch, SIZES["new_dim"], frequency=1.9),
        }

    @classmethod
    def model(cls, seed: int = 0, **overrides: Any) -> Any:
        model = super().model(seed, **overrides)  # type: ignore[misc]  # mixed in before a tester
        if hasattr(model, "set_old_prototypes"):
            old = wave(9, SIZES["old_dim"], frequency=2.3)
            model.set_old_prototypes(class_prototypes(old, classes(9, LABELS), LABELS))
        return model

    def test_trained_values_survive(self, tmp_path: Path) -> None:
        """As in the tester, but for bases, which any other value than an orthogonal one would not survive."""
        model = self.model()
        with torch.no_grad():
            for name, tensor in tensors_of(model).items():
                if tensor.dtype.is_floating_point and not name.endswith("base"):
                    tensor.add_(0.01 * torch.rand(tensor.shape))
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path)
        assert_equal_tensors(loaded, model)
        assert not torch.equal(self.answer(loaded), self.answer(self.model()))  # type: ignore[attr-defined]

    def test_an_empty_batch_gives_an_empty_answer(self) -> None:
        """Attention in transformers' ViT does not take an empty batch; what comes after it does."""
        model = self.model()
        feature = torch.zeros(0, model.config.feature_dim)
        trunk = getattr(model, "bt2", model)
        empty = trunk.head(feature).embedding if hasattr(trunk, "head") else trunk.embed(feature)
        assert empty.shape == (0, model.config.embedding_dim)


class TestBt2ForImageClassification(Bt2Case, ModelTester):
    compiles = True
    model_class = Bt2ForImageClassification
    config = {"backbone_config": VIT, **SIZES, "num_labels": LABELS}
    auto_class = "AutoModelForImageClassification"


class TestBt2OverResNet(Bt2Case, Saving):
    model_class = Bt2ForImageClassification
    config = {"backbone_config": RESNET, **SIZES, "num_labels": LABELS, "added": "linear", "basis_rank": 1}
    auto_class = "AutoModelForImageClassification"
    bad_configs = []


class TestBt2Model(Bt2Case, Saving):
    model_class = Bt2Model
    config = {"backbone_config": VIT, **SIZES}
    output = "embedding"
    auto_class = "AutoModel"

    @classmethod
    def questions(cls, batch: int = 2) -> Inputs:
        return {"pixel_values": wave(batch, 1, 8, 8)}


class TestBt2Embedder(Bt2Case, Saving, Training, UnderTrainer):
    model_class = Bt2EmbedderForImageClassification
    config = {
        "backbone_config": VIT,
        "embedding_dim": 7,
        "old_dim": 5,
        "orthogonal": True,
        "prototype_weight": 5.0,
        "num_labels": LABELS,
    }
    auto_class = "AutoModelForImageClassification"
    bad_configs = [
        ({"embedding_dim": 0, "old_dim": None}, "`embedding_dim` must be at least 1, got 0"),
        ({"old_dim": 8}, "`old_dim` must be between 1 and embedding_dim = 7, got 8"),
        ({"prototype_weight": -1.0}, "weight of `prototype_match` must be at least 0"),
    ]

    @classmethod
    def inputs(cls, batch: int = 2) -> Inputs:
        return {"pixel_values": wave(batch, 1, 8, 8), "labels": classes(batch, LABELS)}
