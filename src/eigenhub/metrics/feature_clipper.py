# SPDX-License-Identifier: Apache-2.0
"""Test-time clipping of extreme activations (INSIDE, arXiv 2402.03744, section 3.3)."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics.decoder_blocks import block_at, map_hidden
from eigenhub.metrics.hidden_states import evaluating


class FeatureClipper:
    r"""Clips the hidden states behind a block to quantiles of states seen before, against overconfident generations.

    $h_i \mapsto \min(\max(h_i, a_i), b_i)$, where $a_i$ and $b_i$ are the `quantile` and `1 - quantile` quantiles of
    feature i in a memory bank of the last `capacity` tokens. Fill the bank with [`collect`] or [`observe`], then use the
    object as a context manager; outside of the block the model is as it was.

    Args:
        module (`nn.Module`): the block; see [`for_model`].
        quantile (`float`, *optional*, defaults to 0.002): share that is clipped on each side, below 0.5.
        capacity (`int`, *optional*, defaults to 3000): tokens in the bank; the oldest are dropped.
        per_feature (`bool`, *optional*, defaults to `True`): thresholds for each feature, or one pair for all of them.

    Example:

    ```python
    clipper = FeatureClipper.for_model(model)
    clipper.collect(model, batches)
    with clipper:
        scores = scorer.generate_and_score(prompts)
    ```
    """

    def __init__(
        self, module: nn.Module, quantile: float = 0.002, capacity: int = 3000, per_feature: bool = True
    ) -> None:
        if not 0 <= quantile < 0.5:
            raise ValueError(f"`quantile` must be from 0 to below 0.5, got {quantile}")
        if capacity < 1:
            raise ValueError(f"`capacity` must be at least 1, got {capacity}")
        self.module = module
        self.quantile, self.capacity, self.per_feature = quantile, capacity, per_feature
        self.bank: Tensor | None = None
        self._handle: Any = None
        self._limits: tuple[Tensor, Tensor] | None = None

    @classmethod
    def for_model(cls, model: nn.Module, layer: int = -2, path: str | None = None, **options: Any) -> "FeatureClipper":
        """For a block of a transformers model.

        Args:
            model (`nn.Module`): PEFT-wrapped or not.
            layer (`int`, *optional*, defaults to -2): block; -2 is the penultimate hidden state.
            path (`str`, *optional*): dotted name of the list of blocks, where the search fails.
            options (`Any`): of the class.
        """
        return cls(block_at(model, layer, path), **options)

    def observe(self, states: Tensor, mask: Tensor | None = None) -> None:
        """Puts token states into the bank.

        Args:
            states (`Tensor` of shape `(..., d)`): half precision is kept as float32.
            mask (`Tensor` of shape `(...)`, *optional*): true for the tokens that count.
        """
        rows = states.detach().flatten(0, -2) if mask is None else states.detach()[mask.to(states.device, torch.bool)]
        if not torch.isfinite(rows).all():
            raise ValueError("`states` has entries that are NaN or infinite")
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        bank = rows if self.bank is None else torch.cat([self.bank.to(rows.device), rows])
        self.bank = bank[-self.capacity :].clone()
        self._limits = None

    def collect(self, model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> None:
        """Runs a model over batches and puts the states of its tokens into the bank, not clipped.

        Args:
            model (`nn.Module`): that holds the block.
            batches (`Iterable[Mapping]`): keyword arguments of its forward; padding is where `attention_mask` is 0.
        """
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        if self._handle is not None:
            raise RuntimeError("leave the `with` block before collecting: the states in it are clipped")
        handle = self.module.register_forward_hook(keep)
        try:
            with evaluating(model):
                for batch in batches:
                    model(**batch)
                    self.observe(seen.pop(), batch.get("attention_mask"))
        finally:
            handle.remove()

    def thresholds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper limits, `(d,)` each, or scalars if they are not per feature.

        Raises:
            ValueError: the bank is empty.
        """
        if self.bank is None or not len(self.bank):
            raise ValueError("the memory bank is empty: call `collect` or `observe` first")
        if self._limits is None:
            values = self.bank if self.per_feature else self.bank.flatten()[:, None]
            ordered = values.sort(0).values  # torch.quantile refuses more than 16 million entries
            low, high = (_quantile(ordered, q) for q in (self.quantile, 1 - self.quantile))
            self._limits = (low, high) if self.per_feature else (low[0], high[0])
        return self._limits

    def clip(self, states: Tensor) -> Tensor:
        """States between the limits, in their own dtype.

        Args:
            states (`Tensor` of shape `(..., d)`): any.
        """
        low, high = (limit.to(states) for limit in self.thresholds())
        return states.clamp(low, high)

    def __enter__(self) -> "FeatureClipper":
        self.thresholds()  # an empty bank is an error here, not in the middle of a generation
        if self._handle is not None:
            raise RuntimeError("this clipper is active already")
        # in front of the hooks that capture hidden states, so that they see what the next block sees
        self._handle = self.module.register_forward_hook(
            lambda module, inputs, output: map_hidden(output, self.clip), prepend=True
        )
        return self

    def __exit__(self, *error: Any) -> None:
        self._handle.remove()
        self._handle = None


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """Linear interpolation between the order statistics, along the first dimension."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)
