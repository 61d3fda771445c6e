# SPDX-License-Identifier: Apache-2.0
"""What `train_lm.py` says about a run: the summary, a results file, and the model card."""

import datetime
from importlib.metadata import version
from typing import Any

from eigenhub.hub.cards import write_card
from eigenhub.hub.results import DatasetRef, Measured, Results, save_results
from eigenhub.training.language_run import LanguageRun, save_run
from eigenhub.training.results_file import VERSIONED, hardware


#: What the card's table calls a model and its initialisation.
METHODS = {
    ("s5", "ptd"): "s5_ptd",
    ("s5", "lowrank"): "s5_ptd",
    ("s4d", "ptd"): "s4-ptd",
    ("s4d", "lowrank"): "s4-ptd",
}


def summarise(run: LanguageRun, last_row: dict[str, Any]) -> dict[str, Any]:
    """The figures of a finished run; on all processes but the main one `last_row` is empty."""
    args, model = run.args, run.unwrapped
    per_step = args.per_device_batch_size * args.gradient_accumulation_steps * run.accelerator.num_processes
    return {
        "model": args.model,
        "init": args.init,
        "steps": run.max_steps,
        **{name: last_row.get(name) for name in ("loss", "eval_loss", "perplexity", "seconds")},
        "tokens": run.max_steps * per_step * args.max_length if run.data.collate is None else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "ptd_info": model.config.ptd_info,
        "hardware": hardware(run.accelerator),
        "num_processes": run.accelerator.num_processes,
    }


def save(run: LanguageRun, summary: dict[str, Any]) -> None:
    """Writes model, tokenizer, summary, figures and card; pushes if asked to."""

    def write_more() -> None:
        folder = run.args.output_dir
        save_results(results(run, summary), folder / "results.yaml")
        write_card(folder, overwrite=True, repo_id=run.args.hub_model_id)

    save_run(run, summary, write_more, also=("results.yaml",))


def results(run: LanguageRun, summary: dict[str, Any]) -> Results:
    """The held-out perplexity with everything needed to repeat it."""
    args, name = run.args, run.data.dataset_name
    method = METHODS.get((args.model, args.init), args.model if args.model == "s5" else f"s4d-{args.init}")
    figure = Measured(
        id="perplexity",
        method=method,
        task="text-generation",
        dataset=DatasetRef(name if "/" in name else "text", name, args.eval_split),
        metric="perplexity",
        value=round(summary["perplexity"], 4),
        setting=f"{summary['parameters']:,} parameters, {summary['steps']} steps, held-out text: {run.data.held_out_title}",
        seeds=[args.seed],
        command=args.command,
        hardware=summary["hardware"],
        date=datetime.date.today().isoformat(),
        versions={package: version(package) for package in VERSIONED},
    )
    return Results(method="s5_ptd", measured=[figure])
