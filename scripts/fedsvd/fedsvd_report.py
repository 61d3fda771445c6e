# SPDX-License-Identifier: Apache-2.0
"""What `train_fedsvd.py` says about a run: a row of metrics per round, the summary, the results file, the model card."""

import argparse
import datetime
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsvd_tasks import Task
from torch import Tensor

from eigenhub.federated import (
    AggregateResult,
    ClientUpdate,
    FederatedCallback,
    FederatedLoraTrainer,
    aggregation_error,
)
from eigenhub.federated.refactor import refactored
from eigenhub.hub.cards import write_card
from eigenhub.hub.results import DatasetRef, Measured, Results, save_results
from eigenhub.training.metrics_log import MetricsLog
from eigenhub.training.options import EMBEDDED, as_settings
from eigenhub.training.results_file import VERSIONED, hardware
from eigenhub.training.text_source import is_local


if TYPE_CHECKING:
    from accelerate import Accelerator


#: Of a record of the trainer's history, what goes into the metrics as it is.
FIGURES = "epsilon upload_bytes download_bytes seconds seconds_training clients failures".split()


class RoundLog(FederatedCallback):
    """Writes `metrics.jsonl`: one row per round, `step` its number, with the figures on held-out rows where they are due.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): prints, and feeds the trackers.
    """

    def __init__(self, args: argparse.Namespace, accelerator: "Accelerator") -> None:
        self.args, self.accelerator = args, accelerator
        self._of_server: dict[str, Any] = {}
        self._uploads: dict[str, tuple[dict[str, Tensor], float]] = {}

    def on_train_begin(self, trainer: FederatedLoraTrainer) -> None:
        done = trainer.server.round
        if done:
            self.accelerator.print(f"resumed after round {done} (step {done} of the metrics)")
        self.log = MetricsLog(self.args.output_dir / "metrics.jsonl", done, self.accelerator.is_main_process)

    def on_client_end(self, trainer: FederatedLoraTrainer, update: ClientUpdate) -> None:
        if self.args.aggregation_error:
            weight = 1.0 if trainer.config.weighting == "uniform" else float(update.num_examples)
            self._uploads[update.client_id] = ({**trainer.server.state, **update.state}, weight)

    def on_client_error(self, trainer: FederatedLoraTrainer, client_id: str, reason: str) -> None:
        self.accelerator.print(f"client {client_id} failed: {reason}")

    def on_aggregate(self, trainer: FederatedLoraTrainer, result: AggregateResult) -> None:
        self._of_server = spectrum(result)
        if self.args.aggregation_error:
            taken = [kept for name, kept in self._uploads.items() if name not in trainer.server.failures]
            self._of_server["aggregation_error"] = aggregation_error(*zip(*taken, strict=True))
            self._uploads.clear()

    def on_round_end(self, trainer: FederatedLoraTrainer, record: dict[str, Any]) -> None:
        args, round, last = self.args, record["round"], trainer.config.num_rounds
        if args.client_eval_every and round % args.client_eval_every == 0:
            record["held_out"] = trainer.evaluate_clients()
        if round % args.logging_steps and round != last:
            return
        row = {"step": round}
        row |= {"loss": record["train_loss"]} if "train_loss" in record else {}
        row |= {name: value for name, value in record.items() if name.startswith("eval_") or name == "held_out"}
        row |= {name: record[name] for name in FIGURES if name in record}
        self.log.write(row | self._of_server)
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "step"}
        self.accelerator.log(numbers, step=round)


def spectrum(result: AggregateResult) -> dict[str, Any]:
    """Singular values of the adapter's products, descending, averaged over the layers of full rank, and the lowest rank.

    Args:
        result (`AggregateResult`): of the round; methods that do not refactor get theirs here.
    """
    found = result.singular_values or {
        name: layer.singular_values for name, layer in refactored(result.state)[1].items()
    }
    width = max(len(values) for values in found.values())
    layers = [values.tolist() for values in found.values() if len(values) == width]
    mean = [sum(column) / len(layers) for column in zip(*layers, strict=True)]
    return {"singular_values": mean} | (
        {"lowest_rank": min(result.effective_rank.values())} if result.effective_rank else {}
    )


