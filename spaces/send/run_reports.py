# SPDX-License-Identifier: Apache-2.0
"""What two runs have come to, in sentences and a table."""

from collections.abc import Mapping
from statistics import mean, pstdev
from typing import Any

from names import MASKING

from eigenhub.hub.space import html_table


Values = Mapping[str, Any]

#: Epochs at the end that runs are compared over: one is a coin's throw, for answers flip.
LAST = 5


def training_words(pair: Values, goes_on: bool = True) -> str:
    """How far the two runs are; at the end who is better, and what that is worth."""
    done, planned, arm = pair["epoch"], pair["epochs"], pair["arm"]
    if not done:
        return f"Plain training and {arm['label']} begin from the same model: {arm['wrong'][0]:.0%} of the answers are wrong."
    if not pair["finished"] and goes_on:
        seconds = mean([*arm["seconds"], *pair["plain"]["seconds"]])
        left = 2 * seconds * (planned - done)
        return f"Epoch {done} of {planned}, {seconds:.1f} s for each run; about {left:.0f} s to go."
    begin = f"Stopped after epoch {done} of {planned}. " if not pair["finished"] else ""
    return f"{begin}{comparison_words(pair)}"


def comparison_words(pair: Values) -> str:
    """Who is better over the last epochs, said with its weight."""
    plain, arm = pair["plain"], pair["arm"]
    epochs = compared_epochs(pair)
    if not epochs:
        return "Nothing was dropped yet: so far the two runs are the same."
    ours, theirs = (mean(run["wrong"][-epochs:]) for run in (arm, plain))
    over = f"mean of the last {epochs} epochs" if epochs > 1 else "in the last epoch"
    figures = f"{ours:.1%} wrong against {theirs:.1%} ({over})"
    name = arm["label"][0].upper() + arm["label"][1:]
    if abs(ours - theirs) < 0.005:
        found = f"No difference to speak of: {arm['label']} has {figures}."
    elif ours < theirs:
        found = f"**{name} is better** than plain training here: {figures}."
    else:
        found = f"**Plain training is better** here: {arm['label']} has {figures}."
    return (
        f"{found} This is one seed: another one moves such shares by several points, so try a few before believing it."
    )


def compared_epochs(pair: Values) -> int:
    """Epochs at the end that the runs are compared over; before the first mask they are one and the same."""
    settings, begun = pair["arm"]["settings"], pair["arm"]["masked"]
    masks = settings["mode"] in MASKING
    different = (pair["epoch"] + 1 - begun[0] if begun else 0) if masks else pair["epoch"]
    return min(LAST, different)


def training_table(pair: Values) -> str:
    """Both runs in figures."""
    headers = [
        "run",
        "wrong at the end",
        "wrong, last epochs",
        "their spread",
        "“unknown”",
        "right",
        "flips",
        "loss",
        "s per epoch",
    ]
    rows = []
    for run in (pair["plain"], pair["arm"]):
        wrong = run["wrong"][-min(LAST, pair["epoch"]) :]
        shares = (
            run["wrong"][-1],
            mean(wrong),
            pstdev(wrong),
            run["refused"][-1],
            run["right"][-1],
            mean(run["flips"]),
        )
        rows.append(
            [
                run["label"],
                *(f"{share:.1%}" for share in shares),
                f"{run['loss'][-1]:.3f}",
                f"{mean(run['seconds']):.1f}",
            ]
        )
    return html_table(headers, rows, ["#64748b", "#4f46e5"])
