# SPDX-License-Identifier: Apache-2.0
"""The server's step of FedSVD: the same product B A, with orthonormal rows in A and the singular values in B."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenhub.federated.lora_keys import LoraKeys, as_matrix, pair_lora_keys
from eigenhub.linalg.lowrank import refactor_product


@dataclass(frozen=True)
class RefactorResult:
    """What [`refactor_lora`] returns.

    Args:
        B (`Tensor` of shape `(..., d_out, r)`): left factor; its column norms are the singular values.
        A (`Tensor` of shape `(..., r, d_in)`): right factor with orthonormal rows.
        singular_values (`Tensor` of shape `(..., min(d_out, r))`): of the product, descending, in float64.
        effective_rank (`Tensor` of shape `(...)`): how many of them exceed the rounding error of the stored factors. A
            report only: nothing is cut off by it.
    """

    B: Tensor
    A: Tensor
    singular_values: Tensor
    effective_rank: Tensor


def refactor_lora(B: Tensor, A: Tensor, sign_rule: str = "largest_positive") -> RefactorResult:
    r"""Refactor one LoRA layer, or a stack of equal ones, so that A has orthonormal rows and $B A$ stays the same.

    $B' = U_r S_r$ and $A' = V_r^\top$ from the SVD $B A = U S V^\top$ (FedSVD, arXiv 2505.12805), found in
    $O((d_{out} + d_{in}) r^2)$ and float64 without forming the product; see [`eigenhub.linalg.refactor_product`]. Since
    the row space of $B A$ lies in that of $A$, so do all rows of $A'$, also where $B$ is zero or of lower rank; released
    code fills up with arbitrary directions there.

    Args:
        B (`Tensor` of shape `(..., d_out, r)`): of any floating dtype.
        A (`Tensor` of shape `(..., r, d_in)`): `r <= d_in`.
        sign_rule (`str`, *optional*, defaults to `"largest_positive"`): or `"none"`; see
            [`eigenhub.linalg.refactor_product`].

    Returns:
        [`RefactorResult`], with the factors in the dtypes they came in.

    Raises:
        ValueError: shapes that do not fit, `r > d_in`, or entries that are not finite.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.federated import refactor_lora
    >>> result = refactor_lora(torch.randn(32, 4), torch.randn(4, 16))
    >>> torch.allclose(result.A @ result.A.mT, torch.eye(4), atol=1e-6)
    True
    ```
    """
    for name, factor in (("B", B), ("A", A)):
        if not factor.is_floating_point():
            raise ValueError(f"`{name}` must be of a floating dtype, got {factor.dtype}")
        if factor.is_meta:
            raise ValueError(f"`{name}` is on the meta device: it has no values yet")
    b, s, a = refactor_product(B, A, sign_rule)
    eps = max(torch.finfo(B.dtype).eps, torch.finfo(A.dtype).eps)
    floor = s[..., :1] * max(B.shape[-2], A.shape[-1]) * eps  # the convention of matrix_rank
    return RefactorResult(b.to(B.dtype), a.to(A.dtype), s, (s > floor).sum(-1))


def refactor_state_dict(state_dict: Mapping[str, Tensor], sign_rule: str = "largest_positive") -> dict[str, Tensor]:
    """A copy of an adapter's state dict in which every layer is refactored; other tensors are passed on.

    Args:
        state_dict (`Mapping[str, Tensor]`): of a saved LoRA adapter, `adapter_model.safetensors`.
        sign_rule (`str`, *optional*, defaults to `"largest_positive"`): see [`refactor_lora`].

    Returns:
        `dict[str, Tensor]`: with the same keys, shapes and dtypes.
    """
    return {**state_dict, **refactored(state_dict, sign_rule)[0]}


def refactored(
    state_dict: Mapping[str, Tensor], sign_rule: str = "largest_positive"
) -> tuple[dict[str, Tensor], dict[str, RefactorResult]]:
    """The new factors of every LoRA layer by key, and what each layer's refactorisation found by its name.

    Layers of equal shape go through one batched call.

    Args:
        state_dict (`Mapping[str, Tensor]`): with both factors of every layer.
        sign_rule (`str`, *optional*, defaults to `"largest_positive"`): see [`refactor_lora`].
    """
    groups: dict[tuple, list[tuple[str, LoraKeys]]] = defaultdict(list)
    for name, keys in pair_lora_keys(state_dict).items():
        a, b = (state_dict[key] for key in keys)
        groups[b.shape, b.dtype, b.device, a.shape, a.dtype].append((name, keys))
    state: dict[str, Tensor] = {}
    found: dict[str, RefactorResult] = {}
    for layers in groups.values():
        result = _refactor_group(dict(layers), state_dict, sign_rule)
        columns = (result.B, result.A, result.singular_values, result.effective_rank)
        for (name, keys), *parts in zip(layers, *columns, strict=True):
            found[name] = RefactorResult(*parts)
            state[keys.B] = parts[0].reshape(state_dict[keys.B].shape).contiguous()
            state[keys.A] = parts[1].reshape(state_dict[keys.A].shape).contiguous()
    return state, {name: found[name] for name in sorted(found)}


def _refactor_group(layers: Mapping[str, LoraKeys], state: Mapping[str, Tensor], sign_rule: str) -> RefactorResult:
    b = torch.stack([as_matrix(state[keys.B]) for keys in layers.values()])
    a = torch.stack([as_matrix(state[keys.A]) for keys in layers.values()])
    try:
        return refactor_lora(b, a, sign_rule)
    except ValueError as error:
        torn = [
            name for name, x, y in zip(layers, b, a, strict=True) if not (x.isfinite().all() and y.isfinite().all())
        ]
        raise ValueError(f"layer `{(torn or list(layers))[0]}`: {error}") from None
