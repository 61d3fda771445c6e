# SPDX-License-Identifier: Apache-2.0
"""Steps during the backward pass, so that the gradients of a model never exist all at once."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from eigenhub.optim.base import MatrixOptimizer


class SpentGradient(Tensor):
    """Stands where a gradient was that has been used and freed; whatever wants to read or add to it is refused.

    Args:
        parameter (`Tensor`): whose gradient it was.
    """

    @staticmethod
    def __new__(cls, parameter: Tensor) -> "SpentGradient":
        made: SpentGradient = Tensor._make_wrapper_subclass(
            cls, parameter.shape, dtype=parameter.dtype, device=parameter.device
        )
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        raise RuntimeError(
            f"{func} needs a gradient that was used and freed during the backward pass (`step_in_backward`): this mode has "
            "no norm of all gradients to clip or log (which `Trainer` does in every step), no accumulation and no "
            "GradScaler; call `step()` after every `backward()`"
        )


def step_in_backward(optimizer: MatrixOptimizer) -> Sequence[RemovableHandle]:
    """Update every parameter as soon as its gradient is complete, and free the gradient at once.

    The largest gradient takes the place of all of them in memory. The training loop stays as it is: `step()` only closes
    the step, schedules and saved states work as ever, and the result is the same. What would have needed all gradients
    raises instead of being left out silently: clipping, accumulation, `GradScaler`, a closure, several processes; and
    `Trainer`, which measures the norm of all gradients in every step.

    Args:
        optimizer (`MatrixOptimizer`): one of this package.

    Returns:
        `Sequence[RemovableHandle]`: `remove()` on all of them ends the mode.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.optim import DCTAdamW, step_in_backward
    >>> model = torch.nn.Linear(8, 8)
    >>> optimizer = DCTAdamW(model.parameters(), lr=0.1)
    >>> handles = step_in_backward(optimizer)
    >>> model(torch.ones(1, 8)).sum().backward()
    >>> optimizer.step()
    >>> print(model.weight.grad)
    None
    ```
    """

    @torch.no_grad()
    def use(parameter: Tensor) -> None:
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise RuntimeError("`step_in_backward` would use gradients before the processes have added theirs up")
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        optimizer.step_parameters(group, [parameter])
        parameter.grad = SpentGradient(parameter)

    trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    hooks = [parameter.register_post_accumulate_grad_hook(use) for parameter in trained]
    return [*hooks, optimizer.register_step_pre_hook(_close_step)]


def _close_step(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if any(value is not None for value in (*args[1:], *kwargs.values())):  # the first is the optimizer itself
        raise ValueError(
            "`closure` cannot evaluate the model again: the parameters have moved during the backward pass"
        )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if isinstance(parameter.grad, SpentGradient):
                parameter.grad = None
