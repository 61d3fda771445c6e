# SPDX-License-Identifier: Apache-2.0
"""What the models return."""

from dataclasses import dataclass

from torch import FloatTensor
from transformers.utils import ModelOutput

from eigenhub.models.state_space.cache import StateSpaceCache


@dataclass
class StateSpaceModelOutput(ModelOutput):
    """Output of a model without a head.

    Args:
        last_hidden_state (`FloatTensor` of shape `(batch, length, hidden_size)`): output at every step.
        past_key_values (`StateSpaceCache`, *optional*): the states after the last real step, with `use_cache=True`.
        hidden_states (`tuple`, *optional*): input of the first layer and output of each, with
            `output_hidden_states=True`.
        ssm_states (`tuple`, *optional*): states of each layer at every step, `(batch, length, ..., 2)` with real and
            imaginary parts, with `output_ssm_states=True`. A bidirectional layer stacks both directions in front of the
            state axes: `(batch, length, 2, ..., 2)`.
    """

    last_hidden_state: FloatTensor | None = None
    past_key_values: StateSpaceCache | None = None
    hidden_states: tuple[FloatTensor, ...] | None = None
    ssm_states: tuple[FloatTensor, ...] | None = None


@dataclass
class StateSpaceCausalLMOutput(ModelOutput):
    """Output of a language model.

    Args:
        loss (`FloatTensor` of shape `(1,)`, *optional*): loss, with `labels`.
        logits (`FloatTensor` of shape `(batch, length, vocab_size)`): scores of the next token.
        past_key_values (`StateSpaceCache`, *optional*): see [`StateSpaceModelOutput`].
        hidden_states (`tuple`, *optional*): see [`StateSpaceModelOutput`].
        ssm_states (`tuple`, *optional*): see [`StateSpaceModelOutput`].
    """

    loss: FloatTensor | None = None
    logits: FloatTensor | None = None
    past_key_values: StateSpaceCache | None = None
    hidden_states: tuple[FloatTensor, ...] | None = None
    ssm_states: tuple[FloatTensor, ...] | None = None


@dataclass
class StateSpaceHeadOutput(ModelOutput):
    """Output of a classifier or of a regression.

    Args:
        loss (`FloatTensor` of shape `(1,)`, *optional*): loss, with `labels`.
        logits (`FloatTensor` of shape `(batch, num_labels)`, or `(batch, length, num_labels)` for a time series): scores
            or values.
        hidden_states (`tuple`, *optional*): see [`StateSpaceModelOutput`].
        ssm_states (`tuple`, *optional*): see [`StateSpaceModelOutput`].
    """

    loss: FloatTensor | None = None
    logits: FloatTensor | None = None
    hidden_states: tuple[FloatTensor, ...] | None = None
    ssm_states: tuple[FloatTensor, ...] | None = None
