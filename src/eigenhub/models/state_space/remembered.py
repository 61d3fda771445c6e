# SPDX-License-Identifier: Apache-2.0
"""Values that depend on parameters alone, computed once while the parameters do not change."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn


T = TypeVar("T")


class Remembered(NamedTuple):
    """A result with what it was computed from."""

    key: Hashable
    inputs: list[Tensor]
    result: Any


class RemembersWhileFrozen(nn.Module):
    """Mixin: keeps discretised matrices or kernels between calls without gradient, such as the steps of `generate`.

    Nothing has to be reset by hand: a whole sequence compares the values of the parameters, so that a copy of averaged
    weights into `parameter.data`, which torch counts as no change, is seen. The steps that follow look at version counters
    and addresses alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._remembered: dict[str, Remembered] = {}

    def remember(
        self,
        name: str,
        compute: Callable[[], T],
        parameters: Iterable[Tensor],
        *settings: Hashable,
        one_step: bool = False,
    ) -> T:
        """`compute()`, or its last result if neither parameters nor settings have changed since.

        Args:
            name (`str`): what is computed; one result of each name is kept.
            compute (`Callable`): the computation.
            parameters (`Iterable[Tensor]`): every tensor that it reads.
            settings (`Hashable`): everything else that it depends on.
            one_step (`bool`, *optional*, defaults to `False`): leave the comparison of values out, which would cost as much
                as a step does.
        """
        parameters = list(parameters)
        changing = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if changing or any(p.is_inference() or p.is_meta for p in parameters):
            return compute()
        key = (settings, *((p.data_ptr(), p._version, p.device, p.dtype) for p in parameters))
        kept = self._remembered.get(name)
        if kept is None or kept.key != key or not (one_step or all(map(torch.equal, kept.inputs, parameters))):
            kept = Remembered(key, [p.detach().clone() for p in parameters], compute())
            self._remembered[name] = kept
        return kept.result

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_remembered": {}}
