# SPDX-License-Identifier: Apache-2.0
"""The rows of the report of the fact-recall study."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from support.report import row
from support.send_facts_arms import Arm, Table, figures_of
from support.send_facts_statistics import chance_overlap, consecutive_overlaps, paired, spread
from support.send_facts_timing import milliseconds, timing_rows


METRICS = ("final", "last", "last_sd", "flip", "refused", "right")
COMPARED = ("last", "final", "flip")
#: Arms whose choice of indices is looked at.
CHOOSERS = ("plain", "SenD, hidden", "SenD, mlp", "SenD, update", "SenD, mixed", "30 % tracked: SenD")
#: Largest accepted cost of SenD outside of its tracking.
SLOWDOWN = 1.05


def arm_rows(arms: Sequence[Arm], table: Table) -> list[dict[str, Any]]:
    """Hallucination share at the end, with the other figures in the setting and everything in the details.

    Args:
        arms (`Sequence[Arm]`): in the order of the report.
        table (`dict`): their runs.
    """
    rows = []
    for arm in arms:
        every = {metric: figures_of(table, arm.name, metric) for metric in METRICS}
        shown = [f"sd {spread(every['final']):.3f}"]
        shown.append(f"last five {mean(every['last']):.3f} (sd {spread(every['last']):.3f})")
        shown.append(f"within a run {mean(every['last_sd']):.3f}, flips {mean(every['flip']):.3f}")
        shown.append(f"refused {mean(every['refused']):.3f}, right {mean(every['right']):.3f}")
        values = every["final"]
        details: dict[str, Any] = {"arm": arm.name, "flags": " ".join(arm.flags), "all": every}
        details["curves"] = [[entry["hallucination"] for entry in run["epochs"]] for run in table[arm.name]]
        what, ends = f"hallucinated, {arm.name}", [min(values), max(values)]
        rows.append(row(what, f"{len(values)} seeds; {'; '.join(shown)}", mean(values), range=ends, **details))
    return rows


def paired_rows(arms: Sequence[Arm], table: Table) -> list[dict[str, Any]]:
    """Every arm less its plain and its random peer, seed by seed: the mean over the last five epochs.

    Args:
        arms (`Sequence[Arm]`): in the order of the report.
        table (`dict`): their runs and those of their peers.
    """
    rows = []
    for arm in arms:
        for peer in (arm.plain, arm.random):
            if peer is None:
                continue
            own = slice(0, len(table[arm.name]))  # extra arms have fewer seeds
            every = {
                metric: paired(figures_of(table, arm.name, metric), figures_of(table, peer, metric)[own])
                for metric in COMPARED
            }
            setting = "; ".join([_difference("last five", every["last"], False), *_others(every)])
            found = every["last"]["differences"]
            details: dict[str, Any] = {"range": [min(found), max(found)], "arm": arm.name, "peer": peer, "all": every}
            rows.append(row(f"{arm.name} less {peer}", setting, every["last"]["mean"], **details))
    return rows


def _others(every: dict[str, dict[str, Any]]) -> list[str]:
    return [_difference(name, every[metric], True) for name, metric in (("final", "final"), ("flips", "flip"))]


def _difference(name: str, found: dict[str, Any], with_mean: bool) -> str:
    middle = f" {found['mean']:+.3f}" if with_mean else ""
    count = len(found["differences"])
    return f"{name}{middle}, sd {found['sd']:.3f}, above in {found['above']} and below in {found['below']} of {count}"


def stability_rows(table: Table) -> list[dict[str, Any]]:
    """Share of the chosen indices that two halves of the tracked texts agree on, and that two choices in turn share.

    Args:
        table (`dict`): runs of the arms of `CHOOSERS` that took part; in arm `plain`, what SenD would have chosen.
    """
    rows = []
    for name in CHOOSERS:
        runs = table.get(name, [])
        if not runs or not runs[0]["sets"]:
            continue
        first = runs[0]["sets"][0]
        count, size = len(first["chosen"]), first["size"]
        chance = chance_overlap(count, size) / count
        setting = f"of {count} of {size} indices; chance {chance:.2f}; at checkpoint "
        halves = [[entry["halves"] / count for entry in run["sets"]] for run in runs]
        turns = [[n / count for n in consecutive_overlaps([e["chosen"] for e in run["sets"]])] for run in runs]
        places = [entry["checkpoint"] for entry in runs[0]["sets"]]
        for what, values, shown in (
            ("two halves of the texts agree", halves, places),
            ("kept at the next choice", turns, places[1:]),
        ):
            if not values[0]:
                continue
            seeds = [mean(run) for run in values]
            means = ", ".join(f"{place}: {mean(run[i] for run in values):.2f}" for i, place in enumerate(shown))
            details: dict[str, Any] = {"range": [min(seeds), max(seeds)], "seeds": seeds, "chance": chance}
            rows.append(row(f"{what}: {name}", setting + means, mean(seeds), arm=name, **details))
    return rows


def detector_rows(scored: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """AUROC of every detector at the first temperature, the others in the setting.

    Args:
        scored (`Sequence[Sequence[dict]]`): by seed, then by temperature.
    """
    order = list(zip(*scored, strict=True))
    first, rows = order[0], []
    for name in first[0]["auroc"]:
        values = [entry["auroc"][name] for entry in first]
        others = [_case(case, name) for case in order[1:]]
        sd = f"sd {spread(values):.3f}"
        setting = f"{_conditions(first)}; {'; '.join([sd, *others])}"
        details: dict[str, Any] = {"range": [min(values), max(values)], "detector": name, "seeds": values}
        details["all"] = [
            {
                "epoch": case[0]["epoch"],
                "temperature": case[0]["temperature"],
                "seeds": [e["auroc"][name] for e in case],
            }
            for case in order
        ]
        rows.append(row(f"AUROC: {name.replace('_', ' ')}", setting, mean(values), **details))
    return rows


def _conditions(case: Sequence[dict[str, Any]]) -> str:
    wrong = mean(entry["wrong"] for entry in case)
    return f"T={case[0]['temperature']:g}, epoch {case[0]['epoch']}, {100 * wrong:.0f} % wrong"


def _case(case: Sequence[dict[str, Any]], name: str) -> str:
    values = [entry["auroc"][name] for entry in case]
    return f"{mean(values):.3f} (sd {spread(values):.3f}) at {_conditions(case)}"


def cost_rows(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """What an epoch of SenD takes, over one of the stock `Trainer`.

    Args:
        seconds (`dict`): see [`timing`].
    """
    ratios = timing_rows(seconds)
    plain, tracking = milliseconds(seconds["plain"]), milliseconds(seconds["tracking"])
    parts = (
        ("SenD without tracking", "outside", f"an epoch of the stock Trainer takes {plain}", SLOWDOWN),
        ("tracking", "tracking", f"56 texts at the end of each epoch, {tracking}", None),
        ("SenD", "SenD", "tracking included", None),
    )
    return [
        row(f"time of an epoch: {what} over plain", setting, ratios[key]["ratio"], bound, "ratio", **ratios[key])
        for what, key, setting, bound in parts
    ]
