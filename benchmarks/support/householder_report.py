# SPDX-License-Identifier: Apache-2.0
"""Tables and comparisons of the study of planted factors and of its adversarial counterpart."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from support import householder_gan, householder_planted
from support.report import row


TITLES = {
    "planted": "Householder projector: planted factors",
    "gan": "Householder projector: directions of a small GAN",
}
NOTES = {
    "planted": (
        "Test error on 1,024 images, mean over seeds {seeds} with the smallest and the largest; {pretrain_steps} steps with ordinary "
        "affines, then {tune_steps} in every arm, batch 16, Adam at 2e-3 that falls to zero. Outside: share of the squared affine that "
        "reads noise, mean over the five convolutions; of its best approximation of rank 5 in brackets. Cosines: mean over the three "
        "smallest principal angles between what a layer reads and the planted span, and over the layers. An equalised weight is scaled by "
        "1/sqrt(32) when used, so a step of Adam moves it less than the vectors of a factored one: arms at lr x 5.7 undo that."
    ),
    "gan": (
        "{steps} adversarial steps, then {tune_steps} in every arm, batch 16, R1 gamma 1, no path length penalty; seeds {seeds}. "
        "Disentanglement (DCI) of the mean change of five factors, over five directions at a mean change of the pixels (from -1 to 1) of {change}, by "
        "edits of one layer's style on 64 samples, read by a network of {reader_steps} steps. Fréchet distance and path lengths in its features."
    ),
}
Table = dict[str, list[dict[str, Any]]]


def rows_of(part: str, table: Table) -> list[dict[str, Any]]:
    """Rows of a report.

    Args:
        part (`str`): `"planted"` or `"gan"`.
        table (`dict`): runs by arm.
    """
    return [*planted_rows(table), *planted_claims(table)] if part == "planted" else gan_rows(table)


def entry(what: str, setting: str, values: Sequence[float], bound: float | None = None) -> dict[str, Any]:
    return row(what, setting, mean(values), bound, range=[min(values), max(values)], seeds=list(values))


def title_of(arm: str) -> str:
    """The name of an arm for readers."""
    names = {
        householder_planted.PRETRAINED: "after pretraining",
        householder_planted.PROJECTED: "projector, before tuning",
    }
    return names.get(arm) or householder_planted.ARMS[arm].title


def outside(run: dict[str, Any], of_best: bool = False) -> float:
    """Share of the affines that reads noise, mean over the layers."""
    return mean(run["outside_best" if of_best else "outside"].values())


def cosines(run: dict[str, Any]) -> float:
    """Mean of the three largest principal cosines, over the layers."""
    return mean(mean(values[:3]) for values in run["cosines"].values())


def planted_rows(table: Table) -> list[dict[str, Any]]:
    """One row per arm."""
    rows = []
    for arm, runs in table.items():
        setting = (
            f"test MSE; outside {mean(map(outside, runs)):.3f} ({mean(outside(run, True) for run in runs):.3f}), "
            f"cosines {mean(map(cosines, runs)):.3f}"
        )
        rows.append(entry(f"planted: {title_of(arm)}", setting, [run["mse"] for run in runs]) | {"all": runs})
    return rows


def planted_claims(table: Table) -> list[dict[str, Any]]:
    """Differences seed by seed; a bound is what the documentation says."""

    def ratio(left: str, right: str, bound: float | None = None) -> dict[str, Any]:
        values = [a["mse"] / b["mse"] for a, b in zip(table[left], table[right], strict=True)]
        return entry(f"{title_of(left)} over {title_of(right)}", "test MSE, seed by seed", values, bound)

    def less_noise(left: str, right: str, bound: float | None = None) -> dict[str, Any]:
        values = [
            max(a["outside"][name] - b["outside"][name] for name in a["outside"])
            for a, b in zip(table[left], table[right], strict=True)
        ]
        return entry(f"{title_of(left)} less {title_of(right)}", "outside, in the worst layer", values, bound)

    return [
        ratio("projector", "control", 1.0),
        less_noise("projector", "control", 0.0),
        ratio("projector", "control_fast"),
        less_noise("projector", "control_fast"),
        ratio("projector_fast", "control_faster"),
        ratio("projector", "low_rank"),
        ratio("projector_learned", "projector"),
        ratio("projector_random", "projector"),
    ]


def gan_rows(table: Table) -> list[dict[str, Any]]:
    """Fidelity of every arm, and the score of every set of directions in both layers."""
    rows = []
    for arm, runs in table.items():
        lengths = mean(run["path_length"] for run in runs)
        setting = f"Fréchet distance; path length {lengths:.3g}"
        rows.append(entry(f"GAN, {arm}", setting, [run["frechet"] for run in runs]) | {"all": runs})
    for arm, runs in table.items():
        for name in householder_gan.ARMS[arm][1]:
            for layer in householder_gan.LAYERS:
                found = [run["sets"][f"{layer} {name}"] for run in runs]
                setting = (
                    f"disentanglement at {layer}; completeness {mean(f['completeness'] for f in found):.3f}, edit path length "
                    f"{mean(f['edit_path_length'] for f in found):.3g}, longest step {max(max(f['steps']) for f in found):.3g}"
                )
                rows.append(entry(f"GAN, {arm}: {name}", setting, [f["disentanglement"] for f in found]))
    return rows
