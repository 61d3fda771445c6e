# SPDX-License-Identifier: Apache-2.0
"""A race of optimizers on a small byte-level Llama and the sources of Python's standard library: one run, one result.

The matrices are trained by the contender, everything else by AdamW; two hundred steps of 8 x 128 bytes, warm-up 20, cosine
to a tenth, gradients clipped to norm 1.
"""

from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import LlamaForCausalLM
from transformers.utils import logging

from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.embedded.llama_sizes import llama_config
from eigenhub.embedded.pretrain import endless_rows
from eigenhub.embedded.python_sources import load_python_sources
from eigenhub.optim import AuON, DCTAdamW, Trion
from eigenhub.training.schedule import lr_schedule
from support.controls import Dion, SvdAdamW


BLOCK, BATCH, WARMUP, FLOOR = 128, 8, 20, 0.1
HELD_OUT_BLOCKS = 512
BETAS = (0.9, 0.95)
Watch = Callable[[int, dict[str, Tensor], list[Optimizer]], None]


def frozen(matrices: list[Tensor], lr: float, **options: Any) -> list[Optimizer]:
    """The control in which the matrices stay as they were initialised."""
    for matrix in matrices:
        matrix.requires_grad_(False)
    return []


def galore(matrices: list[Tensor], lr: float, **options: Any) -> list[Optimizer]:
    from galore_torch import GaLoreAdamW

    group = {"params": matrices, "proj_type": "std", **options}
    return [GaLoreAdamW([group], lr=lr, betas=BETAS, eps=1e-8, no_deprecation_warning=True)]


#: By kind: from the matrices, a peak rate and options to optimizers.
KINDS: dict[str, Callable[..., list[Optimizer]]] = {
    "frozen": frozen,
    "galore": galore,
    "adamw": lambda matrices, lr: [AdamW(matrices, lr=lr, betas=BETAS, weight_decay=0.0)],
    "muon": lambda matrices, lr: [Muon(matrices, lr=lr, weight_decay=0.0)],
    "dct": lambda matrices, lr, **options: [DCTAdamW(matrices, lr=lr, betas=BETAS, **options)],
    "svd": lambda matrices, lr, **options: [SvdAdamW(matrices, lr=lr, **options)],
    "trion": lambda matrices, lr, **options: [Trion(matrices, lr=lr, weight_decay=0.0, **options)],
    "dion": lambda matrices, lr, **options: [Dion(matrices, lr=lr, **options)],
    "auon": lambda matrices, lr, **options: [AuON(matrices, lr=lr, **options)],
}


def available(kind: str) -> bool:
    """Whether the package that a kind needs is installed."""
    return kind != "galore" or find_spec("galore_torch") is not None


def split_parameters(model: LlamaForCausalLM) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The weights of the linear layers but for the head, by name, and the rest."""
    layers = {name: module.weight for name, module in model.model.named_modules() if isinstance(module, nn.Linear)}
    chosen = {id(weight) for weight in layers.values()}
    return layers, [parameter for parameter in model.parameters() if id(parameter) not in chosen]


@cache
def blocks_of(split: str) -> Tensor:
    """The text as `[blocks, tokens]`, files one after the other with a zero byte behind each."""
    texts = load_python_sources()[split]["text"]
    tokens = torch.frombuffer(bytearray("".join(text + "\0" for text in texts).encode()), dtype=torch.uint8)
    blocks = tokens[: len(tokens) // BLOCK * BLOCK].view(-1, BLOCK).long()
    return blocks if split == "train" else blocks[:: max(1, len(blocks) // HELD_OUT_BLOCKS)]


def new_model(seed: int) -> LlamaForCausalLM:
    logging.set_verbosity_error()
    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config("llama_bytes_tiny", byte_tokenizer(), BLOCK))


def batches(seed: int) -> Iterator[Tensor]:
    """Training blocks in an order of their own for every seed."""
    blocks = blocks_of("train")
    return (blocks[rows] for rows in endless_rows(len(blocks), BATCH, seed))


def race(
    kind: str,
    options: dict[str, Any],
    lr: float,
    aux_lr: float,
    seed: int,
    steps: int,
    watch: Watch | None = None,
) -> dict[str, float]:
    """Train one model; returns its held-out loss and the mean training loss of the last tenth.

    Args:
        kind (`str`): key of `KINDS`.
        options (`dict`): options of that optimizer.
        lr (`float`): peak rate of the matrices.
        aux_lr (`float`): peak rate of everything else.
        seed (`int`): of the initial weights and of the order of the text.
        steps (`int`): optimizer steps.
        watch (`Callable`, *optional*): called before every step with its number, the matrices (with gradients) by name
            and the optimizers.
    """
    torch.set_num_threads(1)
    model = new_model(seed)
    matrices, others = split_parameters(model)
    optimizers = KINDS[kind](list(matrices.values()), lr, **options)
    optimizers.append(AdamW(others, lr=aux_lr, betas=BETAS, weight_decay=0.0))
    schedules = [lr_schedule(optimizer, "cosine", min(WARMUP, steps // 5), steps, FLOOR) for optimizer in optimizers]
    losses = []
    for step, rows in zip(range(1, steps + 1), batches(seed), strict=False):
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if watch is not None:
            watch(step, matrices, optimizers)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    tail = losses[-max(1, steps // 10) :]
    return {"val_loss": held_out_loss(model), "train_loss": sum(tail) / len(tail)}


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM) -> float:
    parts = blocks_of("test").split(64)
    losses = [model.eval()(input_ids=rows, labels=rows, use_cache=False).loss.item() * len(rows) for rows in parts]
    return sum(losses) / sum(map(len, parts))
