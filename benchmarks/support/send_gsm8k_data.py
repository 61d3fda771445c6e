# SPDX-License-Identifier: Apache-2.0
"""GSM8K's own calculator steps as questions with exact answers: what is asked, and what counts as right."""

import json
import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path


#: Folder with `train.jsonl` and `test.jsonl` of GSM8K (`openai/gsm8k`, config `main`, on the Hub).
FOLDER = Path(os.environ.get("EIGENHUB_GSM8K", Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k"))
#: Training questions at the end of the file that only the runs which train further see.
NEW = 500

_STEP = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
_OPERAND = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_NUMBER = re.compile(r"(-?)\$?((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:/(\d+))?", re.ASCII)


@dataclass(frozen=True)
class Step:
    """A calculator step of a solution.

    Args:
        question (`int`): row of the test split.
        number (`int`): of the step in its solution, from 0.
        prompt (`str`): the question and its solution up to and including the equals sign.
        expression (`str`): left of the equals sign.
        answer (`str`): right of it.
    """

    question: int
    number: int
    prompt: str
    expression: str
    answer: str

    @property
    def operand_digits(self) -> int:
        """Digits of all operands together."""
        return sum(letter.isdigit() for operand in _OPERAND.findall(self.expression) for letter in operand)


def has_data() -> bool:
    """Whether both files are there."""
    return all((FOLDER / f"{split}.jsonl").is_file() for split in ("train", "test"))


@cache
def read(split: str) -> list[dict[str, str]]:
    """Rows with `question` and `answer`.

    Args:
        split (`str`): `"train"` or `"test"`.
    """
    with (FOLDER / f"{split}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def text_of(row: dict[str, str]) -> str:
    """A problem as the model reads it.

    Args:
        row (`dict`): with `question` and `answer`.
    """
    return f"{row['question']}\n{row['answer']}"


def steps_of(number: int, row: dict[str, str]) -> list[Step]:
    """All calculator steps of a problem whose result is a number.

    Args:
        number (`int`): of the row.
        row (`dict`): with `question` and `answer`.
    """
    found = []
    for place, match in enumerate(_STEP.finditer(row["answer"])):
        prompt = f"{row['question']}\n{row['answer'][: match.start(2)]}"
        if value_of(match[2]) is not None:
            found.append(Step(number, place, prompt, match[1], match[2]))
    return found


def drills(rows: Sequence[dict[str, str]]) -> list[str]:
    """The calculator steps of solutions by themselves.

    Args:
        rows (`Sequence[dict]`): problems.
    """
    return [match[0] for row in rows for match in _STEP.finditer(row["answer"])]


def sample_steps(
    rows: Sequence[dict[str, str]], count: int, fits: Callable[[Step], bool], seed: int = 0
) -> list[Step]:
    """One step of each of some questions, the same for every model.

    Args:
        rows (`Sequence[dict]`): problems.
        count (`int`): questions, at most.
        fits (`Callable[[Step], bool]`): whether a step may be taken.
        seed (`int`, *optional*, defaults to 0): of the choice.
    """
    generator = random.Random(seed)
    order = list(range(len(rows)))
    generator.shuffle(order)
    chosen: list[Step] = []
    for number in order:
        if len(chosen) == count:
            break
        if steps := [step for step in steps_of(number, rows[number]) if fits(step)]:
            chosen.append(generator.choice(steps))
    return chosen


def value_of(text: str) -> Fraction | None:
    """The exact value of a written number, or nothing for anything else.

    The same number may be written in other ways: spaces around it, a dollar sign, commas between thousands, zeros or a
    point behind it (24 = 24.0 = 24.), no zero in front of the point (.5), a fraction (3/4 = 0.75). Per cent signs, units and
    sums make it something else.

    Args:
        text (`str`): an answer.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    sign, number, denominator = match.groups()
    if denominator is not None and not int(denominator):
        return None
    value = Fraction(number.replace(",", "").removesuffix(".")) / int(denominator or 1)
    return -value if sign else value


def is_right(answer: str, gold: str) -> bool:
    """Whether an answer is the number of the solution, exactly.

    Args:
        answer (`str`): of the model, with or without the bracket that closes a step.
        gold (`str`): of the solution.
    """
    expected = value_of(gold)
    if expected is None:
        raise ValueError(f"`gold` must be a number, got {gold!r}")
    return value_of(answer.partition(">>")[0]) == expected
