# SPDX-License-Identifier: Apache-2.0
"""AdamW for the parameters that are no matrices, with torch's own kernels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from eigenhub.optim.sharding import aligned_part, local_part, zeros_beside


STATE_DTYPES = ("float32", "bfloat16", "float64")


def state_dtype_of(parameter: Tensor, wanted: str | None) -> torch.dtype:
    """Dtype of the state: as asked for, else that of the parameter; float32 for float16, where `eps` would underflow."""
    if wanted is not None:
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    return torch.float32 if parameter.dtype == torch.float16 else parameter.dtype


def compute_dtype_of(parameter: Tensor) -> torch.dtype:
    """Dtype of the arithmetic: float32, or float64 for float64 parameters."""
    return torch.promote_types(parameter.dtype, torch.float32)


def adamw_step(
    parameters: Sequence[Tensor], states: Sequence[dict[str, Any]], group: dict[str, Any], lr: float
) -> None:
    """One step of AdamW; creates `step`, `exp_avg` and `exp_avg_sq` where they are missing.

    Args:
        parameters (`Sequence[Tensor]`): with gradients, which stay untouched.
        states (`Sequence[dict]`): their states.
        group (`dict`): uses `betas`, `eps`, `weight_decay`, `maximize`, `foreach` and `state_dtype`.
        lr (`float`): step size.
    """
    for parameter, state in zip(parameters, states, strict=True):
        if "step" not in state:
            dtype = state_dtype_of(parameter, group["state_dtype"])
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = zeros_beside(parameter, dtype)
            state["exp_avg_sq"] = zeros_beside(parameter, dtype)
    own = [local_part(parameter) for parameter in parameters]
    moments = [[local_part(state[key]) for state in states] for key in ("exp_avg", "exp_avg_sq")]
    # In whichever is wider, the parameter or its state: a narrow state must not round the parameter.
    dtypes = [torch.promote_types(p.dtype, m.dtype) for p, m in zip(own, moments[0], strict=True)]
    stored = [own, *moments]
    work = [[t.to(dtype) for t, dtype in zip(tensors, dtypes, strict=True)] for tensors in stored]
    grads = [
        aligned_part(p.grad, p).to(dtype) for p, dtype in zip(parameters, dtypes, strict=True) if p.grad is not None
    ]
    beta1, beta2 = group["betas"]
    adamw(
        work[0],
        grads,
        work[1],
        work[2],
        [],
        [state["step"] for state in states],
        foreach=False if group["foreach"] is False else None,
        fused=True if group["foreach"] is not False and _fusible(*work, grads) else None,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=lr,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )
    for kept, computed in zip(stored, work, strict=True):
        for target, value in zip(kept, computed, strict=True):
            if value is not target:
                target.copy_(value)


def _fusible(*lists: Sequence[Tensor]) -> bool:
    """Whether torch's one-pass CPU kernel may run; elsewhere it would want the step counts on the device.

    It walks through memory without looking at strides, so channels-last weights with plain gradients would be mixed up.
    """
    return all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensors in lists for tensor in tensors)
