# SPDX-License-Identifier: Apache-2.0
"""Values that depend on parameters alone, computed once while the parameters do not change."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn


T = TypeVar("T")


class RemembersWhileFrozen(nn.Module):
    """Mixin: keeps discretised matrices or kernels between calls without gradient, such as the steps of `generate`.

    A change of a parameter is seen by its version counter or its address, so nothing has to be reset by hand.
    """

    def __init__(self) -> None:
        super().__init__()
        self._remembered: dict[str, tuple[Hashable, Any]] = {}

    def remember(self, name: str, compute: Callable[[], T], parameters: Iterable[Tensor], *settings: Hashable) -> T:
        """`compute()`, or its last result if neither parameters nor settings have changed since.

        Args:
            name (`str`): what is computed; one result of each name is kept.
            compute (`Callable`): the computation.
            parameters (`Iterable[Tensor]`): every tensor that it reads.
            settings (`Hashable`): everything else that it depends on.
        """
        parameters = list(parameters)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or any(p.is_inference() for p in parameters):
            return compute()
        key = (settings, *((p.data_ptr(), p._version, p.device, p.dtype) for p in parameters))
        kept = self._remembered.get(name)
        if kept is None or kept[0] != key:
            kept = self._remembered[name] = (key, compute())
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_remembered": {}}
