# SPDX-License-Identifier: Apache-2.0
"""Generated word problems with worked answers in the manner of GSM8K, the same on every machine."""

import random

from datasets import Dataset, DatasetDict


_NAMES = ("Ada", "Ben", "Chloe", "Dev", "Elif", "Finn", "Grace", "Hugo", "Ines", "Jun")
_THINGS = ("apples", "books", "coins", "eggs", "marbles", "pens", "shells", "stamps")
_TEMPLATES = {
    "add": (
        "{name} has {a} {thing} and finds {b} more. How many {thing} does {name} have now?",
        "{name} now has {a} + {b} = <<{a}+{b}={c}>>{c} {thing}.\n#### {c}",
    ),
    "subtract": (
        "{name} has {a} {thing} and gives away {b}. How many {thing} does {name} have left?",
        "{name} has {a} - {b} = <<{a}-{b}={c}>>{c} {thing} left.\n#### {c}",
    ),
}
OPERATIONS = tuple(_TEMPLATES)


def load_problems(
    operation: str = "subtract", num_train: int = 1600, num_test: int = 160, largest: int = 20, seed: int = 0
) -> DatasetDict:
    """
    Word problems with one sum or one difference; no problem occurs twice, so the test problems are new.

    Args:
        operation (`str`, *optional*, defaults to `"subtract"`): `"add"` or `"subtract"`.
        num_train (`int`, *optional*, defaults to 1600): number of training problems.
        num_test (`int`, *optional*, defaults to 160): number of test problems.
        largest (`int`, *optional*, defaults to 20): largest number in a question; no answer is negative.
        seed (`int`, *optional*, defaults to 0): seed of the choice.

    Returns:
        `DatasetDict` with the splits `train` and `test` and GSM8K's columns `question` and `answer`.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"`operation` must be one of {OPERATIONS}, got {operation!r}")
    problems = _all_problems(operation, largest)
    if num_train + num_test > len(problems):
        raise ValueError(
            f"numbers up to {largest} give {len(problems)} problems, {num_train + num_test} are asked for: raise `largest`"
        )
    chosen = random.Random(seed).sample(problems, num_train + num_test)
    rows = [_write_out(operation, *problem) for problem in chosen]
    return DatasetDict(train=Dataset.from_list(rows[:num_train]), test=Dataset.from_list(rows[num_train:]))


def _all_problems(operation: str, largest: int) -> list[tuple[str, str, int, int]]:
    pairs = [(a, b) for a in range(1, largest + 1) for b in range(1, largest + 1) if operation == "add" or b <= a]
    return [(name, thing, a, b) for name in _NAMES for thing in _THINGS for a, b in pairs]


def _write_out(operation: str, name: str, thing: str, a: int, b: int) -> dict[str, str]:
    question, answer = _TEMPLATES[operation]
    words = {"name": name, "thing": thing, "a": a, "b": b, "c": a + b if operation == "add" else a - b}
    return {"question": question.format(**words), "answer": answer.format(**words)}
