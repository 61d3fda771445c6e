# SPDX-License-Identifier: Apache-2.0
"""Parameters that stay in float32 when a model is cast to half precision by `.to()` or `.half()`."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


HALF = (torch.bfloat16, torch.float16)


class Float32Parameters(nn.Module):
    """Mixin: named parameters and buffers of a module do not follow a cast below float32, device moves they do.

    `_keep_in_fp32_modules_strict` covers `from_pretrained` only. An eigenvalue stored in bfloat16 turns by 0.26 rad per
    step too much at n = 128, and some grow instead of decaying.
    """

    float32_names: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = {id(t) for t in self._float32_tensors()}

        def guarded(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            # cast back from the original: the bits that a half format drops cannot be restored
            return tensor.to(moved.device) if id(tensor) in kept and moved.dtype in HALF else moved

        return super()._apply(guarded, recurse)

    def _float32_tensors(self) -> list[Tensor]:
        found = (getattr(self, name, None) for name in self.float32_names)
        return [tensor for tensor in found if isinstance(tensor, Tensor) and tensor.dtype not in HALF]
