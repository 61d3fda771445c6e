# SPDX-License-Identifier: Apache-2.0
"""A weight, its gradient on a piece of text, or the momentum of twenty such gradients."""

from collections.abc import Iterator
from functools import lru_cache

import gradio as gr
import torch
from language_models import LoadedModel, load_model
from names import MOMENTS
from torch import Tensor
from tqdm.auto import tqdm

from eigenhub.embedded.python_sources import load_python_sources
from eigenhub.hub.space import on_gpu
from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.training.packing import first_blocks


MOMENTUM = 0.95
NUM_GRADIENTS = 20
BATCH, BLOCK = 8, 128


@lru_cache(maxsize=4)
def moment_of(model: str, matrix: str, moment: str) -> Tensor:
    """
    The matrix that the curves are drawn for, in float32 on the CPU.

    Args:
        model (`str`): as for `load_model`.
        matrix (`str`): name of a weight.
        moment (`str`): key of `MOMENTS`. The momentum is that of `NUM_GRADIENTS` batches at these weights, the older ones
            weighted by 0.95 to the power of their age.
    """
    loaded = load_model(model)
    if matrix not in loaded.matrices:
        raise gr.Error(f"{loaded.name} has no matrix {matrix!r}; the first one is {next(iter(loaded.matrices))!r}.")
    if moment not in MOMENTS:
        raise gr.Error(f"Choose one of {', '.join(MOMENTS)}, not {moment!r}.")
    if moment == "weight":
        return loaded.matrices[matrix].detach().float().cpu()
    if not loaded.predicts_text:
        raise gr.Error(f"{loaded.name} is no language model with a tokenizer, so it has no {moment} here.")
    with shown_to_visitor(f"Cannot take gradients of {loaded.name}"):
        return momentum(model, matrix, 1 if moment == "gradient" else NUM_GRADIENTS)


@on_gpu
def momentum(model: str, matrix: str, count: int) -> Tensor:
    """Weighted sum of `count` gradients; names go in, because a lent GPU works in a process of its own."""
    loaded = load_model(model)
    total = torch.zeros(loaded.matrices[matrix].shape)
    for gradient in gradients(loaded, matrix, count):
        total = MOMENTUM * total + gradient
    return total


def gradients(loaded: LoadedModel, matrix: str, count: int) -> Iterator[Tensor]:
    """Gradients of the next-token loss on `count` batches of Python's sources with respect to one weight."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded.model.to(device)
    weight = loaded.model.get_parameter(matrix)
    block = min(BLOCK, getattr(loaded.model.config, "max_position_embeddings", BLOCK))
    texts = load_python_sources()["train"]["text"]
    blocks = torch.tensor(first_blocks(texts, loaded.tokenizer, block, BATCH * count)).to(device)
    weight.requires_grad_(True)
    try:
        for rows in tqdm(blocks.split(BATCH), desc="gradients", disable=count == 1):
            loss = loaded.model(input_ids=rows, labels=rows, use_cache=False).loss
            (gradient,) = torch.autograd.grad(loss, weight)
            yield gradient.float().cpu()
    finally:
        weight.requires_grad_(False)
