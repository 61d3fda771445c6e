# SPDX-License-Identifier: Apache-2.0
"""What the demo shows of its runs: a table of accuracies under noise, the same as a figure, and the transfer functions."""

import json
import sys
from pathlib import Path
from typing import Any

from eigenhub.hub.resources import find


ORDER = 32


def summarise(folder: Path) -> dict[str, Any]:
    """Accuracy by amplitude of the noise, and what the perturbation was, of one run."""
    summary = json.loads((folder / "summary.json").read_text())
    noisy = {float(amplitude): found["accuracy"] for amplitude, found in summary["noise"].items()}
    info = summary["ptd_info"] or {}
    return {
        "accuracy": {0.0: summary["test_accuracy"]} | noisy,
        "frequency": summary["noise_frequency"],
        "kappa": info.get("kappa"),
        "perturbation": info.get("rel_frobenius"),
        "parameters": summary["parameters"],
        "seconds": summary["train_seconds"],
    }


def print_table(rows: dict[str, dict[str, Any]], steps: int) -> None:
    """One line per initialisation, in the order of the runs."""
    first = next(iter(rows.values()))
    heads = [f"a = {amplitude:g}" if amplitude else "clean" for amplitude in first["accuracy"]]
    table = [("initialisation", *heads, "lost", "kappa", "size of E")]
    for name, row in rows.items():
        shares = list(row["accuracy"].values())
        lost = f"{100 * (shares[0] - shares[-1]):.1f}"
        solved = (f"{row['kappa']:.2f}", f"{row['perturbation']:.1%}") if row["kappa"] else ("-", "-")
        table.append((name, *(f"{share:.1%}" for share in shares), lost, *solved))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    print(
        f"\nAccuracy on test digits after {steps} steps, one seed, with noise of amplitude a at w = {first['frequency']:.1f}:"
    )
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(
        "lost: points between clean and the last column; at a = 1 the noise is as large as the pixels. It is the worst noise for "
        "S4D-LegS:\nS4D-Lin has no eigenvalue there, and the random input map of S5 does not excite it. The perturbed ones lose 3 "
        "points in\nbenchmarks/s5_noise.py, where eigenvalues are frozen and no D carries noise past the system."
    )


def draw_noise(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Accuracy over amplitude."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, row in rows.items():
        shares = [100 * share for share in row["accuracy"].values()]
        style = "-" if name.startswith("S4") else "--"
        axes.plot([str(a) for a in row["accuracy"]], shares, style, marker="o", ms=4, label=name)
    axes.set(xlabel="amplitude of the noise", ylabel="test accuracy, %", ylim=(0, 102), title="One tone of noise")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_transfer(path: Path) -> None:
    """Gain of each initialisation beside exact HiPPO, drawn by the code of the Space."""
    sys.path.insert(0, str(find("spaces/s5_ptd")))
    from transfer_figure import save_transfer_figure

    save_transfer_figure(path, ORDER)
