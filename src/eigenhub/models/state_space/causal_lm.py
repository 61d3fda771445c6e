# SPDX-License-Identifier: Apache-2.0
"""Language models that generate with a state of constant size."""

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin
from transformers.utils import can_return_tuple

from eigenhub.models.state_space.cache import StateSpaceCache
from eigenhub.models.state_space.modeling_state_space import StateSpaceModel, StateSpacePreTrainedModel
from eigenhub.models.state_space.outputs import StateSpaceCausalLMOutput


class StateSpaceForCausalLM(StateSpacePreTrainedModel, GenerationMixin):
    """A language model.

    Args:
        config (`StateSpaceConfig`): configuration of a causal model over tokens.
    """

    accepts_loss_kwargs = True
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}
    backbone_class: ClassVar[type[StateSpaceModel]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._check(config)
        self.vocab_size = config.vocab_size
        self.model = self.backbone_class(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _check(self, config: Any) -> None:
        name = type(self).__name__
        if config.bidirectional:
            raise ValueError(f"`bidirectional` must be False in {name}: a language model may not see what comes after")
        if config.vocab_size is None:
            raise ValueError(f"`vocab_size` must be given for {name}, got `input_size={config.input_size}`")
        if config.norm_type == "batch" and not config.force_batch_norm:
            raise ValueError(
                f"`norm_type='batch'` leaks across time in {name}: use 'layer', or say `force_batch_norm=True`"
            )

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: StateSpaceCache | None = None,
        use_cache: bool | None = None,
        time_deltas: Tensor | None = None,
        timestamps: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> StateSpaceCausalLMOutput:
        """Scores of the next token at every step.

        Args:
            input_ids (`Tensor` of shape `(batch, length)`, *optional*): tokens.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real tokens, pads on either side.
            inputs_embeds (`Tensor` of shape `(batch, length, hidden_size)`, *optional*): in place of tokens.
            past_key_values (`StateSpaceCache`, *optional*): where an earlier piece ended; updated in place.
            use_cache (`bool`, *optional*): return the states; by default in evaluation.
            time_deltas (`Tensor` of shape `(batch, length)`, *optional*): gap before each step.
            timestamps (`Tensor` of shape `(batch, length)`, *optional*): times, in place of gaps.
            labels (`Tensor` of shape `(batch, length)`, *optional*): tokens to predict, shifted inside; -100 is left out.
            logits_to_keep (`int` or `Tensor`, *optional*, defaults to 0): compute the scores of so many last steps, or of
                the steps with these indices; 0 is all of them.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            use_cache=use_cache,
            time_deltas=time_deltas,
            timestamps=timestamps,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
        return StateSpaceCausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            ssm_states=outputs.ssm_states,
        )

    def _prepare_cache_for_generation(  # type: ignore[override]  # what it returns is not used
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """A cache of ours instead of `DynamicCache`, which cannot hold layers without attention alone."""
        given, kind = model_kwargs.get("past_key_values"), generation_config.cache_implementation
        if kind not in (None, "dynamic"):
            raise ValueError(
                f"`cache_implementation` must be None or 'dynamic', got {kind!r}: the state has a constant size already"
            )
        if given is not None:
            if not isinstance(given, StateSpaceCache):
                raise ValueError(
                    f"`past_key_values` must be a {self.cache_class.__name__}, got {type(given).__name__}"
                )
            given._is_user_defined = True
        elif generation_config.use_cache:
            model_kwargs["past_key_values"] = self.cache_class(self.config.num_hidden_layers)
