# SPDX-License-Identifier: Apache-2.0
"""What `train_lra.py` says about a run: the figures on the test data, a results file, and the model card."""

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined
from lra_evaluation import evaluate, every_second_sample, step_rescaled, worst_frequency
from lra_models import HEADS, PACKAGES
from lra_options import TASKS

from eigenhub.hub.cards import MARKER, CardError, card_problems, installed_versions
from eigenhub.hub.resources import find
from eigenhub.models.s5_ptd import FourierNoise
from eigenhub.training.options import as_settings
from eigenhub.training.results_file import hardware, write_accuracy


if TYPE_CHECKING:
    from train_lra import Run


TEMPLATE = "hub_cards/s5_ptd/model_card.md.jinja"
METHOD = "s5_ptd"
HUB_TASKS = {
    "sequence": "text-classification",
    "pair": "text-classification",
    "image": "image-classification",
    "audio": "audio-classification",
    "series": "time-series-forecasting",
}
DATASETS = {
    "text": "stanfordnlp/imdb",
    "image": "uoft-cs/cifar10",
    "scifar": "uoft-cs/cifar10",
    "speech": "google/speech_commands",
}


def summarise(run: "Run", last_row: dict[str, Any], best_step: int | None, seconds: float) -> dict[str, Any]:
    """The figures of a finished run; on all processes but the main one `last_row` is empty."""
    args, model = run.args, run.unwrapped
    return {
        "task": args.task,
        "model": args.model,
        "init": args.init,
        "steps": run.max_steps,
        "best_step": best_step,
        "final_loss": last_row.get("loss"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "ptd_info": model.config.ptd_info,
        **{f"test_{name}": value for name, value in test_figures(run).items()},
        **disturbed_figures(run),
        "train_rows": len(run.data.train),
        "test_rows": len(run.data.test),
        "preprocessing": run.data.preprocessing,
        "hardware": hardware(run.accelerator),
        "num_processes": run.accelerator.num_processes,
        "train_seconds": seconds,
        "settings": as_settings(args),
    }


def test_figures(run: "Run", collate: Any = None) -> dict[str, float]:
    """Loss and accuracy on the test data."""
    how = (collate or run.data.collate, run.args.eval_batch_size)
    return evaluate(run.accelerator, run.model, run.data.test, *how)


def disturbed_figures(run: "Run") -> dict[str, Any]:
    """The same under noise of a single frequency, and of audio at half the rate, where that was asked for or can be."""
    found: dict[str, Any] = {}
    if run.args.noise:
        frequency = worst_frequency(run.unwrapped)
        found["noise_frequency"] = frequency
        found["noise"] = {}
        for amplitude in run.args.noise:
            with FourierNoise(amplitude, frequency, run.args.seed).applied_to(run.unwrapped):
                found["noise"][f"{amplitude:g}"] = test_figures(run)
    if TASKS[run.args.task].head == "audio":
        with step_rescaled(run.unwrapped, 2.0):
            found["half_rate"] = test_figures(run, partial(every_second_sample, run.data.collate))
    return found


def write_figures(run: "Run", summary: dict[str, Any]) -> None:
    """`results.yaml` beside the weights, from which `eigenhub card` can make the method's own card."""
    if "test_accuracy" not in summary:
        return
    args = argparse.Namespace(**vars(run.args) | {"method": METHOD})
    setting = f"{args.model}, init {args.init}, {run.max_steps} steps, peak learning rate {args.lr:g}"
    task = HUB_TASKS[TASKS[args.task].head]
    write_accuracy(args, run.accelerator, summary["test_accuracy"], setting, task, dataset_id(run), "test")


def dataset_id(run: "Run") -> str:
    """Hub id, or the task's name for data that was generated or came from a folder."""
    return DATASETS.get(run.args.task, run.args.task)


def write_model_card(run: "Run", summary: dict[str, Any]) -> None:
    """`README.md` of the trained model: how to load it, what it was trained on, what came out."""
    args, task = run.args, TASKS[run.args.task]
    name = args.hub_model_id or args.output_dir.resolve().name
    package, prefix = PACKAGES[args.model]
    data = ModelCardData(
        library_name="transformers",
        license=args.license,
        pipeline_tag=HUB_TASKS[task.head],
        tags=["eigenhub", "state-space-model", args.model, args.init],
        datasets=[DATASETS[args.task]] if args.task in DATASETS else None,
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
        task=task,
        config=run.unwrapped.config,
        model_class=f"{prefix}{HEADS[task.head]}",
        package=package,
        effective_batch=args.per_device_batch_size * args.gradient_accumulation_steps * summary["num_processes"],
        versions=installed_versions(),
    )
    if problems := card_problems(card):
        raise CardError("; ".join(problems))
    (args.output_dir / "README.md").write_text(card, encoding="utf-8")


def _eval_result(run: "Run", summary: dict[str, Any]) -> EvalResult:
    metric = "accuracy" if "test_accuracy" in summary else "rmse"
    return EvalResult(
        task_type=HUB_TASKS[TASKS[run.args.task].head],
        dataset_type=dataset_id(run),
        dataset_name=TASKS[run.args.task].title,
        dataset_split="test",
        metric_type=metric,
        metric_value=round(summary[f"test_{metric}"], 4),
    )
