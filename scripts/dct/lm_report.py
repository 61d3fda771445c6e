# SPDX-License-Identifier: Apache-2.0
"""What `train_lm.py` says about a run: the summary, figures of the optimizer's subspaces, and the model card."""

import json
from dataclasses import asdict
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined
from lm_optimizers import optimizer_config, plain_optimizer, state_bytes
from lm_options import peak_rate

from eigenhub.embedded.llama_sizes import LLAMA_SIZES
from eigenhub.hub.cards import MARKER, CardError, card_problems, installed_versions
from eigenhub.hub.resources import find
from eigenhub.training.results_file import hardware
from eigenhub.training.text_source import is_local


if TYPE_CHECKING:
    from torch.optim import Optimizer

    from eigenhub.training.language_run import LanguageRun


TEMPLATE = "hub_cards/dct/model_card.md.jinja"


def summarise(run: "LanguageRun", last_row: dict[str, Any]) -> dict[str, Any]:
    """The figures of a finished run; on all processes but the main one `last_row` is empty."""
    args, accelerator = run.args, run.accelerator
    packed = run.data.corpus.columns.prompt is None
    per_step = args.per_device_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
    parameters = sum(parameter.numel() for parameter in run.unwrapped.parameters())
    state = state_bytes(run.optimizer)
    return {
        "optimizer": args.optimizer,
        "lr": peak_rate(args),
        "steps": run.max_steps,
        **{name: last_row.get(name) for name in ("loss", "eval_loss", "perplexity", "seconds")},
        "tokens": run.max_steps * per_step * args.max_length if packed else None,
        "parameters": parameters,
        "optimizer_state_bytes": sum(state.values()),
        "optimizer_state": state,
        "peak_device_bytes": torch.cuda.max_memory_allocated() if accelerator.device.type == "cuda" else None,
        "hardware": hardware(accelerator),
        "num_processes": accelerator.num_processes,
    }


def watch_subspaces(optimizer: "Optimizer", watched: bool) -> None:
    """Switches the statistics of the next step on or off, where the optimizer has any."""
    if hasattr(own := plain_optimizer(optimizer), "collect_statistics"):
        own.collect_statistics = watched


def subspace_figures(optimizer: "Optimizer") -> dict[str, float]:
    """Means over the matrices of what the last step did, such as the captured share of the energy."""
    own = plain_optimizer(optimizer)
    rows = list(own.statistics().values()) if hasattr(own, "statistics") else []
    names = {name for row in rows for name in row}
    return {name: mean(row[name] for row in rows if name in row) for name in sorted(names)}


def write_model_card(run: "LanguageRun", summary: dict[str, Any]) -> None:
    """`README.md` of the trained model: how to load it, what it was trained on and by what, what came out."""
    args = run.args
    config = optimizer_config(args)
    fine_tuned = args.model not in LLAMA_SIZES and not args.from_scratch
    name = args.hub_model_id or args.output_dir.resolve().name
    data = ModelCardData(
        library_name="transformers",
        license=args.license,
        pipeline_tag="text-generation",
        tags=["eigenhub", "optimizer", args.optimizer.replace("_", "-")],
        base_model=args.model if fine_tuned and not is_local(args.model) else None,
        datasets=None if is_local(args.dataset) or args.dataset == "embedded" else [args.dataset],
        model_name=name,
        eval_results=[_eval_result(run, summary)],
    )
    # StrictUndefined: a name that nobody gives is an error, not an empty line in a public card
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    card = environment.from_string(find(TEMPLATE).read_text(encoding="utf-8")).render(
        card_data=data.to_yaml(),
        marker=MARKER,
        name=name,
        args=args,
        summary=summary,
        fine_tuned=fine_tuned,
        dataset=run.data.dataset_name,
        held_out=run.data.held_out_title,
        optimizer_json=None if config is None else json.dumps(asdict(config), indent=2),
        versions=installed_versions(),
    )
    if problems := card_problems(card):
        raise CardError("; ".join(problems))
    (args.output_dir / "README.md").write_text(card, encoding="utf-8")


def _eval_result(run: "LanguageRun", summary: dict[str, Any]) -> EvalResult:
    name = run.data.dataset_name
    return EvalResult(
        task_type="text-generation",
        dataset_type=name if "/" in name else "text",
        dataset_name=name,
        dataset_split=run.args.eval_split,
        metric_type="perplexity",
        metric_value=round(summary["perplexity"], 4),
    )
