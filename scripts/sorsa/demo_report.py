# SPDX-License-Identifier: Apache-2.0
"""What the demo shows of its runs: a table, loss curves, spectra."""

import argparse
import datetime
import json
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev

from eigenhub.hub.results import DatasetRef, Measured
from eigenhub.training.metrics_log import read_metrics


WINDOW = 20


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(run / "metrics.jsonl")]


def best_rate(tried: list[list[Path]]) -> list[Path]:
    """The runs (one per seed) at the learning rate with the lowest final training loss; the test digits have no say."""
    return min(tried, key=lambda runs: mean(mean(losses(run)[-WINDOW:]) for run in runs))


def summarise(runs: list[Path]) -> dict:
    """Means over seeds, each with its standard deviation."""
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    curves = [losses(run) for run in runs]
    columns = {
        "early_loss": [mean(curve[WINDOW : 2 * WINDOW]) for curve in curves],
        "final_loss": [mean(curve[-WINDOW:]) for curve in curves],
        "accuracy": [summary["accuracy"] for summary in summaries],
        "penalty": [summary["penalty"] for summary in summaries if "penalty" in summary],
        "condition_number": [summary["condition_number"] for summary in summaries if "penalty" in summary],
    }
    row: dict = {name: spread(values) for name, values in columns.items()}
    row["lr"] = summaries[0]["settings"]["lr"]
    row["trainable_parameters"] = summaries[0]["trainable_parameters"]
    return row


METRICS = {
    "early_loss": f"training loss, steps {WINDOW + 1} to {2 * WINDOW}",
    "final_loss": f"training loss, last {WINDOW} steps",
    "accuracy": "accuracy",
    "penalty": "R",
    "condition_number": "median kappa of U diag(S) V",
}


def measured(rows: dict[str, dict], args: argparse.Namespace) -> list[Measured]:
    """The table in the form of a results file."""
    command = f"eigenhub demo sorsa --rank {args.rank} --steps {args.steps} --seeds {args.seeds}"
    figures = []
    for method, row in rows.items():
        slug = method.lower().replace(", ", "-").replace(" ", "-")
        for name, metric in METRICS.items():
            if row[name] is not None:
                value, deviation = row[name]
                figures.append(
                    Measured(
                        id=f"digits-r{args.rank}-{slug}-{name}",
                        method=slug,
                        task="image-classification",
                        dataset=DatasetRef("sklearn/digits", "Handwritten digits, turned to upright", "test"),
                        metric=metric,
                        value=float(f"{value:.4g}"),
                        setting=f"small ViT, rank {args.rank}, {args.steps} steps, learning rate {row['lr']:g}",
                        seeds=list(range(args.seeds)),
                        command=command,
                        hardware=f"CPU, {platform.machine()}, 1 thread",
                        date=datetime.date.today().isoformat(),
                        versions={name: version(name) for name in ("torch", "transformers", "peft", "accelerate")},
                        spread=float(f"{deviation:.2g}") if args.seeds > 1 else None,
                    )
                )
    return figures


def spread(values: list[float]) -> tuple[float, float] | None:
    return (mean(values), stdev(values) if len(values) > 1 else 0.0) if values else None


def print_table(rows: dict[str, dict], args: argparse.Namespace) -> None:
    early = f"loss {WINDOW + 1}-{2 * WINDOW}"
    heads = ("method", "lr", early, f"loss last {WINDOW}", "test accuracy", "R", "kappa", "parameters")
    table = [heads]
    for method, row in rows.items():
        figures = [show(row[name], ".3f") for name in ("early_loss", "final_loss", "accuracy")]
        figures += [show(row["penalty"], ".2g"), show(row["condition_number"], ".1f")]
        table.append((method, f"{row['lr']:g}", *figures, f"{row['trainable_parameters']:,}"))
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    print(f"\nrank {args.rank}, {args.steps} steps, mean ± standard deviation over {args.seeds} seeds")
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(
        "R: distance of U and V from orthonormality; kappa: condition number of U diag(S) V, median over the layers."
    )


def show(value: tuple[float, float] | None, form: str) -> str:
    return "-" if value is None else f"{value[0]:{form}} ± {value[1]:{form}}"


def pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw_losses(runs: dict[str, list[Path]], path: Path) -> None:
    """Training loss, mean over seeds and smoothed over ten steps."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for method, folders in runs.items():
        curve = [mean(step) for step in zip(*map(losses, folders), strict=True)]
        smooth = [mean(curve[max(0, end - 10) : end]) for end in range(1, len(curve) + 1)]
        axes.plot(range(1, len(smooth) + 1), smooth, label=method)
    axes.set(
        xlabel="step", ylabel="training loss", yscale="log", title="Upright digits, each at its best learning rate"
    )
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_spectra(adapter: Path, path: Path) -> None:
    """Singular values before and after training, one panel per adapted weight."""
    from safetensors.torch import load_file

    tensors = load_file(adapter)
    after = {name.removesuffix(".sorsa_S"): value for name, value in tensors.items() if name.endswith(".sorsa_S")}
    plt = pyplot()
    figure, panels = plt.subplots(
        len(after) // 6, 6, figsize=(13, 2.3 * (len(after) // 6)), sharex=True, layout="constrained"
    )
    for axes, (name, trained) in zip(panels.flat, after.items(), strict=True):
        axes.plot(tensors[f"{name}.sorsa_S0"].numpy(), "o-", ms=3, color="0.6", label="before")
        axes.plot(trained.abs().sort(descending=True).values.numpy(), "o-", ms=3, color="C3", label="after")
        axes.set_title(name.split("layers.")[-1], fontsize=8)
    panels.flat[0].legend(fontsize=8)
    figure.supylabel("singular value")
    figure.savefig(path, dpi=150)
    plt.close(figure)
