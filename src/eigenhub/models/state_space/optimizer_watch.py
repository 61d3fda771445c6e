# SPDX-License-Identifier: Apache-2.0
"""A word of warning for those who train eigenvalues like dense layers, which is what a plain `Trainer` does."""

import logging
import weakref
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


logger = logging.getLogger(__name__)

EIGENVALUES = ("Lambda_re", "Lambda_im", "A_real", "A_imag")
ADVICE = (
    "the eigenvalues of the state space layers are trained with weight decay, or in one group with dense layers: build the "
    "optimizer with the parameter groups of this model, for example `Trainer(optimizer_cls_and_kwargs=(S5AdamW, {...}))`"
)


# models whose optimizer has not been seen yet; torch calls the hook at every step of any optimizer, from the first model on
_waiting: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_hooks: list[RemovableHandle] = []


def watch_optimizer(model: nn.Module) -> None:
    """Look once at the first optimizer that steps eigenvalues of `model`, and warn if it treats them like dense layers.

    Args:
        model (`nn.Module`): a model in training; calls after the first do nothing.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or getattr(model, "_optimizer_watched", False):
        return
    model._optimizer_watched = True  # type: ignore[assignment]
    _waiting.add(model)
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_look))


def _look(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for model in list(_waiting):
        leaves = {id(p): name.rpartition(".")[2] for name, p in model.named_parameters()}
        groups = [[leaves.get(id(p), "") for p in group["params"]] for group in optimizer.param_groups]
        ours = [i for i, names in enumerate(groups) if set(names) & set(EIGENVALUES)]
        if ours:
            _waiting.discard(model)
        if any(optimizer.param_groups[i].get("weight_decay", 0) > 0 or "weight" in groups[i] for i in ours):
            logger.warning(ADVICE)
