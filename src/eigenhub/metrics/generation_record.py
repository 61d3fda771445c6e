# SPDX-License-Identifier: Apache-2.0
"""What a model computes of its answers while it generates them, so that they need not be read again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics.answer_statistics import each_token_statistics
from eigenhub.metrics.decoder_blocks import base_model_of


class GenerationRecord:
    """One layer's state of every token that a model reads one by one, and how probable it was.

    Nothing is kept of the other layers, and of the logits only those of the last step. Active inside of its `with` block.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not, whose forward is called by keywords.
        index (`int`): see [`layer_index`][eigenhub.metrics.hidden_states.layer_index].
    """

    def __init__(self, model: nn.Module, index: int) -> None:
        self.module, self.index = base_model_of(model), index
        self._tokens: list[Tensor] = []
        self._states: list[Tensor] = []
        self._statistics: list[tuple[Tensor, Tensor]] = []
        self._logits: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> "GenerationRecord":
        self._handles = [
            self.module.register_forward_pre_hook(self._ask, with_kwargs=True),
            self.module.register_forward_hook(self._keep, with_kwargs=True),
        ]
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def answers(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """States, log-probabilities and entropies of the tokens behind the first one read.

        Args:
            ids (`Tensor` of shape `(n, t)`): what was generated.

        Returns:
            `(n, t, d)`, `(n, t)` and `(n, t)`; `None` if something else was read than these tokens.
        """
        if len(self._tokens) != ids.shape[1] + 1 or len({tokens.shape for tokens in self._tokens}) != 1:
            return None
        if not torch.equal(torch.stack(self._tokens[1:], dim=1).to(ids.device), ids):
            return None
        log_probs, entropies = (torch.stack(values, dim=1) for values in zip(*self._statistics, strict=True))
        return torch.stack(self._states[1:], dim=1), log_probs, entropies

    def _ask(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "output_hidden_states": [self.index]}

    def _keep(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        tokens = kwargs["input_ids"][:, -1]
        if self._logits is not None:
            self._statistics.append(each_token_statistics(self._logits, tokens.to(self._logits.device)))
        self._logits = output.logits[:, -1]
        self._tokens.append(tokens)
        self._states.append(output.hidden_states[self.index][:, -1].clone())
