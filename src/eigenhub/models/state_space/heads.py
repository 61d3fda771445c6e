# SPDX-License-Identifier: Apache-2.0
"""Heads for classification and regression, the same for every state space model."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import can_return_tuple

from eigenhub.models.state_space.modeling_state_space import StateSpaceModel, StateSpacePreTrainedModel
from eigenhub.models.state_space.outputs import StateSpaceHeadOutput
from eigenhub.models.state_space.pooling import pool_sequence


class StateSpaceHead(StateSpacePreTrainedModel):
    """A model with a linear decoder.

    Args:
        config (`StateSpaceConfig`): configuration; `num_labels` is the size of the output.
    """

    backbone_class: ClassVar[type[StateSpaceModel]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.loss_type = "ForSequenceClassification"  # transformers goes by the name of the class, and knows no pairs
        self.model = self.backbone_class(config)
        self.make_head(config)
        self.post_init()

    def make_head(self, config: Any) -> None:
        """Add the modules after the backbone.

        Args:
            config (`StateSpaceConfig`): configuration.
        """
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def classify(self, features: Tensor, labels: Tensor | None, outputs: Any) -> StateSpaceHeadOutput:
        """Decode, and compare with the labels by what `config.problem_type` says.

        Args:
            features (`Tensor` of shape `(batch, hidden_size)`): features of each sequence.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes, or values for a regression.
            outputs (`StateSpaceModelOutput`): output of the backbone.
        """
        logits = self.classifier(features)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return StateSpaceHeadOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, ssm_states=outputs.ssm_states
        )


class StateSpaceForSequenceClassification(StateSpaceHead):
    """One label for a sequence of tokens or values."""

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_values: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        time_deltas: Tensor | None = None,
        timestamps: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> StateSpaceHeadOutput:
        """Scores of the classes; the arguments are those of [`StateSpaceModel`], and `labels`.

        Args:
            input_ids (`Tensor` of shape `(batch, length)`, *optional*): tokens.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real steps.
            input_values (`Tensor` of shape `(batch, length, input_size)`, *optional*): values.
            inputs_embeds (`Tensor` of shape `(batch, length, hidden_size)`, *optional*): in place of either.
            time_deltas (`Tensor` of shape `(batch, length)`, *optional*): gap before each step.
            timestamps (`Tensor` of shape `(batch, length)`, *optional*): times, in place of gaps.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes, or values for a regression.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            input_values=input_values,
            inputs_embeds=inputs_embeds,
            time_deltas=time_deltas,
            timestamps=timestamps,
            **(kwargs | {"use_cache": False}),
        )
        features = pool_sequence(outputs.last_hidden_state, attention_mask, self.config.pooling)
        return self.classify(features, labels, outputs)


