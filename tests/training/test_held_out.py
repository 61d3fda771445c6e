# SPDX-License-Identifier: Apache-2.0
"""The loss is that of every token once, for uneven rows, batches and processes."""

import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForSeq2Seq

from eigenhub.training.accumulation import IGNORED
from eigenhub.training.held_out import HeldOut
from tests.support.distributed import run_function
from tests.support.models import tiny_llama


def make_rows(number: int = 7) -> list[dict[str, torch.Tensor]]:
    """Rows in which one to all labels count."""
    ids = torch.randint(4, 64, (number, 8), generator=torch.Generator().manual_seed(0))
    rows = []
    for index in range(number):
        labels = ids[index].clone()
        labels[:index] = IGNORED
        rows.append({"input_ids": ids[index], "labels": labels})
    return rows


def expected_loss() -> float:
    model, rows = tiny_llama(), make_rows()
    losses = []
    for row in rows:
        logits = model(input_ids=row["input_ids"][None]).logits[0, :-1]
        losses.append(cross_entropy(logits.double(), row["labels"][1:], ignore_index=IGNORED, reduction="none"))
    kept = [(row["labels"][1:] != IGNORED) for row in rows]
    return (torch.cat(losses)[torch.cat(kept)].sum() / torch.cat(kept).sum()).item()


def measured_loss(batch_size: int) -> float:
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(tiny_llama())
    held_out = HeldOut(accelerator, make_rows(), batch_size)
    first, again = held_out.loss(model), held_out.loss(model)
    assert first == again, "a second evaluation differs"
    return first


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_one_process(batch_size: int) -> None:
    assert measured_loss(batch_size) == pytest.approx(expected_loss(), rel=1e-6)


@pytest.mark.slow
def test_two_processes() -> None:
    assert run_function(measured_loss, nproc=2, batch_size=2) == pytest.approx([expected_loss()] * 2, rel=1e-6)


def test_mode_comes_back_and_nothing_is_trained() -> None:
    accelerator = Accelerator(cpu=True)
    model = tiny_llama(attention_dropout=0.5).train()
    loss = HeldOut(accelerator, make_rows(), 4).loss(model)
    assert model.training
    assert loss == pytest.approx(expected_loss(), rel=1e-6), "dropout was on"
    assert all(parameter.grad is None for parameter in model.parameters())


def test_padded_rows() -> None:
    from tests.support.models import tiny_tokenizer

    rows = [{"input_ids": row["input_ids"].tolist(), "labels": row["labels"].tolist()} for row in make_rows()]
    rows.append({"input_ids": [5, 6, 7], "labels": [5, 6, 7]})
    collate = DataCollatorForSeq2Seq(tiny_tokenizer(), padding=True, label_pad_token_id=IGNORED)
    accelerator = Accelerator(cpu=True)
    together = HeldOut(accelerator, rows, 8, collate).loss(tiny_llama())
    alone = HeldOut(accelerator, rows, 1, collate).loss(tiny_llama())
    assert together == pytest.approx(alone, rel=1e-6)
