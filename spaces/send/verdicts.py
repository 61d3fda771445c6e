# SPDX-License-Identifier: Apache-2.0
"""A score held against a threshold, if the two belong together."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

import gradio as gr
from settings import ScoreSettings, differences


Calibration = dict[str, Any]


def checked_calibration(values: Any) -> Calibration | None:
    """
    A calibration that a program hands back.

    Args:
        values (`Any`): of `/calibrate`, or nothing.
    """
    if not values:
        return None
    try:
        ScoreSettings.from_dict(values["settings"])
        float(values["threshold"]), [float(row["eigenscore"]) for row in values["rows"]], values["revision"]
    except (KeyError, TypeError, ValueError) as error:
        raise gr.Error(
            "The calibration must be what /calibrate gave: settings, revision, threshold and rows."
        ) from error
    return values


def misfits(record: Mapping[str, Any], calibration: Calibration) -> list[str]:
    """
    Why a score cannot be held against a calibration; empty if it can.

    Args:
        record (`Mapping`): of a prompt, with settings and revision.
        calibration (`dict`): of `calibrate`.
    """
    found = differences(record["settings"], calibration["settings"])
    if not found and record["revision"] != calibration["revision"]:
        found = ["another revision of the model"]
    return found


def judged(record: Mapping[str, Any], calibration: Calibration | None) -> dict[str, Any]:
    """
    A score held against a calibration.

    Args:
        record (`Mapping`): of a prompt.
        calibration (`dict`, *optional*): if there is one.

    Returns:
        `fits`, `misfits`, and where it fits `threshold`, `above`, and the shares of the calibration's prompts that are `less_certain`,
        `as_certain` and `more_certain` than this one.
    """
    if calibration is None:
        return {"fits": False, "misfits": ["nothing was calibrated yet"]}
    if found := misfits(record, calibration):
        return {"fits": False, "misfits": found}
    scores, score = sorted(row["eigenscore"] for row in calibration["rows"]), record["eigenscore"]
    below, up_to = bisect_left(scores, score), bisect_right(scores, score)
    return {
        "fits": True,
        "misfits": [],
        "threshold": calibration["threshold"],
        "above": score > calibration["threshold"],
        "more_certain": below / len(scores),
        "as_certain": (up_to - below) / len(scores),
        "less_certain": (len(scores) - up_to) / len(scores),
    }
