# SPDX-License-Identifier: Apache-2.0
"""What the demo of SenD shows: hallucinations and flips as a table and over the epochs, scores of right and wrong answers."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from send_evaluation import FILE
from send_report import LAST

from eigenhub.metrics import auroc
from eigenhub.training.metrics_log import read_metrics


MASKED = "SenD"
STYLES: dict[str, dict[str, Any]] = {
    "plain": {"color": "black", "lw": 2.2},
    MASKED: {"color": "tab:red", "lw": 2.2},
    "random indices": {"color": "tab:orange", "lw": 1.3},
    "dropout 0.1": {"color": "tab:green", "lw": 1.3},
    "averaged weights": {"color": "tab:blue", "lw": 1.3},
}


def print_table(folders: dict[str, Path]) -> None:
    """Final hallucinations, their mean and spread over the last epochs, and how many answers flip from epoch to epoch.

    Args:
        folders (`dict[str, Path]`): finished runs by name.
    """
    print(f"\n{'per cent of the questions':26}{'wrong':>8}{f'last {LAST}':>10}{'spread':>9}{'refused':>9}{'flips':>8}")
    for name, folder in folders.items():
        summary = json.loads((folder / "summary.json").read_text())
        last = summary["evaluation"]
        refused = last["refused"] / summary["rows"]["test"]
        shares = (last["hallucination"], summary["last_mean"], summary["last_spread"], refused, summary["mean_flip"])
        wrong, recent, spread, refused, flips = (100 * share for share in shares)
        print(f"{name:26}{wrong:8.1f}{recent:10.1f}{spread:9.1f}{refused:9.1f}{flips:8.1f}")
    print(
        f"wrong: at the end. last {LAST}: mean of the last {LAST} epochs, with its spread. flips: from epoch to epoch. One seed: "
        "differences\nof a few points are noise; the benchmark has five."
    )


def draw(folders: dict[str, Path], scores: Path, path: Path) -> None:
    """Hallucinations over the epochs, and EigenScore of right and of wrong answers.

    Args:
        folders (`dict[str, Path]`): finished runs by name.
        scores (`Path`): parquet file of the scoring script.
        path (`Path`): image to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
    draw_hallucinations(left, folders)
    draw_scores(right, scores_by_verdict(scores))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_hallucinations(axes: Any, folders: dict[str, Path]) -> None:
    """A line per run, with its last value in the legend; dotted where SenD chose what to drop.

    Args:
        axes (`Any`): of matplotlib.
        folders (`dict[str, Path]`): finished runs by name.
    """
    for name, folder in folders.items():
        rows = read_metrics(folder / FILE)
        epochs, wrong = [row["epoch"] for row in rows], [100 * row["hallucination"] for row in rows]
        style = STYLES.get(name, {"color": "tab:gray"})
        axes.plot(epochs, wrong, label=f"{name}: {wrong[-1]:.1f}", **style)
        if name == MASKED:
            epoch_of = {row["step"]: row["epoch"] for row in rows}
            chosen = json.loads((folder / "summary.json").read_text())["refreshes"]
            for number, entry in enumerate(chosen):
                label = "new indices dropped" if not number else None
                axes.axvline(epoch_of[entry["step"]], color=style["color"], lw=0.8, ls=":", label=label)
    axes.set(xlabel="epoch", ylabel="wrong answers, per cent", title="Hallucinations about new facts")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(title="at the end", framealpha=1, edgecolor="none")


def draw_scores(axes: Any, groups: dict[str, list[float]]) -> None:
    """A histogram per verdict on the same bins, its area 1.

    Args:
        axes (`Any`): of matplotlib.
        groups (`dict[str, list[float]]`): from [`scores_by_verdict`].
    """
    everything = [score for group in groups.values() for score in group]
    bounds = (min(everything), max(everything))
    for (name, group), color in zip(groups.items(), ("tab:blue", "tab:red"), strict=True):
        shape = {"bins": 40, "range": bounds, "density": bool(group), "alpha": 0.45, "histtype": "stepfilled"}
        axes.hist(group, color=color, label=f"{name} ({len(group):,})", **shape)
    title = "EigenScore of ten answers to each question"
    if all(groups.values()):
        wrong = [name != "right" for name, group in groups.items() for _ in group]
        title += f": AUROC {auroc(everything, wrong):.2f}"
    axes.set(xlabel="EigenScore: further right, the answers disagree more", ylabel="density", title=title)
    axes.legend(title="the plain model is", frameon=False)


def scores_by_verdict(scores: Path) -> dict[str, list[float]]:
    """EigenScores of the questions that were answered rightly, and of the others.

    Args:
        scores (`Path`): parquet file of the scoring script.
    """
    rows: list[dict[str, Any]] = Dataset.from_parquet(str(scores), keep_in_memory=True).to_list()
    return {
        "right": [row["eigenscore"] for row in rows if row["right"]],
        "wrong": [row["eigenscore"] for row in rows if not row["right"]],
    }
