# SPDX-License-Identifier: Apache-2.0
"""Refactoring the adapter of a PEFT model in place."""

import torch
from peft import PeftModel
from torch import Tensor

from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.lora_keys import LoraKeys, as_matrix, pair_lora_keys
from eigenhub.federated.lora_model import check_lora_model, live_tensors, read_adapter, write_adapter
from eigenhub.federated.recipes import recipe_of
from eigenhub.federated.refactor import RefactorResult, refactored
from eigenhub.linalg.orthogonal import orthonormalize


def refactor_lora_(
    model: PeftModel, adapter_name: str = "default", sign_rule: str = "largest_positive"
) -> dict[str, RefactorResult]:
    """Refactor every layer of an adapter in place; the model computes what it did before.

    Parameters keep identity, dtype, device and `requires_grad`; other adapters are not touched. An optimizer's state is
    in the old basis afterwards: make a new optimizer.

    Args:
        model (`PeftModel`): with an unmerged LoRA adapter of plain products.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
        sign_rule (`str`, *optional*, defaults to `"largest_positive"`): see [`refactor_lora`].

    Returns:
        `dict[str, RefactorResult]`: what was found, by layer.

    Raises:
        ValueError: see [`check_lora_model`] and [`refactor_lora`].

    Example:

    ```python
    >>> from peft import LoraConfig, get_peft_model
    >>> from torch import nn
    >>> from eigenhub.federated import refactor_lora_
    >>> model = get_peft_model(nn.Sequential(nn.Linear(8, 4)), LoraConfig(r=2, target_modules=["0"]))
    >>> [int(layer.effective_rank) for layer in refactor_lora_(model).values()]  # B starts at zero
    [0]
    ```
    """
    check_lora_model(model, adapter_name)
    state, found = refactored(read_adapter(model, adapter_name), sign_rule)
    write_adapter(model, state, adapter_name)
    return found


def orthonormalize_lora_A_(model: PeftModel, adapter_name: str = "default") -> None:
    r"""Make the rows of A orthonormal in place by $A^\top = Q R$, $A' = Q^\top$, $B' = B R^\top$; the product stays.

    PEFT's initial A has rows of norm about $1/\sqrt{3}$. With B = 0, as it starts, only A changes. An embedding's A is zero
    at the start, and its B random: there A is drawn anew and B set to zero first, so that B can be trained alone.

    Args:
        model (`PeftModel`): with an unmerged LoRA adapter of plain products.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.

    Raises:
        ValueError: see [`check_lora_model`].
    """
    check_lora_model(model, adapter_name)
    revive_zero_A_(model, adapter_name)
    live = live_tensors(model, adapter_name)
    with torch.no_grad():
        for pair in pair_lora_keys(live).values():
            _orthonormalize(live, pair)


def _orthonormalize(live: dict[str, Tensor], pair: LoraKeys) -> None:
    a, b = as_matrix(live[pair.A]).double(), as_matrix(live[pair.B]).double()
    new_a = orthonormalize(a.mT).mT
    live[pair.B].copy_((b @ (a @ new_a.mT)).reshape(live[pair.B].shape))
    live[pair.A].copy_(new_a.reshape(live[pair.A].shape))


def prepare_adapter_(model: PeftModel, config: FedSVDConfig, adapter_name: str = "default") -> None:
    """Bring an adapter into the form that the first round starts from; the function of the model stays.

    Args:
        model (`PeftModel`): with a LoRA adapter.
        config (`FedSVDConfig`): tells `init_A` and the method.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
    """
    if config.init_A == "orthonormal":
        orthonormalize_lora_A_(model, adapter_name)
    elif recipe_of(config.method).trains == ("B",):
        revive_zero_A_(model, adapter_name)


def revive_zero_A_(model: PeftModel, adapter_name: str = "default", seed: int = 0) -> None:
    """Draw A where it is zero and make B zero there instead, so that methods that train B alone can learn something.

    Args:
        model (`PeftModel`): with a LoRA adapter.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
        seed (`int`, *optional*, defaults to 0): of the draw, uniform with the bounds of PEFT's linear layers.
    """
    generator = torch.Generator().manual_seed(seed)
    live = live_tensors(model, adapter_name)
    with torch.no_grad():
        for pair in pair_lora_keys(live).values():
            if live[pair.A].any():
                continue
            bound = as_matrix(live[pair.A]).shape[1] ** -0.5
            live[pair.A].copy_(torch.empty(live[pair.A].shape).uniform_(-bound, bound, generator=generator))
            live[pair.B].zero_()