def summarise(
    args: argparse.Namespace, accelerator: "Accelerator", trainer: FederatedLoraTrainer, task: Task, seconds: float
) -> dict[str, Any]:
    """The figures of a finished run; evaluates on all test splits and, where asked for, on the clients' own rows.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
        trainer (`FederatedLoraTrainer`): finished.
        task ([`Task`]): its data.
        seconds (`float`): since the start of the script.
    """
    history, ledger = trainer.history, trainer.ledger
    replies = sum(len(record["clients"]) - len(record["failures"]) for record in history)
    asked = sum(len(record["clients"]) for record in history)
    return {
        "task": args.task,
        "method": args.method,
        "rounds": trainer.server.round,
        "clients": len(trainer.clients),
        "final_loss": history[-1].get("train_loss"),
        "evaluation": {split: trainer.evaluate(rows) for split, rows in task.tests.items()},
        "held_out": trainer.evaluate_clients() if task.held_out else {},
        "personalized": trainer.evaluate_personalized(args.personalized_steps) if args.personalized_steps else {},
        "epsilon": max(ledger.spent().values()) if ledger else None,
        "claim": ledger.claim() if ledger else "",
        "upload_bytes": sum(record["upload_bytes"] for record in history) / max(replies, 1),
        "download_bytes": sum(record["download_bytes"] for record in history) / max(asked, 1),
        "failed_replies": asked - replies,
        "num_processes": accelerator.num_processes,
        "hardware": hardware(accelerator),
        "seconds": seconds,
        "seconds_training": sum(record["seconds_training"] for record in history),
        "federated": trainer.config.to_dict(),
        "settings": as_settings(args),
    }


def lines(summary: dict[str, Any]) -> list[str]:
    """The summary as lines of text, the privacy claim in words among them.

    Args:
        summary (`dict[str, Any]`): from [`summarise`].
    """
    said = [f"{split}: {_figures(found)}" for split, found in summary["evaluation"].items()]
    for name, label in (("held_out", "held-out rows of the clients"), ("personalized", "after personalisation")):
        if summary[name]:
            said.append(f"{label}: {_figures({k: v for k, v in summary[name].items() if k != 'clients'})}")
    said.append(
        f"per client and round: {summary['upload_bytes']:,.0f} bytes up, {summary['download_bytes']:,.0f} bytes down"
    )
    if summary["failed_replies"]:
        said.append(f"{summary['failed_replies']} replies failed")
    return [*said, summary["claim"]] if summary["claim"] else said


def _figures(found: dict[str, float]) -> str:
    return ", ".join(f"{name.removeprefix('eval_')} {value:.4f}" for name, value in found.items())


def measured(args: argparse.Namespace, task: Task, summary: dict[str, Any]) -> list[Measured]:
    """The figures in the form of a results file: accuracy of every test split, or the loss where there is none.

    Args:
        args (`argparse.Namespace`): of the script.
        task ([`Task`]): tells the data.
        summary (`dict[str, Any]`): from [`summarise`].
    """
    name = {EMBEDDED: "eigenhub/subtractions"}.get(task.dataset, task.dataset)
    name = Path(name).stem if is_local(task.dataset) else name
    found = []
    for split, figures in summary["evaluation"].items():
        metric = "accuracy" if "eval_accuracy" in figures else "loss"
        found.append(
            Measured(
                id=f"{metric}-{split}",
                method=args.method,
                task=task.hub_task,
                dataset=DatasetRef(id=name, name=name, split=split, config=args.dataset_config),
                metric=metric,
                value=round(figures[f"eval_{metric}"], 4),
                setting=setting(args, summary),
                seeds=[args.seed],
                command=args.command,
                hardware=summary["hardware"],
                date=datetime.date.today().isoformat(),
                versions={package: version(package) for package in VERSIONED},
            )
        )
    return found


def setting(args: argparse.Namespace, summary: dict[str, Any]) -> str:
    """The run in a few words."""
    local = f"{args.local_steps} steps" if args.local_steps else f"{args.local_epochs:g} epochs"
    skew = f"dirichlet {args.dirichlet_alpha:g}" if args.partition == "dirichlet" else args.partition
    private = f", epsilon {summary['epsilon']:.3g} at delta {args.delta:g}" if args.dp else ""
    return (
        f"{args.method}, {summary['clients']} clients ({skew}), share {args.fraction:g} in each of {summary['rounds']} "
        f"rounds of {local}, rank {args.r}, {args.optimizer} {args.lr:g}{private}"
    )


def write_files(args: argparse.Namespace, task: Task, summary: dict[str, Any]) -> None:
    """`summary.json`, `results.yaml`, the card and the Hub's result files beside the adapter.

    Args:
        args (`argparse.Namespace`): of the script.
        task ([`Task`]): tells the data.
        summary (`dict[str, Any]`): from [`summarise`].
    """
    folder = args.output_dir
    if figures := measured(args, task, summary):
        save_results(Results("fedsvd", figures), folder / "results.yaml")
    write_card(folder, overwrite=True, repo_id=args.hub_model_id)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
