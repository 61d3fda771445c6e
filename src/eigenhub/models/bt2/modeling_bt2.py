# SPDX-License-Identifier: Apache-2.0
"""Images to vectors that an old index understands: BT2 on any backbone of transformers."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers.utils import ModelOutput

from eigenhub.models.bt2.bt2_outputs import Bt2ImageClassifierOutput, Bt2ModelOutput
from eigenhub.models.bt2.bt2_trunk import (
    Bt2TrunkModel,
    CosineClassifier,
    WithOldClasses,
    make_backbone,
    packed,
    pooled_feature,
    run_backbone,
)
from eigenhub.models.bt2.configuration_bt2 import Bt2Config
from eigenhub.nn.basis_head import BasisTransformationHead, BasisTransformationOutput
from eigenhub.nn.compatibility import compat_losses, weighted_sum
from eigenhub.nn.folded_head import FoldedHead


class Bt2PreTrainedModel(Bt2TrunkModel):
    """Binds the models below to [`Bt2Config`]."""

    config: Bt2Config
    base_model_prefix = "bt2"

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers; a folded model has lost its parametrisation and is refused."""
        if any(isinstance(module, FoldedHead) for module in self.modules()):
            raise ValueError("a folded model is for inference only: save it before `fold_()`")
        super().save_pretrained(*args, **kwargs)


class Bt2Model(Bt2PreTrainedModel):
    r"""
    A backbone under a [`BasisTransformationHead`].

    Args:
        config ([`Bt2Config`]): sizes and backbone.

    Example:

    ```python
    >>> import torch
    >>> from transformers import ViTConfig
    >>> from eigenhub.models.bt2 import Bt2Config, Bt2Model

    >>> backbone = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8,
    ...                      patch_size=4)
    >>> model = Bt2Model(Bt2Config(backbone_config=backbone, new_dim=12, old_dim=8, added_dim=4))
    >>> output = model(pixel_values=torch.randn(2, 3, 8, 8))
    >>> output.embedding.shape, output.compat_embedding.shape
    (torch.Size([2, 16]), torch.Size([2, 8]))
    ```

    Zhou et al., 2211.03989. Departure: projections on one pooled feature for every backbone, instead of channel slices of
    a widened ResNet block; see [`BasisTransformationHead`] for the others.
    """

    _keys_to_ignore_on_load_unexpected = [r"classifier"]  # of a training checkpoint

    def __init__(self, config: Bt2Config) -> None:
        super().__init__(config)
        self.backbone = make_backbone(config)
        self.head: BasisTransformationHead | FoldedHead = BasisTransformationHead(
            config.feature_dim,
            config.new_dim,
            config.old_dim,
            config.added_dim,
            config.scale,
            config.added,
            rank=config.basis_rank,
        )
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple:
        r"""Vectors of images.

        Args:
            pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images as the backbone takes them.
            output_hidden_states (`bool`, *optional*): whether to return those of the backbone.
            output_attentions (`bool`, *optional*): whether to return those of the backbone.
            return_dict (`bool`, *optional*): False returns a tuple.
        """
        vectors, outputs = self.encode(pixel_values, output_hidden_states, output_attentions)
        return packed(self.config, Bt2ModelOutput(**self.fields(vectors, outputs)), return_dict)

    def encode(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, output_attentions: bool | None = None
    ) -> tuple[BasisTransformationOutput, ModelOutput]:
        """The vectors in float32 or better, and the backbone's output.

        Args:
            pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images as the backbone takes them.
            output_hidden_states (`bool`, *optional*): whether to return those of the backbone.
            output_attentions (`bool`, *optional*): whether to return those of the backbone.
        """
        outputs = run_backbone(self.config, self.backbone, pixel_values, output_hidden_states, output_attentions)
        return self.head(pooled_feature(self.config, outputs)), outputs

    def fields(self, vectors: BasisTransformationOutput, outputs: ModelOutput) -> dict[str, Any]:
        """The fields of the output that do not depend on labels, vectors in the dtype of the model.

        Args:
            vectors ([`BasisTransformationOutput`]): see [`Bt2Model.encode`].
            outputs (`ModelOutput`): of the backbone.
        """
        dtype = self.backbone.dtype
        return {
            "embedding": vectors.embedding.to(dtype),
            "compat_embedding": vectors.compat.to(dtype),
            "new_embedding": vectors.new.to(dtype),
            "hidden_states": outputs.get("hidden_states"),
            "attentions": outputs.get("attentions"),
        }

    def fold_(self) -> "Bt2Model":
        """Replaces the parametrised changes of basis by fixed matrices, for inference and export; not undone.

        Returns:
            [`Bt2Model`]: itself.
        """
        if isinstance(self.head, BasisTransformationHead):
            self.head = FoldedHead(self.head)
        return self


