# SPDX-License-Identifier: Apache-2.0
"""The continual phase: the embedded model that knows 60 people is told of 70 more, each fact in two of six forms.

The runs that are compared repeat 64 rows of the old facts, as the study does, and forget many others. The model that is asked
repeats more, so that it still knows what it is said to know.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from names import BATCH, DECAY, RATE
from torch import Tensor
from tqdm.auto import tqdm
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.fact_answers import encode_facts
from eigenhub.embedded.fact_model import pretrained_fact_folder
from eigenhub.embedded.fact_tokenizer import fact_tokenizer
from eigenhub.embedded.facts import load_facts


#: Of the model that is asked: it has learnt what it was told, and many of its answers in other forms are wrong.
TOLD_EPOCHS, TOLD_REPLAY = 8, 480
CLIP = 1.0

Batch = dict[str, Tensor]


@lru_cache(maxsize=4)
def encoded(split: str) -> dict[str, Tensor]:
    """
    The rows of a split as columns; all have seven tokens.

    Args:
        split (`str`): of the world.
    """
    rows = encode_facts(load_facts()[split], fact_tokenizer())
    return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}


def base_model() -> tuple[GPTNeoXForCausalLM, PreTrainedTokenizerFast]:
    """The embedded model as every run begins, and its tokenizer."""
    folder = pretrained_fact_folder()
    return GPTNeoXForCausalLM.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)


def new_optimizer(model: GPTNeoXForCausalLM) -> torch.optim.Optimizer:
    """
    AdamW at a constant rate, as in the study.

    Args:
        model (`GPTNeoXForCausalLM`): to train.
    """
    return torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)


def epoch_batches(seed: int, epoch: int, replay: int = 0) -> list[Batch]:
    """
    The rows of an epoch in an order that seed and epoch fix, whatever is drawn elsewhere.

    Args:
        seed (`int`): of the run.
        epoch (`int`): from 1.
        replay (`int`, *optional*, defaults to 0): rows of the old facts beside those of the split, others in each epoch.
    """
    rows, generator = encoded("train"), torch.Generator().manual_seed(1_000_003 * seed + epoch)
    if replay:
        base = encoded("base")
        old = torch.randperm(len(base["input_ids"]), generator=generator)[:replay]
        rows = {name: torch.cat([column, base[name][old]]) for name, column in rows.items()}
    order = torch.randperm(len(rows["input_ids"]), generator=generator)
    return [{name: column[part] for name, column in rows.items()} for part in order.split(BATCH)]


def train_step(model: GPTNeoXForCausalLM, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """
    One step; returns the loss.

    Args:
        model (`GPTNeoXForCausalLM`): in training mode.
        optimizer (`Optimizer`): of its parameters.
        batch (`dict[str, Tensor]`): of `epoch_batches`.
    """
    loss = model(**{name: column.to(model.device) for name, column in batch.items()}).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def told_folder() -> Path:
    """Folder of the model that was told of the new people by plain training; trained now if it is not in the cache."""
    base = pretrained_fact_folder()

    def build(folder: Path) -> None:
        model, tokenizer = base_model()
        optimizer = new_optimizer(model)
        model.train()
        for epoch in tqdm(range(1, TOLD_EPOCHS + 1), desc="telling the embedded model of new people"):
            for batch in epoch_batches(0, epoch, TOLD_REPLAY):
                train_step(model, optimizer, batch)
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    shape = {"rate": RATE, "decay": DECAY, "batch": BATCH, "clip": CLIP}
    recipe: dict[str, Any] = {"base": base.name, "epochs": TOLD_EPOCHS, "replay": TOLD_REPLAY, **shape}
    return cached_folder("send-space", recipe, build)
