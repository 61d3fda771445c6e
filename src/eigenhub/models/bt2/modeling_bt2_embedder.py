# SPDX-License-Identifier: Apache-2.0
"""One embedding per image, trained alone (old and new teachers) or bound to an old model (BCT, OCA): BT2's company."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from eigenhub.models.bt2.bt2_outputs import Bt2EmbedderOutput
from eigenhub.models.bt2.bt2_trunk import (
    Bt2TrunkModel,
    CosineClassifier,
    WithOldClasses,
    make_backbone,
    packed,
    pooled_feature,
    run_backbone,
)
from eigenhub.models.bt2.configuration_bt2 import Bt2EmbedderConfig
from eigenhub.nn.compatibility import influence_loss, old_match_loss, weighted_sum
from eigenhub.nn.exact_region import exact_region
from eigenhub.nn.orthogonal_transform import OrthogonalTransform


class Bt2EmbedderForImageClassification(WithOldClasses, Bt2TrunkModel):
    r"""
    A backbone with one unit vector $z$ per image and a bias-free classifier on it.

    Without `old_dim` it is an independent model, such as both teachers of BT2 are. With it, $b = z_{:m}$ is bound to an
    old model by the influence loss (BCT; with more than `old_dim` coordinates its wide form), and with `orthogonal` by
    the loss of OCA, which needs no new teacher: $5\,\mathrm{CE} + 10\,\mathrm{influence} + 5\,\mathrm{mean}(1 - \hat b \cdot \hat A_y)$.

    Args:
        config ([`Bt2EmbedderConfig`]): sizes, backbone, weights, number of labels.

    Example:

    ```python
    >>> import torch
    >>> from transformers import ViTConfig
    >>> from eigenhub.models.bt2 import Bt2EmbedderConfig, Bt2EmbedderForImageClassification

    >>> backbone = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8,
    ...                      patch_size=4)
    >>> model = Bt2EmbedderForImageClassification(Bt2EmbedderConfig(backbone_config=backbone, embedding_dim=12))
    >>> model(pixel_values=torch.randn(2, 3, 8, 8)).embedding.shape
    torch.Size([2, 12])
    ```

    Shen et al., 2003.11942 (BCT); Ricci et al., 2408.08793 (OCA).
    """

    config: Bt2EmbedderConfig
    base_model_prefix = "embedder"

    def __init__(self, config: Bt2EmbedderConfig) -> None:
        super().__init__(config)
        self.backbone = make_backbone(config)
        self.projection = nn.Linear(config.feature_dim, config.embedding_dim)
        self.rotation = OrthogonalTransform(config.embedding_dim) if config.orthogonal else nn.Identity()
        self.classifier = CosineClassifier(config, config.embedding_dim)
        if not config.save_classifier:
            self._keys_to_ignore_on_save = {"classifier.weight"}
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple:
        r"""Vectors and logits of images, and the loss if there is something to learn from.

        Args:
            pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images as the backbone takes them.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes.
            output_hidden_states (`bool`, *optional*): whether to return those of the backbone.
            output_attentions (`bool`, *optional*): whether to return those of the backbone.
            return_dict (`bool`, *optional*): False returns a tuple.
        """
        outputs = run_backbone(self.config, self.backbone, pixel_values, output_hidden_states, output_attentions)
        embedding = self.embed(pooled_feature(self.config, outputs))
        logits = self.classifier(self.rotation(embedding))
        terms = {} if labels is None else self.loss_terms(embedding, logits, labels)
        output = Bt2EmbedderOutput(
            loss=weighted_sum(terms, self.config.loss_weights) if terms else None,
            logits=logits.to(self.dtype),
            embedding=embedding.to(self.dtype),
            loss_terms=terms or None,
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )
        return packed(self.config, output, return_dict)

    def embed(self, feature: Tensor) -> Tensor:
        """The unit vector of a pooled feature, in float32 or better.

        Args:
            feature (`Tensor` of shape `(batch, hidden_size)`): of the backbone.
        """
        feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
        weight, bias = (tensor.to(feature.dtype) for tensor in (self.projection.weight, self.projection.bias))
        with exact_region(feature.device.type):
            return F.normalize(F.linear(feature, weight, bias), dim=-1)

    def loss_terms(self, embedding: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, unweighted, by name.

        Args:
            embedding (`Tensor` of shape `(batch, embedding_dim)`): unit vectors.
            logits (`Tensor` of shape `(batch, num_labels)`): of the classes.
            labels (`Tensor` of shape `(batch,)`): classes.
        """
        terms = {"classification": F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)}
        prototypes = self.old_prototypes(logits.device)
        if prototypes is None:
            if self.training and self.config.old_dim is not None:
                raise ValueError("training with `old_dim` needs `set_old_prototypes`")
            return terms
        compat = embedding[:, : self.config.old_dim]
        terms["influence"] = influence_loss(compat, prototypes.vectors, labels, prototypes.present)
        if self.config.prototype_weight:
            seen = prototypes.present[labels]
            # no mean over an empty set: a batch may hold unseen classes alone
            match = old_match_loss(compat[seen], prototypes.vectors[labels[seen]]) if seen.any() else compat.sum() * 0
            terms["prototype_match"] = match
        return terms


def teacher_of(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """The vectors by which a model of this package teaches: its whole embedding, without gradients, in evaluation mode.

    The training mode is restored afterwards: a teacher whose BatchNorm statistics move is no longer the one that wrote
    the old index.

    Args:
        model (`nn.Module`): returns an output with `embedding`.
        pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return model(pixel_values=pixel_values).embedding
    finally:
        for module, training in modes:
            module.training = training