class StateSpaceForSequencePairClassification(StateSpaceHead):
    """One label for a pair of sequences, both read by the same model: the retrieval task of the Long Range Arena.

    With the pooled features a and b of the two, a dense layer reads [a, b, a - b, a ⊙ b].
    """

    auto_class_name = "AutoModelForSequenceClassification"  # in an export, see `eigenhub.hub.export_model`

    def make_head(self, config: Any) -> None:
        self.pair = nn.Linear(4 * config.hidden_size, config.hidden_size)
        super().make_head(config)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_values: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> StateSpaceHeadOutput:
        """Scores of the classes.

        Args:
            input_ids (`Tensor` of shape `(batch, 2, length)`, *optional*): tokens of both sequences.
            attention_mask (`Tensor` of shape `(batch, 2, length)`, *optional*): nonzero at real steps.
            input_values (`Tensor` of shape `(batch, 2, length, input_size)`, *optional*): values of both sequences.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "input_values": input_values}
        flat = {name: _flatten_pair(name, tensor) for name, tensor in given.items()}
        outputs = self.model(**flat, **(kwargs | {"use_cache": False}))
        pooled = pool_sequence(outputs.last_hidden_state, flat["attention_mask"], self.config.pooling)
        a, b = pooled.unflatten(0, (-1, 2)).unbind(1) if len(pooled) else (pooled, pooled)
        features = F.gelu(self.pair(torch.cat([a, b, a - b, a * b], dim=-1)), approximate="tanh")
        return self.classify(features, labels, outputs)


def _flatten_pair(name: str, tensor: Tensor | None) -> Tensor | None:
    if tensor is None:
        return None
    if tensor.ndim < 3 or tensor.shape[1] != 2:
        raise ValueError(f"`{name}` must have shape (batch, 2, length, ...), got {tuple(tensor.shape)}")
    return tensor.flatten(0, 1)


class StateSpaceForImageClassification(StateSpaceHead):
    """One label for an image, read pixel by pixel in rows from top to bottom."""

    main_input_name = "pixel_values"
    input_modalities = "image"

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> StateSpaceHeadOutput:
        """Scores of the classes.

        Args:
            pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images of any size; there must be
                `input_size` channels.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes.
        """
        size = self.config.input_size
        if pixel_values.ndim != 4 or pixel_values.shape[1] != size:
            wanted = f"(batch, {size}, height, width)"
            raise ValueError(f"`pixel_values` must have shape {wanted}, got {tuple(pixel_values.shape)}")
        outputs = self.model(input_values=pixel_values.flatten(2).mT, **(kwargs | {"use_cache": False}))
        return self.classify(pool_sequence(outputs.last_hidden_state, None, self.config.pooling), labels, outputs)


class StateSpaceForAudioClassification(StateSpaceHead):
    """One label for a waveform."""

    main_input_name = "input_values"
    input_modalities = "audio"

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> StateSpaceHeadOutput:
        """Scores of the classes.

        Args:
            input_values (`Tensor` of shape `(batch, length)` or `(batch, length, input_size)`): raw audio.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real samples.
            labels (`Tensor` of shape `(batch,)`, *optional*): classes.
        """
        outputs = self.model(
            input_values=input_values, attention_mask=attention_mask, **(kwargs | {"use_cache": False})
        )
        features = pool_sequence(outputs.last_hidden_state, attention_mask, self.config.pooling)
        return self.classify(features, labels, outputs)


class StateSpaceForTimeSeriesRegression(StateSpaceHead):
    """Values at every step of a sequence, sampled evenly or not."""

    main_input_name = "input_values"
    input_modalities = "time"

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        time_deltas: Tensor | None = None,
        timestamps: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> StateSpaceHeadOutput:
        """`num_labels` values at every step; the loss is the mean squared error over the real steps.

        Args:
            input_values (`Tensor` of shape `(batch, length, input_size)`): what was observed.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real steps.
            time_deltas (`Tensor` of shape `(batch, length)`, *optional*): gap before each step.
            timestamps (`Tensor` of shape `(batch, length)`, *optional*): times, in place of gaps.
            labels (`Tensor` of shape `(batch, length, num_labels)`, *optional*): true values.
        """
        outputs = self.model(
            input_values=input_values,
            attention_mask=attention_mask,
            time_deltas=time_deltas,
            timestamps=timestamps,
            **(kwargs | {"use_cache": False}),
        )
        logits = self.classifier(outputs.last_hidden_state)
        return StateSpaceHeadOutput(
            loss=None if labels is None else _masked_error(logits, labels, attention_mask),  # type: ignore[arg-type]
            logits=logits,
            hidden_states=outputs.hidden_states,
            ssm_states=outputs.ssm_states,
        )


def _masked_error(values: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    if labels.shape != values.shape:
        raise ValueError(f"`labels` must have shape {tuple(values.shape)}, got {tuple(labels.shape)}")
    errors = F.mse_loss(values.float(), labels.float(), reduction="none").mean(-1)
    if mask is None:
        return errors.mean()
    real = mask != 0
    return torch.where(real, errors, 0.0).sum() / real.sum().clamp(min=1)
