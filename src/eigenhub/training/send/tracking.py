# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings of the tracked texts, the same on any number of processes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from eigenhub.metrics.embeddings import sentence_embedding
from eigenhub.metrics.hidden_states import evaluating


def split_tracking(dataset: Any, fraction: float, seed: int) -> tuple[Any, Any]:
    """Part of a data set to train on and part to track; no row is in both.

    Args:
        dataset (`Any`): with a length; a `datasets.Dataset` stays one.
        fraction (`float`): share to track, rounded down but at least one row.
        seed (`int`): of the choice.

    Returns:
        training part and tracking part, each in the order of the data set.
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError("`train_dataset` must have a length to be split: give `track_dataset` for a stream")
    size = len(dataset)
    count = max(1, int(fraction * size))
    if count >= size:
        raise ValueError(f"`track_fraction` must leave a row of {size} to train on, got {fraction}")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    tracked, trained = order[:count].sort().values.tolist(), order[count:].sort().values.tolist()
    if hasattr(dataset, "select"):
        return dataset.select(trained), dataset.select(tracked)
    return torch.utils.data.Subset(dataset, trained), torch.utils.data.Subset(dataset, tracked)


def tracked_embeddings(
    model: nn.Module,
    module: nn.Module,
    rows: Sequence[Any],
    collate: Callable[[list[Any]], dict[str, Any]],
    batch_size: int,
    before: bool = False,
) -> Tensor:
    """Embedding of each tracked text from the output of a module.

    The batches are the same whatever the number of processes, and dealt out to them in turn; each runs equally many, for a
    sharded model gathers its weights in every forward.

    Args:
        model (`nn.Module`): not the wrapper that compiles it or reduces its gradients.
        module (`nn.Module`): inside of it.
        rows (`Sequence`): the texts.
        collate (`Callable`): rows to keyword arguments of the model; `attention_mask` says what is padding.
        batch_size (`int`): texts at a time.
        before (`bool`, *optional*, defaults to `False`): take the module's input instead.

    Returns:
        `Tensor` of shape `(N, d)`, float32, on the CPU, in the order of the rows, equal on all processes.
    """
    world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_available() and dist.is_initialized() else (1, 0)
    starts = list(range(0, len(rows), batch_size))
    rounds = -(-len(starts) // world)
    own: dict[int, Tensor] = {}
    with evaluating(model):
        for number in range(rounds):
            place = number * world + rank
            start = starts[place] if place < len(starts) else starts[0]  # a round too many: done, not kept
            batch = collate([rows[index] for index in range(start, min(start + batch_size, len(rows)))])
            found = _embed(model, module, batch, before)
            if place < len(starts):
                own[start] = found
    parts: list[dict[int, Tensor]] = [own]
    if world > 1:
        gathered: list[Any] = [None] * world
        dist.all_gather_object(gathered, own)
        parts = gathered
    whole = {start: value for part in parts for start, value in part.items()}
    return torch.cat([whole[start] for start in starts])


def _embed(model: nn.Module, module: nn.Module, batch: dict[str, Any], before: bool) -> Tensor:
    seen: list[Tensor] = []
    if before:
        handle = module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    else:

        def keep(m: nn.Module, inputs: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        handle = module.register_forward_hook(keep)
    device = next(model.parameters()).device
    try:
        inputs = {name: value for name, value in batch.items() if name != "labels"}  # no loss is needed
        model(**{name: value.to(device) if isinstance(value, Tensor) else value for name, value in inputs.items()})
    finally:
        handle.remove()
    if len(seen) != 1:
        raise RuntimeError(
            f"the tracked module ran {len(seen)} times in one forward: a model compiled in place hides its modules; "
            "compile it with `torch.compile(model)`, or let the Trainer do it"
        )
    states = seen[0]
    mask = batch.get("attention_mask")
    mask = torch.ones(states.shape[:2]) if mask is None else mask
    return sentence_embedding(states, mask, "mean_last").float().cpu()
