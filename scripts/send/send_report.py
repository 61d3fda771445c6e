# SPDX-License-Identifier: Apache-2.0
"""What `train_send.py` says about a run: a line at its start, the summary, the results file, the model card."""

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import mean, pstdev
from typing import TYPE_CHECKING, Any

from send_tasks import Task

from eigenhub.hub.cards import write_card
from eigenhub.hub.results import DatasetRef, Measured, Results, save_results
from eigenhub.training.options import EMBEDDED, as_settings
from eigenhub.training.results_file import VERSIONED, hardware
from eigenhub.training.send import SenDTrainer
from eigenhub.training.text_source import is_local


if TYPE_CHECKING:
    from accelerate import Accelerator


#: Files that are pushed beside weights, configurations and card.
PUSHED = ("evaluations.jsonl", "tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")
LAST = 5


def described(args: argparse.Namespace, trainer: SenDTrainer, task: Task) -> str:
    """What is about to be trained, in one line.

    Args:
        args (`argparse.Namespace`): of the script.
        trainer (`SenDTrainer`): of the run.
        task ([`Task`]): its data.
    """
    rows = f"{len(task.train):,} rows, {len(task.track):,} tracked, {len(task.test):,} held out"
    return f"{args.arm}, {args.tuning}: {trainable(trainer):,} trainable parameters, {rows}"


def trainable(trainer: SenDTrainer) -> int:
    """Number of parameters that are trained.

    Args:
        trainer (`SenDTrainer`): of the run.
    """
    return sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)


def summarise(
    args: argparse.Namespace,
    accelerator: "Accelerator",
    trainer: SenDTrainer,
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """The figures of a finished run.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
        trainer (`SenDTrainer`): finished.
        task ([`Task`]): its data.
        rows (`Sequence[Mapping]`): of the evaluations.
        seconds (`float`): since the start of the script.
    """
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "arm": args.arm,
        "model": args.model,
        "steps": trainer.state.global_step,
        "final_loss": losses[-1] if losses else None,
        "evaluation": {name: value for name, value in rows[-1].items() if name != "verdicts"} if rows else {},
        **over_time(rows),
        "refreshes": trainer.send.refreshes,
        "rows": {"train": len(task.train), "track": len(task.track), "test": len(task.test)},
        "trainable_parameters": trainable(trainer),
        "num_processes": accelerator.num_processes,
        "hardware": hardware(accelerator),
        "seconds": seconds,
        "settings": as_settings(args),
    }


def over_time(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean and spread of the hallucinations over the last evaluations, and the mean share of flipped answers.

    Args:
        rows (`Sequence[Mapping]`): of the evaluations.
    """
    shares = [row["hallucination"] for row in rows if "hallucination" in row][-LAST:]
    flips = [row["flip"] for row in rows if "flip" in row]
    found = {"last_mean": mean(shares), "last_spread": pstdev(shares)} if shares else {}
    return found | ({"mean_flip": mean(flips)} if flips else {})


def measured(args: argparse.Namespace, task: Task, summary: Mapping[str, Any]) -> list[Measured]:
    """The figures in the form of a results file: hallucinations and flips of the facts, or the perplexity of texts.

    Args:
        args (`argparse.Namespace`): of the script.
        task ([`Task`]): tells the data.
        summary (`Mapping`): from [`summarise`].
    """
    last = summary["evaluation"]
    figures = {"perplexity": last["perplexity"]} if "hallucination" not in last else {}
    figures |= {name: last[name] for name in ("hallucination",) if name in last}
    figures |= {"flip_rate": summary["mean_flip"]} if "mean_flip" in summary else {}
    figures |= {f"auroc_{name}": value for name, value in last.get("auroc", {}).items()}
    return [
        Measured(
            id=metric.replace("_", "-"),
            method=args.arm,
            task="text-generation",
            dataset=DatasetRef(id=task.name, name=task.name, split=task.split, config=args.dataset_config),
            metric=metric,
            value=round(value, 4),
            setting=setting(args, summary),
            seeds=[args.seed],
            command=args.command,
            hardware=summary["hardware"],
            date=datetime.date.today().isoformat(),
            versions={package: version(package) for package in VERSIONED},
        )
        for metric, value in figures.items()
    ]


def setting(args: argparse.Namespace, summary: Mapping[str, Any]) -> str:
    """The run in a few words.

    Args:
        args (`argparse.Namespace`): of the script.
        summary (`Mapping`): from [`summarise`].
    """
    masked = f", rho {args.rho:g} at {args.site}, C {args.window}, T {args.refresh_every}"
    masked = masked if args.arm in ("send", "random") else ""
    return f"{args.arm}{masked}, {args.tuning}, {summary['steps']} steps, AdamW {args.lr:g} {args.lr_scheduler}"


def save(args: argparse.Namespace, trainer: SenDTrainer, task: Task, summary: dict[str, Any]) -> None:
    """Writes model, tokenizer, state of the protocol, summary, results and card; pushes if asked to.

    Args:
        args (`argparse.Namespace`): of the script.
        trainer (`SenDTrainer`): finished.
        task ([`Task`]): its data.
        summary (`dict`): from [`summarise`].
    """
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(args.output_dir))  # collective: gathers shards
    if not trainer.accelerator.is_main_process:
        return
    folder = args.output_dir
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    if summary["evaluation"]:
        save_results(Results("send", measured(args, task, summary)), folder / "results.yaml")
    base = None if args.model == EMBEDDED or is_local(args.model) else args.model
    write_card(folder, overwrite=True, repo_id=args.hub_model_id, base_model=base)
    if args.push_to_hub:
        from eigenhub.training.publish import push_folder

        push_folder(folder, args.hub_model_id, also=PUSHED)
