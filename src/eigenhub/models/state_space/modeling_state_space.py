# SPDX-License-Identifier: Apache-2.0
"""The model without a head: encoder, blocks, and the state that goes from one piece of a sequence to the next."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.output_capturing import capture_outputs

from eigenhub.models.state_space.block import StateSpaceBlock
from eigenhub.models.state_space.cache import StateSpaceCache, check_cache
from eigenhub.models.state_space.configuration_state_space import StateSpaceConfig
from eigenhub.models.state_space.encoder import TokenEncoder, ValueEncoder, encode
from eigenhub.models.state_space.normalization import MaskedBatchNorm, make_norm
from eigenhub.models.state_space.optimizer_watch import watch_optimizer
from eigenhub.models.state_space.outputs import StateSpaceModelOutput
from eigenhub.models.state_space.padding import check_mask
from eigenhub.models.state_space.timing import step_deltas


class StateSpacePreTrainedModel(PreTrainedModel):
    """Loading, saving and starting values of all state space models."""

    config: StateSpaceConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = "text"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ["StateSpaceBlock"]
    _can_record_outputs = {"hidden_states": StateSpaceBlock}
    _is_stateful = True
    cache_class: ClassVar[type[StateSpaceCache]] = StateSpaceCache

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MaskedBatchNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)


class StateSpaceModel(StateSpacePreTrainedModel):
    """A stack of state space layers over tokens or real values.

    Args:
        config (`StateSpaceConfig`): configuration.
    """

    irregular_times: ClassVar[bool] = False

    def __init__(self, config: StateSpaceConfig) -> None:
        super().__init__(config)
        if config.input_size is not None:
            self.encoder: TokenEncoder | ValueEncoder = ValueEncoder(config.input_size, config.hidden_size)
        else:
            self.encoder = TokenEncoder(config.vocab_size or 0, config.hidden_size, config.token_bias)
        layers = (StateSpaceBlock(config, self.make_mixer(config)) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.final_norm = make_norm(config.final_norm_type, config.hidden_size, config.bn_momentum)
        self.gradient_checkpointing = False
        self.post_init()

    def make_mixer(self, config: StateSpaceConfig) -> nn.Module:
        """What the blocks of this family hold.

        Args:
            config (`StateSpaceConfig`): configuration.
        """
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens, or the linear map of values."""
        return self.encoder.embed_tokens if isinstance(self.encoder, TokenEncoder) else self.encoder.embed_values

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace it.

        Args:
            value (`nn.Module`): the new one.
        """
        name = "embed_tokens" if isinstance(self.encoder, TokenEncoder) else "embed_values"
        setattr(self.encoder, name, value)

    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_values: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: StateSpaceCache | None = None,
        use_cache: bool | None = None,
        time_deltas: Tensor | None = None,
        timestamps: Tensor | None = None,
        output_ssm_states: bool = False,
        **kwargs: Any,
    ) -> StateSpaceModelOutput:
        """Outputs at every step.

        Args:
            input_ids (`Tensor` of shape `(batch, length)`, *optional*): tokens, for a model with `vocab_size`.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real steps. Pads may stand on either
                side; holes between real steps count as steps with zero input.
            input_values (`Tensor` of shape `(batch, length, input_size)`, *optional*): values, for a model with `input_size`.
            inputs_embeds (`Tensor` of shape `(batch, length, hidden_size)`, *optional*): in place of either.
            past_key_values (`StateSpaceCache`, *optional*): where an earlier piece of the sequences ended; updated in place.
            use_cache (`bool`, *optional*): return the states; by default in evaluation, if the model is causal and its
                configuration says so, and whenever `past_key_values` is given.
            time_deltas (`Tensor` of shape `(batch, length)`, *optional*): gap before each step, for irregular sampling.
            timestamps (`Tensor` of shape `(batch, length)`, *optional*): times, in place of gaps.
            output_ssm_states (`bool`, *optional*, defaults to `False`): return the states at every step.
        """
        hidden_states = encode(self.encoder, input_ids, input_values, inputs_embeds)
        batch, length = hidden_states.shape[:2]
        cache = self._cache(past_key_values, use_cache, batch)
        continues = cache is not None and cache.get_seq_length() > 0
        mask = check_mask(attention_mask, batch, length, continues) if self.config.mask_padding else None
        deltas = self._deltas(time_deltas, timestamps, mask, (batch, length), continues)
        if self.training:
            watch_optimizer(self)
        states, recorded = [], []
        for index, layer in enumerate(self.layers):
            state = None if cache is None else cache.get_state(index)
            hidden_states, state, all_states = layer(
                hidden_states, state, mask, deltas, cache is not None, output_ssm_states
            )
            states.append(state)
            recorded.append(all_states)
        if cache is not None:
            cache.update_states(states, length)
        return StateSpaceModelOutput(
            last_hidden_state=self.final_norm(hidden_states, mask),
            past_key_values=cache,
            ssm_states=tuple(recorded) if output_ssm_states else None,
        )

    def _cache(self, given: StateSpaceCache | None, use_cache: bool | None, batch: int) -> StateSpaceCache | None:
        if not self.config.has_state:
            if given is not None or use_cache:
                reason = "`bidirectional=True`" if self.config.bidirectional else "`discretization='dss'`"
                raise ValueError(f"`use_cache` and `past_key_values` need a model that has a state, but {reason}")
            return None
        if given is not None:
            check_cache(given, len(self.layers), batch)
            return given
        wanted = self.config.use_cache and not self.training if use_cache is None else use_cache
        return self.cache_class(len(self.layers)) if wanted else None

    def _deltas(
        self,
        time_deltas: Tensor | None,
        timestamps: Tensor | None,
        mask: Tensor | None,
        shape: tuple[int, int],
        continues: bool,
    ) -> Tensor | None:
        if not self.irregular_times and (time_deltas is not None or timestamps is not None):
            raise ValueError(f"{type(self).__name__} takes evenly sampled sequences; for `timestamps` use S5")
        return step_deltas(time_deltas, timestamps, mask, shape, continues)
