# SPDX-License-Identifier: Apache-2.0
"""The figure of the fact-recall study, drawn from its saved results."""

import json
from pathlib import Path

from support.report import results_folder


#: Arms that are drawn, with their colours; the controls first.
SHOWN = {
    "plain": "0.25",
    "weight EMA": "tab:green",
    "random, hidden": "tab:orange",
    "SenD, hidden": "tab:red",
    "SenD, hidden, mask on": "tab:purple",
    "SenD, mlp": "tab:blue",
}


def draw(path: Path) -> None:
    """Hallucination share by epoch: mean over seeds, and one standard deviation to both sides.

    Args:
        path (`Path`): of the image.
    """
    import matplotlib

    matplotlib.use("Agg")
    import torch
    from matplotlib import pyplot as plt

    rows = json.loads((results_folder() / "send_facts.json").read_text())["rows"]
    curves = {entry["arm"]: torch.tensor(entry["curves"]) for entry in rows if "curves" in entry}
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for name, color in SHOWN.items():
        values = 100 * curves[name]  # [seeds, epochs]
        epochs, middle, sd = range(1, values.shape[1] + 1), values.mean(0), values.std(0)
        axes.plot(epochs, middle, color=color, lw=2, label=name)
        axes.fill_between(epochs, middle - sd, middle + sd, color=color, alpha=0.12, lw=0)
    axes.set(
        xlabel="epoch", ylabel="wrong answers to held-out questions, %", xlim=(1, values.shape[1]), ylim=(0, None)
    )
    axes.axvline(3, color="0.6", lw=0.8, ls=":")
    axes.annotate("first mask", (3, axes.get_ylim()[1]), xytext=(4, -12), textcoords="offset points", color="0.4")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title=f"mean of {len(values)} seeds, band ± sd")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
