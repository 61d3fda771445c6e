# SPDX-License-Identifier: Apache-2.0
"""Generated word problems: right answers, no repeats, the same every time."""

import re

import pytest

from eigenhub.embedded.arithmetic import OPERATIONS, load_problems
from eigenhub.training.gsm8k import final_answer


@pytest.mark.parametrize("operation", OPERATIONS)
def test_answers_are_right(operation: str) -> None:
    for row in load_problems(operation)["test"]:
        a, b = map(int, re.findall(r"\d+", row["question"]))
        expected = a + b if operation == "add" else a - b
        assert final_answer(row["answer"]) == expected >= 0
        assert f"={expected}>>{expected}" in row["answer"]


def test_no_problem_twice_and_no_test_problem_in_training() -> None:
    splits = load_problems("subtract")
    questions = [*splits["train"]["question"], *splits["test"]["question"]]
    assert len(questions) == 1760 == len(set(questions))


def test_deterministic_by_seed() -> None:
    assert load_problems(seed=3)["train"][:] == load_problems(seed=3)["train"][:]
    assert load_problems(seed=3)["train"][:5] != load_problems(seed=4)["train"][:5]


def test_bad_requests() -> None:
    with pytest.raises(ValueError, match="'divide'"):
        load_problems("divide")
    with pytest.raises(ValueError, match="raise `largest`"):
        load_problems(num_train=100, largest=1)
