# SPDX-License-Identifier: Apache-2.0
"""One residual layer of a model."""

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from eigenhub.models.state_space.configuration_state_space import StateSpaceConfig
from eigenhub.models.state_space.dropout import SequenceDropout
from eigenhub.models.state_space.normalization import make_norm


class StateSpaceBlock(GradientCheckpointingLayer):
    """`x + dropout(mixer(norm(x)))`, or `norm(x + dropout(mixer(x)))` with `prenorm=False`.

    States come in and go out as tensors instead of through the cache, so that gradient checkpointing may run the block twice.

    Args:
        config (`StateSpaceConfig`): configuration.
        mixer (`nn.Module`): what is between norm and dropout.
    """

    def __init__(self, config: StateSpaceConfig, mixer: nn.Module) -> None:
        super().__init__()
        self.prenorm, self.residual = config.prenorm, config.residual
        self.norm = make_norm(config.norm_type, config.hidden_size, config.bn_momentum)
        self.mixer = mixer
        self.dropout = SequenceDropout(config.hidden_dropout, config.tie_dropout)

    def forward(
        self,
        hidden_states: Tensor,
        state: Tensor | None = None,
        mask: Tensor | None = None,
        time_deltas: Tensor | None = None,
        return_state: bool = False,
        return_states: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Output, final state and states of every step.

        Args:
            hidden_states (`Tensor` of shape `(batch, length, features)`): input.
            state (`Tensor`, *optional*): state before the first step.
            mask (`Tensor` of shape `(batch, length)`, *optional*): True at real steps.
            time_deltas (`Tensor` of shape `(batch, length)`, *optional*): gap before each step.
            return_state (`bool`, *optional*, defaults to `False`): return the state after the last real step.
            return_states (`bool`, *optional*, defaults to `False`): return the states at every step.
        """
        x = self.norm(hidden_states, mask) if self.prenorm else hidden_states
        y, state, states = self.mixer(x, mask, state, time_deltas, return_state, return_states)
        y = self.dropout(y)
        y = hidden_states + y if self.residual else y
        return y if self.prenorm else self.norm(y, mask), state, states
