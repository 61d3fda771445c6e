# SPDX-License-Identifier: Apache-2.0
"""Keys and values of prompts, computed once for all answers to them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from eigenhub.metrics.answers import pad_rows
from eigenhub.metrics.hidden_states import takes


def repeated_prompts(
    model: nn.Module, prompts: Sequence[Sequence[int]], order: Sequence[int], pad: int
) -> tuple[Any, Tensor] | None:
    """Cache of all prompts but for their last tokens, a row for each answer.

    Padding is on the left, so that the answers follow their prompts without a gap, as a sliding window wants it. Every
    row goes on with the last token of its prompt, whose logits are those of the first token of an answer.

    Args:
        model (`nn.Module`): in eval mode.
        prompts (`Sequence[Sequence[int]]`): ids.
        order (`Sequence[int]`): which prompt each row is of.
        pad (`int`): fills up.

    Returns:
        the cache and its mask `(len(order), longest prompt - 1)`, or `None` if the model keeps something else than keys
        and values of attention, a prompt has one token only, none would be saved, or several processes run, which a
        sharded model wants to call its forward equally often.
    """
    if len(order) <= len(prompts) or min(map(len, prompts)) < 2 or _has_virtual_tokens(model) or _several_processes():
        return None
    ids, mask = pad_rows([prompt[:-1] for prompt in prompts], pad, "left", next(model.parameters()).device)
    inputs = {"input_ids": ids, "attention_mask": mask, **positions_of(model, mask, ids.shape[1])}
    if takes(model, "logits_to_keep"):
        inputs["logits_to_keep"] = 1
    cache = getattr(model(**inputs, use_cache=True, return_dict=True), "past_key_values", None)
    if cache is None or not _can_be_repeated(cache):
        return None
    rows = torch.tensor(order, device=mask.device)
    cache.reorder_cache(rows)
    return cache, mask[rows]


def positions_of(model: nn.Module, mask: Tensor, count: int) -> dict[str, Any]:
    """Positions of the last tokens of left-padded rows, for models that do not find them by themselves.

    Args:
        model (`nn.Module`): whose forward takes `position_ids` or not.
        mask (`Tensor` of shape `(b, t)`): of the whole rows.
        count (`int`): tokens at the end.

    Returns:
        `dict`: `position_ids` `(b, count)`, or nothing.
    """
    if not takes(model, "position_ids"):
        return {}
    return {"position_ids": (mask.cumsum(-1) - 1).clamp_min(0)[:, -count:]}


def _can_be_repeated(cache: Any) -> bool:
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and all(type(layer) in known for layer in cache.layers)


def _has_virtual_tokens(model: nn.Module) -> bool:
    """Prompt tuning of PEFT puts tokens in front that are in no mask."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def _several_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
