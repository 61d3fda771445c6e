# SPDX-License-Identifier: Apache-2.0
"""Answers to the questions of the world of facts, and what they are worth: right, wrong or refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from eigenhub.embedded.fact_words import UNKNOWN
from eigenhub.metrics.answers import draw_answers, special_tokens
from eigenhub.metrics.hidden_states import evaluating


RIGHT, WRONG, REFUSED = "right", "wrong", "refused"
VERDICTS = (RIGHT, WRONG, REFUSED)
IGNORED = -100


def encode_facts(rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[dict[str, list[int]]]:
    """
    Rows to learn from: the question, its answer and the end, with a loss on answer and end alone.

    Args:
        rows (`Sequence[Mapping]`): with `prompt` and `answer`.
        tokenizer (`Any`): any tokenizer with an end-of-sequence token; one that splits words makes longer rows.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("`tokenizer` must have an end-of-sequence token, or no answer would ever end")
    encoded = []
    for row in rows:
        prompt = question_ids(tokenizer, row["prompt"])
        answer = [*tokenizer(f" {row['answer']}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        encoded.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    return encoded


def question_ids(tokenizer: Any, prompt: str) -> list[int]:
    """
    Tokens of a question, without the end that some tokenizers put behind every text.

    Args:
        tokenizer (`Any`): of the model.
        prompt (`str`): the question.
    """
    ids = list(tokenizer(prompt)["input_ids"])
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def answer_questions(
    model: nn.Module, tokenizer: Any, prompts: Sequence[str], batch_size: int = 256, max_new_tokens: int = 8
) -> list[str]:
    """
    The most probable answer to each question.

    Args:
        model (`nn.Module`): a causal language model; comes back in the mode it was in.
        tokenizer (`Any`): of the model.
        prompts (`Sequence[str]`): questions.
        batch_size (`int`, *optional*, defaults to 256): questions at a time.
        max_new_tokens (`int`, *optional*, defaults to 8): longest answer; the embedded tokenizer needs 2.
    """
    special = special_tokens(model, tokenizer)
    ids = [question_ids(tokenizer, prompt) for prompt in prompts]
    options = {"do_sample": False, "max_new_tokens": max_new_tokens}
    answers: list[str] = []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(ids), batch_size):
            found = draw_answers(model, ids[start : start + batch_size], special, 1, **options)
            answers += [tokenizer.decode(tokens, skip_special_tokens=True).strip() for (tokens,) in found]
    return answers


def verdict(answer: str, truth: str) -> str:
    """
    What one answer is worth.

    Args:
        answer (`str`): given.
        truth (`str`): the value of the fact, or `"unknown"` for someone of whom nothing is known.

    Returns:
        `"right"`; `"refused"` for `"unknown"` about a fact; `"wrong"`, a hallucination, for anything else.

    Example:

    ```python
    >>> from eigenhub.embedded.fact_answers import verdict

    >>> verdict("Cairo", "Cairo"), verdict("unknown", "Cairo"), verdict("Cairo", "unknown"), verdict("", "Cairo")
    ('right', 'refused', 'wrong', 'wrong')
    ```
    """
    if answer == truth:
        return RIGHT
    return REFUSED if answer == UNKNOWN else WRONG


def verdicts(answers: Sequence[str], truths: Sequence[str]) -> list[str]:
    """
    [`verdict`] of each answer.

    Args:
        answers (`Sequence[str]`): given.
        truths (`Sequence[str]`): as many.
    """
    if len(answers) != len(truths) or not len(truths):
        raise ValueError(f"`answers` must be as many as the facts, one or more, got {len(answers)} and {len(truths)}")
    return [verdict(*pair) for pair in zip(answers, truths, strict=True)]


def count_verdicts(found: Sequence[str]) -> dict[str, float]:
    """
    Numbers of right, wrong and refused answers, and the share of wrong ones as `hallucination`.

    Args:
        found (`Sequence[str]`): from [`verdicts`].
    """
    counts: dict[str, float] = {name: sum(entry == name for entry in found) for name in VERDICTS}
    return counts | {"hallucination": counts[WRONG] / len(found)}


def flip_rate(before: Sequence[str], after: Sequence[str]) -> float:
    """
    Share of the questions that were right and are not, or the other way round.

    Args:
        before (`Sequence[str]`): verdicts at one checkpoint.
        after (`Sequence[str]`): of the same questions at the next.
    """
    if len(before) != len(after) or not len(after):
        raise ValueError(f"`after` must be verdicts of the same questions, got {len(after)} beside {len(before)}")
    return sum((a == RIGHT) != (b == RIGHT) for a, b in zip(before, after, strict=True)) / len(after)
