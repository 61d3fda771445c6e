# SPDX-License-Identifier: Apache-2.0
"""Output classes of the BT2 models."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class Bt2ModelOutput(ModelOutput):
    """
    Output of a [`Bt2Model`]; vectors are in the dtype of the model, computed in float32.

    Args:
        embedding (`Tensor` of shape `(batch, new_dim + added_dim)`): unit vectors, what a new index stores.
        compat_embedding (`Tensor` of shape `(batch, old_dim)`): its first coordinates, which query an old index.
        new_embedding (`Tensor` of shape `(batch, new_dim)`): unit vectors, comparable with the new teacher.
        hidden_states (`tuple(Tensor)`, *optional*): of the backbone.
        attentions (`tuple(Tensor)`, *optional*): of the backbone.
    """

    embedding: Tensor | None = None
    compat_embedding: Tensor | None = None
    new_embedding: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class Bt2ImageClassifierOutput(ModelOutput):
    """
    Output of a [`Bt2ForImageClassification`]; vectors are in the dtype of the model, computed in float32.

    Args:
        loss (`Tensor`, *optional*): the weighted sum of `loss_terms`.
        logits (`Tensor` of shape `(batch, num_labels)`): of the classes.
        embedding (`Tensor` of shape `(batch, new_dim + added_dim)`): unit vectors, what a new index stores.
        compat_embedding (`Tensor` of shape `(batch, old_dim)`): its first coordinates, which query an old index.
        new_embedding (`Tensor` of shape `(batch, new_dim)`): unit vectors, comparable with the new teacher.
        loss_terms (`dict[str, Tensor]`, *optional*): unweighted terms by name.
        hidden_states (`tuple(Tensor)`, *optional*): of the backbone.
        attentions (`tuple(Tensor)`, *optional*): of the backbone.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    embedding: Tensor | None = None
    compat_embedding: Tensor | None = None
    new_embedding: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class Bt2EmbedderOutput(ModelOutput):
    """
    Output of a [`Bt2EmbedderForImageClassification`]; vectors are in the dtype of the model, computed in float32.

    Args:
        loss (`Tensor`, *optional*): the weighted sum of `loss_terms`.
        logits (`Tensor` of shape `(batch, num_labels)`): of the classes.
        embedding (`Tensor` of shape `(batch, embedding_dim)`): unit vectors.
        loss_terms (`dict[str, Tensor]`, *optional*): unweighted terms by name.
        hidden_states (`tuple(Tensor)`, *optional*): of the backbone.
        attentions (`tuple(Tensor)`, *optional*): of the backbone.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    embedding: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
