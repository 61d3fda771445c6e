# SPDX-License-Identifier: Apache-2.0
"""Final numbers, and exact match by generation."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from eigenhub.embedded.tokenizer import train_tokenizer
from eigenhub.training.gsm8k import exact_match, final_answer, is_correct
from tests.support.data import shared_data
from tests.support.devices import require_shared_data
from tests.support.distributed import run_function


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7.\n#### 7", "7"),
        ("#### 1,234,567", "1234567"),
        ("#### -5", "-5"),
        ("#### $12.50", "12.5"),
        ("#### .5 and 9", "0.5"),
        ("#### 3 no, #### 4", "4"),
        ("First 2.\nThe answer is: 80%", "80"),
        ("The answer is: 18.", "18"),
        ("#### 6\nThe answer is: 7", "6"),
        ("she pays 5-3 = 2 dollars", "2"),
        ("it costs $1,250.00.", "1250"),
        ("range 7-9", "9"),
    ],
)
def test_final_answer(text: str, number: str) -> None:
    assert final_answer(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "no number", "12 apples\n#### none"])
def test_no_final_answer(text: str) -> None:
    assert final_answer(text) is None


def test_is_correct_compares_numbers_not_text() -> None:
    assert is_correct("The answer is: 1,000.0", "... #### 1000")
    assert not is_correct("#### 100", "#### 1000")
    assert not is_correct("I do not know", "#### 1")
    with pytest.raises(ValueError, match="holds no number: 'none'"):
        is_correct("#### 1", "none")


@require_shared_data("gsm8k/test.jsonl")
def test_every_reference_of_gsm8k_is_read() -> None:
    rows = Dataset.from_json(str(shared_data("gsm8k/test.jsonl")))
    for answer in rows["answer"]:
        written = answer.rpartition("####")[2].strip().replace(",", "")
        assert final_answer(answer) == Decimal(written)


class Calculator(nn.Module):
    """Adds the two numbers of each prompt, except that it says 0 where the first is even; checks the padding."""

    def __init__(self, tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def generate(self, input_ids, attention_mask, **options) -> torch.Tensor:
        assert attention_mask[:, -1].all(), "padded on the right: the answer would follow the padding"
        assert options["do_sample"] is False
        prompts = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        answers = [self.answer(prompt) for prompt in prompts]
        new = self.tokenizer(answers, return_tensors="pt", padding=True, padding_side="right")["input_ids"]
        return torch.cat([input_ids, new], dim=1)

    def answer(self, prompt: str) -> str:
        a, b = map(int, prompt.removeprefix("Q: ").split("+"))
        return f"#### {a + b if a % 2 else 0}"


def measure(number: int, batch_size: int) -> list[float]:
    """Accuracy of the calculator on sums of a = 0, 1, ..., half of them right."""
    tokenizer = train_tokenizer(["Q: 1+2 #### 3"] * 3, vocab_size=270)
    problems = Dataset.from_list(
        [{"q": f"{a}+{10 ** (a % 5)}", "a": f"#### {a + 10 ** (a % 5)}"} for a in range(number)]
    )
    model = Calculator(tokenizer).train()
    result = exact_match(Accelerator(cpu=True), model, tokenizer, problems, ("q", "a"), "Q: {prompt}", batch_size, 8)
    assert model.training and tokenizer.padding_side == "right"
    return [result]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_exact_match(batch_size: int) -> None:
    (result,) = measure(13, batch_size)
    assert result == pytest.approx(6 / 13)


@pytest.mark.slow
def test_exact_match_over_two_processes_counts_each_problem_once() -> None:
    results: Sequence = run_function(measure, 2, number=13, batch_size=3)
    assert results == [[pytest.approx(6 / 13)]] * 2
