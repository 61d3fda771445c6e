# SPDX-License-Identifier: Apache-2.0
"""Prompts that a visitor pastes or uploads, with right answers where there are any."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from names import MAX_FILE, MAX_PROMPT, MAX_PROMPTS, MIN_PROMPTS

from eigenhub.files import naming, read_text


ARROW, OR = "=>", "|"
PROMPTS, ANSWERS = ("prompt", "question"), ("answer", "answers", "reference")


@dataclass(frozen=True)
class PromptList:
    """
    What a threshold is set by.

    Args:
        prompts (`list[str]`): as the model reads them.
        references (`list[list[str]]`): right answers of each; empty if none are known.
    """

    prompts: list[str]
    references: list[list[str]]


def checked_list(found: PromptList) -> PromptList:
    """
    The same, or `ValueError` for too few or too many prompts, for texts that are none, and for missing answers.

    Args:
        found (`PromptList`): of a visitor.
    """
    prompts, references = found.prompts, found.references
    if not MIN_PROMPTS <= len(prompts) <= MAX_PROMPTS:
        raise ValueError(f"give {MIN_PROMPTS} to {MAX_PROMPTS} prompts, got {len(prompts)}")
    for number, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MAX_PROMPT:
            raise ValueError(f"prompt {number} must be a text of 1 to {MAX_PROMPT:,} letters")
    answered = sum(map(bool, references))
    if references and answered != len(prompts):
        raise ValueError(f"give right answers to all prompts or to none, got {answered} for {len(prompts)}")
    return found


def parse_lines(text: str) -> PromptList:
    """
    One prompt per line, its right answers behind an arrow: `Capital of France? => Paris | City of Paris`.

    Args:
        text (`str`): pasted.
    """
    pairs = []
    for line in filter(None, map(str.strip, text.splitlines())):
        prompt, arrow, answers = line.partition(ARROW)
        pairs.append((prompt.strip(), _texts(answers.split(OR)) if arrow else []))
    return _of_pairs(pairs)


def read_file(path: str | Path) -> PromptList:
    """
    A JSONL file with an object per line, or a CSV file with a header; columns `prompt` and, if known, `answer`.

    Args:
        path (`str` or `Path`): of 2 MiB at most.
    """
    path = Path(path)
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise ValueError(f"{path.name} must be a .jsonl or .csv file")
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"{path.name} has more than {MAX_FILE // 2**20} MiB")
    text = read_text(path, "utf-8-sig")
    with naming(path.name):
        rows = _csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text)
        return _of_pairs([(_prompt(number, row), _answers(row)) for number, row in enumerate(rows, 1)])


def _csv_rows(text: str) -> list[Mapping[str, Any]]:
    try:
        return list(csv.DictReader(text.splitlines()))
    except csv.Error as error:
        raise ValueError(f"no CSV: {error}") from error


def _json_rows(text: str) -> list[Mapping[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except RecursionError as error:
            raise ValueError(f"line {number} is nested too deeply") from error
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} must be an object with a prompt, got {line[:40]!r}")
        rows.append(row)
    return rows


def _prompt(number: int, row: Mapping[str, Any]) -> str:
    name = next((name for name in PROMPTS if name in row), None)
    if name is None:
        raise ValueError(f"row {number} has no column prompt; its columns are {', '.join(map(str, row))}")
    return row[name] if isinstance(row[name], str) else ""


def _answers(row: Mapping[str, Any]) -> list[str]:
    given = next((row[name] for name in ANSWERS if row.get(name) is not None), [])
    return _texts(given if isinstance(given, list) else [given])


def _texts(given: Iterable[Any]) -> list[str]:
    return [text for text in (str(entry).strip() for entry in given) if text]


def _of_pairs(pairs: list[tuple[str, list[str]]]) -> PromptList:
    references = [answers for _, answers in pairs]
    return checked_list(PromptList([prompt for prompt, _ in pairs], references if any(references) else []))