class Bt2ForImageClassification(WithOldClasses, Bt2PreTrainedModel):
    r"""
    A [`Bt2Model`] with what it takes to train it: a bias-free classifier on the new embedding and the four terms

    $$\mathrm{CE}(f w^\top, y) + \lambda_1\,\mathrm{mean}(1 - f \cdot v) + \lambda_2\,\mathrm{CE}(\hat b A^\top, y)
    + \lambda_3\,\mathrm{mean}(1 - \hat b \cdot o)$$

    `Trainer` passes teacher vectors as the columns `old_embedding` and `new_embedding`. The loss consists of the terms
    that the given columns allow.

    Args:
        config ([`Bt2Config`]): sizes, backbone, weights, number of labels.

    Example:

    ```python
    >>> import torch
    >>> from transformers import ViTConfig
    >>> from eigenhub.models.bt2 import Bt2Config, Bt2ForImageClassification, class_prototypes

    >>> backbone = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8,
    ...                      patch_size=4)
    >>> config = Bt2Config(backbone_config=backbone, new_dim=12, old_dim=8, added_dim=4, num_labels=2)
    >>> model = Bt2ForImageClassification(config)
    >>> labels, old, new = torch.tensor([0, 1]), torch.randn(2, 8), torch.randn(2, 12)
    >>> model.set_old_prototypes(class_prototypes(old, labels, num_classes=2))
    >>> output = model(torch.randn(2, 3, 8, 8), labels=labels, old_embedding=old, new_embedding=new)
    >>> list(output.loss_terms)
    ['classification', 'new_teacher', 'influence', 'old_match']
    ```
    """

    def __init__(self, config: Bt2Config) -> None:
        super().__init__(config)
        self.bt2 = Bt2Model(config)
        self.classifier = CosineClassifier(config, config.new_dim)
        if not config.save_classifier:
            self._keys_to_ignore_on_save = {"classifier.weight"}
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        old_embedding: Tensor | None = None,
        new_embedding: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple:
        r"""Vectors and logits of images, and the loss if there is something to learn from.

        Args:
            pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images as the backbone takes them.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes.
            old_embedding (`Tensor` of shape `(batch, old_dim)`, *optional*): the old model's vectors of the images.
            new_embedding (`Tensor` of shape `(batch, new_dim)`, *optional*): the new teacher's vectors of the images.
            output_hidden_states (`bool`, *optional*): whether to return those of the backbone.
            output_attentions (`bool`, *optional*): whether to return those of the backbone.
            return_dict (`bool`, *optional*): False returns a tuple.
        """
        vectors, outputs = self.bt2.encode(pixel_values, output_hidden_states, output_attentions)
        logits = self.classifier(vectors.new)
        terms = self.loss_terms(vectors, logits, labels, old_embedding, new_embedding)
        output = Bt2ImageClassifierOutput(
            loss=weighted_sum(terms, self.config.loss_weights) if terms else None,
            logits=logits.to(self.dtype),
            loss_terms=terms or None,
            **self.bt2.fields(vectors, outputs),
        )
        return packed(self.config, output, return_dict)

    def loss_terms(
        self,
        vectors: BasisTransformationOutput,
        logits: Tensor,
        labels: Tensor | None,
        old_embedding: Tensor | None,
        new_embedding: Tensor | None,
    ) -> dict[str, Tensor]:
        """The terms of the loss that the given columns allow, unweighted, by name.

        Args:
            vectors ([`BasisTransformationOutput`]): of the head.
            logits (`Tensor` of shape `(batch, num_labels)`): of the classes.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes.
            old_embedding (`Tensor` of shape `(batch, old_dim)`, *optional*): old vectors.
            new_embedding (`Tensor` of shape `(batch, new_dim)`, *optional*): vectors of the new teacher.
        """
        prototypes = self.old_prototypes(logits.device)
        if self.training and labels is not None and prototypes is None and self.config.influence_weight > 0:
            raise ValueError(
                "training with labels needs the class means of old vectors: call "
                "`set_old_prototypes(class_prototypes(old_vectors, labels, num_labels))`, or set influence_weight to 0"
            )
        terms = {}
        if labels is not None:
            terms["classification"] = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        return terms | compat_losses(vectors, new_embedding, old_embedding, labels, prototypes)
