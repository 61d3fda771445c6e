# SPDX-License-Identifier: Apache-2.0
"""What the demo shows of its runs: a table and loss curves."""

import json
from pathlib import Path
from statistics import mean, median

from eigenhub.training.metrics_log import read_metrics


SMOOTHED = 10


def summarise(folder: Path) -> dict:
    """Losses, rate, memory and time of one run."""
    summary = json.loads((folder / "summary.json").read_text())
    clock = [row["seconds"] for row in read_metrics(folder / "metrics.jsonl")]
    return {
        **{
            name: summary[name]
            for name in ("lr", "eval_loss", "perplexity", "optimizer_state_bytes", "optimizer_state")
        },
        # the median leaves out the steps that shared their second with something else
        "milliseconds_per_step": 1000 * median(b - a for a, b in zip(clock, clock[1:], strict=False)),
    }


def print_table(rows: dict[str, dict], steps: int) -> None:
    """Best first."""
    table = [("matrices trained by", "lr", "held-out loss", "bits per byte", "optimizer state", "ms per step")]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["eval_loss"]):
        state = row["optimizer_state_bytes"] / 2**20
        figures = (f"{row['eval_loss']:.3f}", f"{row['eval_loss'] / 0.6931:.3f}", f"{state:.2f} MiB")
        table.append((name, f"{row['lr']:g}", *figures, f"{row['milliseconds_per_step']:.0f}"))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    print(f"\n{steps} steps, one seed: differences below 0.05 mean nothing. Everything else by AdamW in all runs.")
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_memory(name: str, rows: dict[str, dict]) -> None:
    """What one optimizer keeps, by name, beside the whole of AdamW."""
    row = rows[name]
    parts = sorted(row["optimizer_state"].items(), key=lambda item: -item[1])
    listed = ", ".join(f"{key} {size / 2**10:.1f} KiB" for key, size in parts)
    share = row["optimizer_state_bytes"] / rows["AdamW"]["optimizer_state_bytes"]
    print(f"\nmemory of {name}: {listed};\n{share:.0%} of AdamW's state, embeddings and head included")


def draw_race(runs: dict[str, Path], path: Path) -> None:
    """Held-out losses of every run over its smoothed training loss, best first in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves = {name: read_metrics(folder / "metrics.jsonl") for name, folder in runs.items()}
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for name in sorted(curves, key=lambda name: curves[name][-1]["eval_loss"]):
        rows = curves[name]
        held_out = [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]
        style = {"linestyle": ":", "color": "0.3"} if name.startswith("frozen") else {}
        (line,) = axes.plot(*zip(*held_out, strict=True), marker="o", ms=4, label=name, **style)
        losses = [row["loss"] for row in rows]
        smooth = [mean(losses[max(0, end - SMOOTHED) : end]) for end in range(1, len(losses) + 1)]
        axes.plot([row["step"] for row in rows], smooth, color=line.get_color(), alpha=0.25, linewidth=1)
    first = max(row["eval_loss"] for rows in curves.values() for row in rows if "eval_loss" in row)
    axes.set_ylim(top=first + 0.3)  # the first steps fall from 5.5 and would flatten all that follows
    axes.set(
        xlabel="step",
        ylabel="loss on held-out text, nats per byte (faint: training)",
        title="Who trains the matrices?",
    )
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
