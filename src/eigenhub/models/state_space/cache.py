# SPDX-License-Identifier: Apache-2.0
"""The states that a causal model carries from one piece of a sequence to the next: of constant size, whatever came before."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, LinearAttentionLayer


class StateSpaceCacheLayer(LinearAttentionLayer):
    """State of one layer, `(batch, ..., 2)` with real and imaginary parts, kept with its graph while one trains."""

    is_compileable = False

    def lazy_initialization(  # type: ignore[override]
        self, conv_states: Tensor | None = None, recurrent_states: Tensor | None = None, state_idx: int = 0
    ) -> None:
        if conv_states is not None:
            raise ValueError("`conv_states` must be None: state space layers have no convolution state")
        if recurrent_states is not None:
            self.update_recurrent_state(recurrent_states, state_idx)

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        # assigned, not copied as upstream does: a copy in place would break the graph of truncated backpropagation
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = self.has_previous_state[state_idx] = True
        self.dtype, self.device = recurrent_states.dtype, recurrent_states.device  # type: ignore[assignment]
        return recurrent_states

    @property
    def state(self) -> Tensor | None:
        """The state, `None` before the first update."""
        return self.recurrent_states[0]

    @property
    def batch_size(self) -> int:
        if self.state is None:
            raise AttributeError("batch_size")  # so that `Cache.batch_size` passes an empty layer over
        return self.state.shape[0]

    def reset(self) -> None:
        self.recurrent_states[0] = None
        self.is_recurrent_states_initialized[0] = self.has_previous_state[0] = False

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.state is not None:
            self.recurrent_states[0] = self.state.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.state is not None:
            self.recurrent_states[0] = self.state[indices.to(self.state.device)]


class StateSpaceCache(Cache):
    """Cache of a whole model: one state per layer and the number of steps seen.

    Pass it as `past_key_values` to go on where the last piece ended, in generation and in training alike: gradients flow
    back through it until [`~StateSpaceCache.detach`] cuts them. Its size does not depend on the number of steps.

    Args:
        num_layers (`int`): number of layers of the model, `config.num_hidden_layers`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.s5_ptd import S5Cache, S5Config, S5Model
    >>> model = S5Model(S5Config(hidden_size=8, state_size=8, num_blocks=1, num_hidden_layers=2)).eval()
    >>> cache = S5Cache(model.config.num_hidden_layers)
    >>> tokens = torch.arange(10)[None]
    >>> parts = [model(part, past_key_values=cache).last_hidden_state for part in tokens.split(4, dim=1)]
    >>> cache.get_seq_length()
    10
    >>> bool(torch.allclose(torch.cat(parts, 1), model(tokens).last_hidden_state, atol=1e-5))
    True
    ```
    """

    layers: list[StateSpaceCacheLayer]  # type: ignore[assignment]  # a list of one kind only
    _is_user_defined: bool

    def __init__(self, num_layers: int) -> None:
        if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
            raise ValueError(f"`num_layers` must be an integer of at least 1, got {num_layers!r}")
        super().__init__(layers=[StateSpaceCacheLayer() for _ in range(num_layers)])
        self._seen = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of steps seen, pads included.

        Args:
            layer_idx (`int`, *optional*, defaults to 0): accepted for the sake of other caches; all layers agree.
        """
        return self._seen

    def get_state(self, layer_idx: int) -> Tensor | None:
        """State of a layer, `None` before the first step.

        Args:
            layer_idx (`int`): index of the layer.
        """
        return self.layers[layer_idx].state

    def update_states(self, states: list[Tensor], length: int) -> None:
        """Take over the states of all layers after `length` more steps.

        Args:
            states (`list[Tensor]`): one state per layer.
            length (`int`): number of steps that led to them.
        """
        for layer, state in zip(self.layers, states, strict=True):
            layer.update_recurrent_state(state)
        self._seen += length

    def detach(self) -> "StateSpaceCache":
        """A cache with the same states cut off the graph: the boundary of truncated backpropagation through time."""
        twin = copy.copy(self)
        twin.layers = [copy.copy(layer) for layer in self.layers]
        for layer in twin.layers:
            layer.recurrent_states = {0: None if layer.state is None else layer.state.detach()}
            layer.is_recurrent_states_initialized = dict(layer.is_recurrent_states_initialized)
            layer.has_previous_state = dict(layer.has_previous_state)
        return twin

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._seen = 0

    @property
    def num_bytes(self) -> int:
        """Memory of all states: constant in the number of steps."""
        states = (layer.state for layer in self.layers)
        return sum(state.numel() * state.element_size() for state in states if state is not None)


def check_cache(cache: Any, num_layers: int, batch: int) -> None:
    """Raise `ValueError` unless `cache` is a [`StateSpaceCache`] that fits the model and the batch.

    Args:
        cache (`Any`): what was given as `past_key_values`.
        num_layers (`int`): number of layers of the model.
        batch (`int`): number of sequences.
    """
    if not isinstance(cache, StateSpaceCache):
        raise ValueError(f"`past_key_values` must be a StateSpaceCache such as S5Cache, got {type(cache).__name__}")
    if len(cache) != num_layers:
        raise ValueError(f"`past_key_values` must have {num_layers} layers as the model has, got {len(cache)}")
    held = cache.batch_size
    if held not in (-1, batch):
        raise ValueError(f"`past_key_values` holds states of {held} sequences, but the input has {batch}")


def hold_states(new: Tensor, old: Tensor, mask: Tensor | None) -> Tensor:
    """`new` where a row has a real step and `old` where it has a pad.

    Args:
        new (`Tensor` of shape `(batch, ..., 2)`): states after one step.
        old (`Tensor` of shape `(batch, ..., 2)`): states before it.
        mask (`Tensor` of shape `(batch, 1)`, *optional*): nonzero at real steps.
    """
    if mask is None:
        return new
    return torch.where(mask.view(-1, *[1] * (new.ndim - 1)).bool(), new, old)
