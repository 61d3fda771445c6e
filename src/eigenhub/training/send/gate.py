# SPDX-License-Identifier: Apache-2.0
"""A mask on the activations of one block, by hooks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics.decoder_blocks import map_hidden
from eigenhub.training.send.config import SITES


class ActivationGate:
    """Multiplies chosen activations of a block by zero, gradients included.

    The mask is one tensor whose values are changed in place: a model compiled after the gate was attached follows it
    without compiling again. It is no buffer, so that state dicts stay those of the plain model, and moves by itself to the
    device and dtype of what it meets. The hook stands in front of the others, so captured hidden states show the mask.

    Args:
        module (`nn.Module`): the block, or the down projection for site `"mlp"`.
        size (`int`): indices at the site.
        site (`str`, *optional*, defaults to `"hidden"`): `"hidden"`: the output; `"mlp"`: the input; `"update"`: the
            difference of both.
        mask_in_eval (`bool`, *optional*, defaults to `False`): also in eval mode.
        rescale (`bool`, *optional*, defaults to `False`): multiply what is kept by size / kept.
        dropout (`float`, *optional*, defaults to 0.0): standard dropout at the site in train mode, instead of a mask.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.training.send import ActivationGate
    >>> layer = torch.nn.Linear(4, 4)
    >>> gate = ActivationGate(layer, size=4)
    >>> gate.set_dropped([0, 2])
    >>> layer(torch.ones(4)).count_nonzero().item()
    2
    >>> gate.remove()
    ```
    """

    def __init__(
        self,
        module: nn.Module,
        size: int,
        site: str = "hidden",
        mask_in_eval: bool = False,
        rescale: bool = False,
        dropout: float = 0.0,
    ) -> None:
        if site not in SITES:
            raise ValueError(f"`site` must be one of {', '.join(SITES)}, got {site!r}")
        if size < 1:
            raise ValueError(f"`size` must be at least 1, got {size}")
        self.module, self.size, self.site = module, size, site
        self.mask_in_eval, self.rescale, self.dropout = mask_in_eval, rescale, dropout
        self.dropped: list[int] = []
        like = next(module.parameters(), None)
        self.mask = torch.ones(size, device=None if like is None or like.is_meta else like.device)
        self._handles = self._attach()

    def set_dropped(self, indices: Sequence[int] | Tensor) -> None:
        """Drops these indices and no others.

        Args:
            indices (`Sequence[int]` or `Tensor`): from 0 to below `size`, each once; none to drop nothing.
        """
        chosen = [int(index) for index in indices]
        if len(set(chosen)) != len(chosen) or any(not 0 <= index < self.size for index in chosen):
            raise ValueError(f"`indices` must be different and from 0 to {self.size - 1}, got {chosen}")
        if len(chosen) == self.size:
            raise ValueError(f"`indices` must leave one of {self.size} activations")
        self.dropped = sorted(chosen)
        self._write()

    def _write(self) -> None:
        values = torch.ones(self.size)
        values[self.dropped] = 0.0
        if self.rescale:
            values *= self.size / (self.size - len(self.dropped))
        self.mask.copy_(values)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """A block in which nothing is dropped: what is dropped would never seem to move."""
        rate, self.dropout = self.dropout, 0.0
        self.mask.fill_(1.0)
        try:
            yield
        finally:
            self.dropout = rate
            self._write()

    def remove(self) -> None:
        """Takes the hooks off; the model is as it was before."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _attach(self) -> list[Any]:
        if self.site == "mlp":
            return [self.module.register_forward_pre_hook(self._before_mlp, prepend=True)]
        with_input = self.site == "update"
        hook = self._after_update if with_input else self._after_hidden
        return [self.module.register_forward_hook(hook, with_kwargs=with_input, prepend=True)]

    def _before_mlp(self, module: nn.Module, inputs: tuple) -> tuple | None:
        return (self._gated(inputs[0], module), *inputs[1:]) if self._acts(module) else None

    def _after_hidden(self, module: nn.Module, inputs: tuple, output: Any) -> Any:
        return map_hidden(output, lambda hidden: self._gated(hidden, module)) if self._acts(module) else None

    def _after_update(self, module: nn.Module, inputs: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        if not self._acts(module):
            return None
        before = inputs[0] if inputs else kwargs["hidden_states"]
        # not before + mask * (output - before): what is kept must not be rounded twice, and with no index dropped the
        # output must stay as it is to the bit
        if self.dropout or self.rescale:
            return map_hidden(output, lambda hidden: before + self._gated(hidden - before, module))
        kept = self._on(before) != 0
        return map_hidden(output, lambda hidden: torch.where(kept, hidden, before))

    def _acts(self, module: nn.Module) -> bool:
        return module.training or (self.mask_in_eval and not self.dropout)

    def _gated(self, hidden: Tensor, module: nn.Module) -> Tensor:
        if self.dropout:
            return nn.functional.dropout(hidden, self.dropout, module.training)
        return hidden * self._on(hidden).to(hidden.dtype)

    def _on(self, hidden: Tensor) -> Tensor:
        mask = self.mask
        if mask.device != hidden.device:  # the model has moved
            mask = self.mask = mask.to(hidden.device)
        return mask
