# SPDX-License-Identifier: Apache-2.0
"""A threshold of one model under one way of sampling and reading, set by prompts whose scores are known."""

import csv
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from checks import check_between, check_choice, check_whole
from judging import check_references, is_right
from names import CALIBRATED_ON, DETECTORS, QUANTILES, QUESTIONS, THRESHOLDS, YOUDEN
from prompt_files import PromptList, checked_list, parse_lines, read_file
from scoring import Record, score_prompts
from settings import ScoreSettings
from thresholds import aurocs, choose_threshold
from world import calibration_questions

from eigenhub.embedded.fact_answers import RIGHT
from eigenhub.hub.space import download_folder
from eigenhub.hub.space_events import shown_to_visitor


Calibration = dict[str, Any]

EMBEDDED_BATCH, BATCH = 64, 4
COLUMNS = ("prompt", "answer", "reference", "right", *DETECTORS, "above_threshold")


def prompts_of(
    settings: ScoreSettings, count: int, kinds: Collection[str], text: str | None, file: str | None
) -> PromptList:
    """
    What a threshold is to be set by: questions of the embedded world, or what the visitor gave.

    Args:
        settings (`ScoreSettings`): say which model.
        count (`int`): questions of the embedded world.
        kinds (`Collection[str]`): of these questions.
        text (`str`, *optional*): pasted prompts.
        file (`str`, *optional*): uploaded prompts, which come first.
    """
    if settings.is_embedded:
        check_whole("number of questions", count, *QUESTIONS)
        chosen = calibration_questions(kinds, int(count))
        return PromptList([q.prompt for q in chosen], [[q.answer] for q in chosen])
    with shown_to_visitor("These prompts cannot be used"):
        if file:
            return read_file(file)
        if (text or "").strip():
            return parse_lines(text or "")
    raise gr.Error("Paste prompts or upload a file: the threshold of a model is set by prompts of your own.")


def given_prompts(prompts: Sequence[str], answers: Sequence[Any] | None) -> PromptList:
    """
    What a program gave.

    Args:
        prompts (`Sequence[str]`): prompts.
        answers (`Sequence`, *optional*): a right answer, or a list of them, for each prompt.
    """
    lists = [[str(text) for text in (given if isinstance(given, list) else [given])] for given in answers or ()]
    if answers and len(lists) != len(prompts):
        raise ValueError(f"give a right answer to each of {len(prompts)} prompts or none, got {len(lists)}")
    return checked_list(PromptList(list(prompts), lists))


def calibrate(
    settings: ScoreSettings,
    given: PromptList,
    by: str = YOUDEN,
    share: float = 0.8,
    judge: str = "exact",
    goes_on: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[int, Calibration | None]]:
    """
    Score prompts a few at a time and set a threshold.

    Args:
        settings (`ScoreSettings`): that the threshold will hold for.
        given (`PromptList`): prompts.
        by (`str`, *optional*, defaults to `"youden"`): key of `THRESHOLDS`.
        share (`float`, *optional*, defaults to 0.8): of the quantile.
        judge (`str`, *optional*, defaults to `"exact"`): key of `JUDGES`; the embedded world has a rule of its own.
        goes_on (`Callable`, *optional*): asked between the prompts; the calibration ends without a result if not.

    Returns:
        `Iterator`: number of prompts scored so far, and the calibration at the end.
    """
    check_choice("rule of the threshold", by, THRESHOLDS)
    check_between("quantile", share, *QUANTILES)
    if not settings.is_embedded:
        with shown_to_visitor("These prompts cannot be used"):
            check_references(judge, given.references)
    records: list[Record] = []
    size = EMBEDDED_BATCH if settings.is_embedded else BATCH
    for start in range(0, len(given.prompts), size):
        yield start, None
        if not goes_on():
            return
        records += score_prompts(settings, given.prompts[start : start + size], first=start)
    yield len(records), _calibration(settings, records, given.references, by, share, judge)


@lru_cache(maxsize=8)
def calibrated_world(settings: ScoreSettings) -> Calibration:
    """
    The calibration of an embedded model under the page's defaults; kept, for every visitor begins with it.

    Args:
        settings (`ScoreSettings`): of an embedded model.
    """
    given = prompts_of(settings, 240, CALIBRATED_ON, None, None)
    *_, (_, found) = calibrate(settings, given)
    assert found is not None
    return found


def _calibration(
    settings: ScoreSettings,
    records: Sequence[Record],
    references: Sequence[Sequence[str]],
    by: str,
    share: float,
    judge: str,
) -> Calibration:
    rows = []
    for number, record in enumerate(records):
        row = {"prompt": record["prompt"], "answer": record["greedy"], "reference": None, "right": None}
        if references:
            row["reference"] = " | ".join(references[number])
            row["right"] = (
                record["verdict"] == RIGHT
                if settings.is_embedded
                else is_right(judge, record["greedy"] or "", references[number])
            )
        rows.append(row | {name: record[name] for name in DETECTORS})
    wrong = [not row["right"] for row in rows] if references else None
    scores = [row["eigenscore"] for row in rows]
    used, threshold, j = choose_threshold(by, scores, wrong, share)
    for row in rows:
        row["above_threshold"] = row["eigenscore"] > threshold
    return {
        "settings": settings.to_dict(),
        "revision": records[0]["revision"],
        "threshold": threshold,
        "asked_by": by,
        "by": used,
        "share": share,
        "youden_j": j,
        "num_prompts": len(rows),
        "num_wrong": None if wrong is None else sum(wrong),
        "auroc": aurocs(rows, wrong),
        "rows": rows,
    }


def write_files(calibration: Calibration) -> list[str]:
    """
    The scored table and the threshold with its settings, to take home.

    Args:
        calibration (`dict`): of `calibrate`.
    """
    folder = download_folder()
    table, summary = folder / "scores.csv", folder / "threshold.json"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(calibration["rows"])
    kept = {name: value for name, value in calibration.items() if name != "rows"}
    summary.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return [str(Path(table)), str(Path(summary))]
