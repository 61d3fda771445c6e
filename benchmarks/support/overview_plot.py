# SPDX-License-Identifier: Apache-2.0
"""The picture of the README: one panel per method, from the measured figures of the cards.

python benchmarks/support/overview_plot.py
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib


matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from eigenhub.hub.resources import find  # noqa: E402
from eigenhub.hub.results import load_results  # noqa: E402
from eigenhub.methods import get_method  # noqa: E402


PICTURE = Path(__file__).parents[2] / "docs" / "images" / "overview.png"
OURS, OTHERS = "#4f46e5", "#64748b"


@dataclass(frozen=True)
class Panel:
    """Points of one method: label and id of a measured figure; those whose label starts with `*` are the method's."""

    slug: str
    title: str
    points: dict[str, str]
    factor: float = 1.0


PANELS = (
    Panel(
        "sorsa",
        "SORSA\naccuracy on digits, %",
        {
            "LoRA": "digits-r8-lora-accuracy",
            "PiSSA": "digits-r8-pissa-accuracy",
            "*penalty off": "digits-r8-sorsa-penalty-off-accuracy",
            "*SORSA": "digits-r8-sorsa-accuracy",
        },
        100,
    ),
    Panel(
        "dct",
        "DCT optimizers\nloss at rank 32, less is better",
        {
            "AdamW": "stdlib-bytes-adamw",
            "GaLore": "stdlib-bytes-galore-r-32-gap-50",
            "random axes": "stdlib-bytes-random-r-32-gap-10",
            "*DCT-AdamW": "stdlib-bytes-dct-r-32",
            "*with residual": "stdlib-bytes-dct-r-32-gap-10-fira",
        },
    ),
    Panel(
        "s5_ptd",
        "S4-PTD\naccuracy under the worst noise, %",
        {
            "S4D": "digits-256-s4d-legs-noise-1-without",
            "exact HiPPO": "digits-256-exact-hippo-dense-noise-1-without",
            "S5": "digits-256-s5-noise-1-without",
            "*S4-PTD": "digits-256-s4-ptd-noise-1-without",
        },
    ),
    Panel(
        "bt2",
        "BT²\nhits in the old index, CMC@1, %",
        {
            "old model": "glyphs-old-model-old-old-cmc1",
            "rotation": "glyphs-procrustes-new-old-cmc1",
            "BCT": "glyphs-bct-warm-start-new-old-cmc1",
            "*BT²": "glyphs-bt2-new-old-cmc1",
        },
    ),
    Panel(
        "fedsvd",
        "FedSVD\naccuracy of six clients, %",
        {
            "FFA-LoRA": "digits-plain-ffa",
            "FedAvg": "digits-plain-fedavg",
            "FFA, A orthonormal": "digits-plain-ffa-orth",
            "*FedSVD": "digits-plain-fedsvd",
        },
    ),
    Panel(
        "send",
        "EigenScore\nfinds wrong answers, AUROC",
        {
            "EES as released": "facts-auroc-ees-released",
            "token entropy": "facts-auroc-mean-token-entropy",
            "LN entropy": "facts-auroc-length-normalized-entropy",
            "*EigenScore": "facts-auroc-eigenscore-inside-paper",
        },
    ),
    Panel(
        "send",
        "SenD\nwrong answers, %, less is better",
        {
            "plain training": "facts-final-plain",
            "random indices": "facts-final-random-hidden",
            "weight average": "facts-final-weight-ema",
            "*SenD": "facts-final-send-hidden",
        },
        100,
    ),
    Panel(
        "householder",
        "Householder projector\nplanted error, 1e-3, less is better",
        {
            "full rank": "planted-mse-control",
            "full rank, large steps": "planted-mse-control-fast",
            "low rank": "planted-mse-low-rank",
            "*projector": "planted-mse-projector",
        },
        1000,
    ),
)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Points with the spread of the seeds, and their values."""
    figures = {figure.id: figure for figure in load_results(find(get_method(panel.slug).results)).measured}
    for position, (label, name) in enumerate(panel.points.items()):
        value, spread = figures[name].value * panel.factor, (figures[name].spread or 0.0) * panel.factor
        color = OURS if label.startswith("*") else OTHERS
        axes.errorbar(value, position, xerr=spread, fmt="o", ms=8, color=color, elinewidth=2.5, capsize=0)
        axes.annotate(
            f"{value:.3g}", (value, position), (0, 6), textcoords="offset points", ha="center", fontsize=8, color=color
        )
    axes.set_yticks(range(len(panel.points)), [label.removeprefix("*") for label in panel.points], fontsize=9)
    axes.set_ylim(len(panel.points) - 0.6, -0.75)
    axes.margins(x=0.12)
    axes.set_title(panel.title, fontsize=9.5, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(alpha=0.25)


def draw() -> Path:
    """Draw all panels into `PICTURE`."""
    figure, grid = plt.subplots(2, 4, figsize=(14, 5), layout="constrained")
    for axes, panel in zip(grid.flat, PANELS, strict=True):
        draw_panel(axes, panel)
    figure.savefig(PICTURE, dpi=100)
    plt.close(figure)
    return PICTURE


if __name__ == "__main__":
    print(draw())
