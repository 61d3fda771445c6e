# SPDX-License-Identifier: Apache-2.0
"""What the demo of FedSVD shows: a table of the runs, how far their products are apart, curves over the rounds."""

import json
from pathlib import Path
from typing import Any

import torch
from fedsvd_digits import federated_digits
from safetensors.torch import load_file, save_file
from torch import Tensor

from eigenhub.federated import FederatedLoraTrainer, pair_lora_keys
from eigenhub.training.metrics_log import read_metrics


def keep_logits(trainer: FederatedLoraTrainer, path: Path) -> None:
    """Some test digits and their logits under the trained model, for a comparison after reloading.

    Args:
        trainer (`FederatedLoraTrainer`): finished.
        path (`Path`): safetensors file to write.
    """
    pixels = federated_digits("test")[:64]["pixel_values"]
    with torch.no_grad():
        logits = trainer.model.eval()(pixel_values=pixels).logits
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"pixel_values": pixels, "logits": logits}, path)


def print_table(folders: dict[str, Path]) -> None:
    """Accuracy over the rounds, what a client sends, what averaging gets wrong, epsilon.

    Args:
        folders (`dict[str, Path]`): finished runs by name.
    """
    rows = {name: read_metrics(folder / "metrics.jsonl") for name, folder in folders.items()}
    marks = milestones(len(next(iter(rows.values()))))
    head = "".join(f"{f'round {mark}':>10}" for mark in marks)
    print(f"\n{'test accuracy, per cent':26}{head}{'bytes up':>10}{'averaging error':>17}{'epsilon':>9}")
    for name, of_run in rows.items():
        accuracy = "".join(f"{100 * of_run[mark - 1]['eval_accuracy']:10.1f}" for mark in marks)
        sent = json.loads((folders[name] / "summary.json").read_text())["upload_bytes"]
        error = max(row["aggregation_error"] for row in of_run)
        spent = f"{of_run[-1]['epsilon']:9.2f}" if "epsilon" in of_run[-1] else f"{'-':>9}"
        print(f"{name:26}{accuracy}{sent:10,.0f}{error:17.1e}{spent}")
    print(
        "bytes up: per client and round. Averaging error: of B A, relative, in the worst round; averaging B alone has none."
    )


def milestones(rounds: int) -> list[int]:
    """A third, two thirds and the end of a run."""
    return sorted({max(1, round(rounds / 3)), max(1, round(2 * rounds / 3)), rounds})


def products_apart(first: Path, second: Path, rounds: int = 12) -> float:
    """Largest relative distance between the products B A of two runs after the same round.

    Args:
        first (`Path`): folder of a run that kept all its rounds.
        second (`Path`): of another.
        rounds (`int`, *optional*, defaults to 12): the first so many; rounding errors grow from round to round.
    """
    apart = []
    for folder in sorted((first / "checkpoints").glob("round_*"))[:rounds]:
        here, there = (
            products(run / "checkpoints" / folder.name / "adapter_state.safetensors") for run in (first, second)
        )
        distance = sum((here[name] - there[name]).square().sum() for name in here).sqrt()
        apart.append((distance / sum(product.square().sum() for product in here.values()).sqrt()).item())
    return max(apart)


def products(path: Path) -> dict[str, Tensor]:
    """B A of every layer of a saved round, float64."""
    state = load_file(path)
    return {name: state[pair.B].double() @ state[pair.A].double() for name, pair in pair_lora_keys(state).items()}


def draw(folders: dict[str, Path], path: Path) -> None:
    """Accuracy of all runs and singular values of the first, over the rounds.

    Args:
        folders (`dict[str, Path]`): finished runs by name.
        path (`Path`): image to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for number, (name, folder) in enumerate(folders.items()):
        rows = read_metrics(folder / "metrics.jsonl")
        # the first two lie on one another: dashes let the lower one show
        style = "--" if number == 1 else "-"
        left.plot(steps(rows), [100 * row["eval_accuracy"] for row in rows], style, label=name)
    left.set(xlabel="round", ylabel="test accuracy, per cent", title="Accuracy of the global adapter")
    left.legend()
    first = next(iter(folders))
    rows = read_metrics(folders[first] / "metrics.jsonl")
    for values in zip(*(row["singular_values"] for row in rows), strict=True):
        right.plot(steps(rows), values, color="tab:blue")
    right.set(xlabel="round", ylabel="singular value of B A", title=f"{first}: singular values, mean over layers")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def steps(rows: list[dict[str, Any]]) -> list[int]:
    return [row["step"] for row in rows]
