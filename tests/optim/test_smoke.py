# SPDX-License-Identifier: Apache-2.0
"""Short training of a byte-level Llama on Python's own sources: the order that must show even in 60 steps."""

import math
import os
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from eigenhub.optim import DCTAdamW, Trion, build_param_groups


STEPS, LENGTH, BATCH = 60, 128, 8

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> torch.Tensor:
    sources = sorted(Path(os.__file__).parent.glob("*.py"))[:60]
    return torch.frombuffer(bytearray(b"".join(path.read_bytes() for path in sources)), dtype=torch.uint8).long()


def held_out_loss(data, make=None):
    """Loss after training; the embeddings, head and norms are on AdamW, `make` builds the optimizer of the matrices."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=128, intermediate_size=344, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    groups = build_param_groups(model, lr_aux=1e-3)
    if make is None:  # the control: matrices frozen
        optimizer = DCTAdamW(groups[1:])
    else:
        optimizer = make(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 10, 0.55 + 0.45 * math.cos(math.pi * step / STEPS))
    )
    train, held_out = data[: -40 * LENGTH], data[-40 * LENGTH :].view(40, LENGTH)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        starts = torch.randint(len(train) - LENGTH, (BATCH,), generator=generator).tolist()
        ids = torch.stack([train[s : s + LENGTH] for s in starts])
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model.eval()(input_ids=held_out, labels=held_out).loss.item()


def dct(**options):
    return lambda groups: DCTAdamW(groups, **{"lr": 4e-3, "betas": (0.9, 0.95)} | options)


@pytest.fixture(scope="module")
def frozen(data):
    return held_out_loss(data)


@pytest.fixture(scope="module")
def small(data):
    return held_out_loss(data, dct(rank=8))


def test_projected_training_beats_frozen_matrices_and_more_rank_is_better(data, frozen, small):
    large = held_out_loss(data, dct(rank=64))
    assert large + 0.03 < small < frozen - 0.03
    assert large < 3.1


def test_the_residual_is_worth_more_than_rank(data, small):
    assert held_out_loss(data, dct(rank=8, residual="fira", lr=1e-3)) < small - 0.05


def test_trion_beats_frozen_matrices(data, frozen):
    assert held_out_loss(data, lambda g: Trion(g, lr=0.05, rank=32, weight_decay=0.0)) < frozen - 0.1
