# SPDX-License-Identifier: Apache-2.0
"""The tables of the study on GSM8K: detectors, what was right, and training further."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import mean
from typing import Any

from torch import Tensor

from support.report import row
from support.send_gsm8k_analysis import (
    RESAMPLES,
    estimate,
    rank_correlation,
    resamples,
    strata_of,
    weighted_auroc,
    weighted_prr,
)
from support.send_gsm8k_arms import HELD_OUT, PROBLEMS, RHO, flip_share
from support.send_gsm8k_data import Step, drills
from support.send_gsm8k_model import known_rows


#: Largest number of digits in the operands of a step, for all strata but the last.
DIGITS = (2, 3, 4, 5, 6)
#: Largest number of tokens in the greedy answer, its end included.
LENGTHS = (2, 3, 4)
LENGTH = "mean length"
#: The scorer's own setting, and what it is compared with.
OURS = "EigenScore inside, middle"
OTHERS = (
    "EigenScore sample, penultimate",
    "EES exact trace, penultimate",
    "EES as released, penultimate",
    "length-normalised entropy",
    "mean token entropy",
    "1 - mode share",
    LENGTH,
    "greedy, - log-probability",
)
#: With fewer right or fewer wrong answers an AUROC says nothing.
FEWEST = 20

Runs = Sequence[Mapping[str, Any]]  # of each seed, from `score_steps`


def detector_rows(temperature: float, runs: Runs, steps: Sequence[Step], count: int = RESAMPLES) -> list[dict]:
    """AUROC of each detector, with everything beside it.

    Args:
        temperature (`float`): of the samples.
        runs (`Sequence[Mapping]`): of each seed.
        steps (`Sequence[Step]`): what was asked.
        count (`int`, *optional*, defaults to 500): resamples of the questions.
    """
    weights, strata = resamples(len(steps), count), strata_by_name(runs, steps)
    rows = []
    for name in runs[0]["rows"][0]["scores"]:
        scores = _column(runs, name)
        found = judged(scores, _wrong(runs), weights, strata)
        pairs = zip(scores, _column(runs, LENGTH), strict=True)
        found["length_correlation"] = [rank_correlation(*pair) for pair in pairs]
        rows.append(_detector_row(f"AUROC, T={temperature:g}: {name}", found))
    return rows


def judged(
    scores: list[list[float]], wrong: list[list[bool]], weights: Tensor, strata: Mapping[str, list[list[int]]]
) -> dict[str, Any]:
    """AUROC, PRR and AUROC within strata of one detector.

    Args:
        scores (`list[list[float]]`): of each seed.
        wrong (`list[list[bool]]`): of each seed.
        weights (`Tensor` of shape `(b, n)`): from [`resamples`].
        strata (`Mapping[str, list[list[int]]]`): what is held fixed, of each seed.
    """
    count = len(scores)
    return {
        "auroc": asdict(estimate(lambda n: weighted_auroc(scores[n], wrong[n], weights), count)),
        "prr": asdict(estimate(lambda n: weighted_prr(scores[n], wrong[n], weights), count)),
        "within": {
            kind: asdict(estimate(lambda n, of=groups: weighted_auroc(scores[n], wrong[n], weights, of[n]), count))  # type: ignore[misc]
            for kind, groups in strata.items()
        },
    }


def _detector_row(what: str, found: dict[str, Any]) -> dict[str, Any]:
    parts = [
        f"PRR {_with_interval(found['prr'])}",
        *(f"within {kind} {_with_interval(within)}" for kind, within in found["within"].items()),
        f"rank correlation with length {mean(found['length_correlation']):.2f}",
    ]
    auroc = found["auroc"]
    spread = list(auroc["interval"])
    return row(what, "; ".join(parts), mean(auroc["seeds"]), range=spread) | {"seeds": auroc["seeds"], **found}


def difference_rows(temperature: float, runs: Runs, steps: Sequence[Step], count: int = RESAMPLES) -> list[dict]:
    """AUROC of the scorer's own setting less that of the others, on the same questions and resamples.

    Args:
        temperature (`float`): of the samples.
        runs (`Sequence[Mapping]`): of each seed.
        steps (`Sequence[Step]`): what was asked.
        count (`int`, *optional*, defaults to 500): resamples of the questions.
    """
    weights = resamples(len(steps), count)

    wrong = _wrong(runs)

    def figure(name: str, number: int) -> Tensor:
        return weighted_auroc(_column(runs, name)[number], wrong[number], weights)

    rows = []
    for other in OTHERS:
        found = estimate(lambda number, other=other: figure(OURS, number) - figure(other, number), len(runs))  # type: ignore[misc]
        what = f"AUROC, T={temperature:g}: {OURS} less {other}"
        rows.append(row(what, "", found.mean, range=list(found.interval), seeds=found.seeds))
    return rows


def strata_by_name(runs: Runs, steps: Sequence[Step]) -> dict[str, list[list[int]]]:
    """What is held fixed, for each seed.

    Args:
        runs (`Sequence[Mapping]`): of each seed.
        steps (`Sequence[Step]`): what was asked.
    """
    digits = strata_of([step.operand_digits for step in steps], DIGITS)
    lengths = [strata_of([entry["greedy_length"] for entry in run["rows"]], LENGTHS) for run in runs]
    return {"operand digits": [digits] * len(runs), "answer length": lengths}


def _column(runs: Runs, name: str) -> list[list[float]]:
    return [[entry["scores"][name] for entry in run["rows"]] for run in runs]


def _wrong(runs: Runs) -> list[list[bool]]:
    return [[not entry["right"] for entry in run["rows"]] for run in runs]


def _with_interval(found: Mapping[str, Any]) -> str:
    return f"{mean(found['seeds']):.3f} ({found['interval'][0]:.3f} to {found['interval'][1]:.3f})"


def answer_rows(runs: Runs, steps: Sequence[Step], final: Sequence[Mapping[str, Any]]) -> list[dict]:
    """What share of the answers was right, and of which steps.

    Args:
        runs (`Sequence[Mapping]`): of each seed.
        steps (`Sequence[Step]`): what was asked.
        final (`Sequence[Mapping]`): right final answers of each seed, and of how many.
    """
    right = [[entry["right"] for entry in run["rows"]] for run in runs]
    seen = {line.removeprefix("<<").partition("=")[0] for line in drills(known_rows())}
    groups = {"all steps": [True] * len(steps)}
    groups |= {"steps whose expression is in the training split": [step.expression in seen for step in steps]}
    groups |= {"steps whose expression is not": [step.expression not in seen for step in steps]}
    digits = strata_of([step.operand_digits for step in steps], DIGITS)
    for stratum in sorted(set(digits)):
        low, high = (0, *DIGITS)[stratum] + 1, (*DIGITS, None)[stratum]
        name = f"{low} or more" if high is None else f"{high}" if low == high else f"up to {high}"
        groups |= {f"steps with {name} operand digits": [entry == stratum for entry in digits]}
    rows = []
    for name, chosen in groups.items():
        if any(chosen):
            shares = [mean(r for r, c in zip(found, chosen, strict=True) if c) for found in right]
            rows.append(_over_seeds(f"right, per cent: {name}", f"{sum(chosen)} questions", [100 * s for s in shares]))
    numbers = ", ".join(f"{entry['right']} of {entry['questions']}" for entry in final)
    few = "; too few for an AUROC" if max(entry["right"] for entry in final) < FEWEST else ""
    shares = [100 * entry["right"] / entry["questions"] for entry in final]
    return [*rows, _over_seeds("right, per cent: final answers", f"greedy, {numbers}{few}", shares)]


def arm_rows(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict]:
    """Right steps, flips and held-out loss of training further, and how each arm differs from the plain one.

    Args:
        arms (`Mapping`): runs of each seed, by the name of the arm.
    """
    rows = []
    for what, figure in ARM_FIGURES.items():
        values = {name: [figure(run["evaluations"]) for run in runs] for name, runs in arms.items()}
        plain = values["plain"]
        for name, found in values.items():
            setting = f"{PROBLEMS} new problems, rho {RHO:g}, loss on {HELD_OUT} test problems"
            if name != "plain":
                differences = [a - b for a, b in zip(found, plain, strict=True)]
                setting = "less plain, seed by seed: " + ", ".join(f"{entry:+.3g}" for entry in differences)
            rows.append(_over_seeds(f"trained further, {what}: {name}", setting, found))
    before = [runs["evaluations"][0] for runs in arms["plain"]]
    rows.append(_over_seeds("before training further: steps right, per cent", "", [_right(entry) for entry in before]))
    rows.append(_over_seeds("before training further: held-out loss", "", [entry["loss"] for entry in before]))
    return rows


def _right(entry: Mapping[str, Any]) -> float:
    return 100 * mean(entry["right"])


ARM_FIGURES: dict[str, Callable[[Sequence[dict[str, Any]]], float]] = {
    "steps right at the end, per cent": lambda found: _right(found[-1]),
    "steps right, mean of the last three epochs": lambda found: mean(_right(entry) for entry in found[-3:]),
    "flips from epoch to epoch, per cent": lambda found: 100 * flip_share(found),
    "held-out loss at the end": lambda found: found[-1]["loss"],
    "held-out loss, lowest": lambda found: min(entry["loss"] for entry in found[1:]),
}


def _over_seeds(what: str, setting: str, values: list[float]) -> dict[str, Any]:
    return row(what, setting, mean(values), range=[min(values), max(values)], seeds=values)
