# SPDX-License-Identifier: Apache-2.0
"""Accuracy counts each row once, also when the last batches are filled up over processes."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from eigenhub.training.accuracy import accuracy
from tests.support.distributed import run_function


class Parity(nn.Module):
    """Guesses whether a number is odd, and is wrong about multiples of three."""

    def forward(self, number: torch.Tensor) -> SequenceClassifierOutput:
        guess = (number + (number % 3 == 0)) % 2
        return SequenceClassifierOutput(logits=nn.functional.one_hot(guess, 2).float())


def measure(number: int, batch_size: int) -> float:
    rows = [{"number": torch.tensor(n), "labels": torch.tensor(n % 2)} for n in range(number)]
    model = Parity().train()
    result = accuracy(Accelerator(cpu=True), model, rows, batch_size)
    assert model.training
    return result


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_accuracy(batch_size: int) -> None:
    assert measure(10, batch_size) == pytest.approx(0.6)  # wrong: 0, 3, 6, 9


@pytest.mark.slow
def test_two_processes() -> None:
    assert run_function(measure, 2, number=10, batch_size=3) == [pytest.approx(0.6)] * 2
