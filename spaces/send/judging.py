# SPDX-License-Identifier: Apache-2.0
"""Whether an answer is one of the right ones, by the rule that a visitor chose."""

from collections.abc import Sequence

from checks import check_choice
from names import JUDGES

from eigenhub.metrics.answer_text import plain_answer
from eigenhub.training.gsm8k import final_answer, is_correct


def is_right(judge: str, answer: str, references: Sequence[str]) -> bool:
    """
    Whether an answer is right.

    Args:
        judge (`str`): key of `JUDGES`; the first two look at the first line, but for case, punctuation and articles.
        answer (`str`): of the model.
        references (`Sequence[str]`): right answers.
    """
    check_choice("rule", judge, JUDGES)
    if judge == "number":
        return any(is_correct(answer, reference) for reference in references)
    given, right = plain_answer(answer), [plain_answer(reference) for reference in references]
    if judge == "exact":
        return given in right
    return any(f" {reference} " in f" {given} " for reference in right if reference)


def check_references(judge: str, references: Sequence[Sequence[str]]) -> None:
    """
    Raise `ValueError` for a right answer that the rule can do nothing with.

    Args:
        judge (`str`): key of `JUDGES`.
        references (`Sequence[Sequence[str]]`): right answers of each prompt.
    """
    for number, texts in enumerate(references, 1):
        for text in texts:
            if (final_answer(text) is None) if judge == "number" else not plain_answer(text):
                raise ValueError(
                    f"the right answer {text!r} of prompt {number} holds no {'number' if judge == 'number' else 'word'}"
                )
