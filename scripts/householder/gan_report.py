# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: the networks, a summary, the results file, the model card."""

import datetime
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gan_options import EMBEDDED_DATA
from gan_run import GanRun

from eigenhub.hub.cards import write_card
from eigenhub.hub.results import DatasetRef, Measured, Results, save_results
from eigenhub.models.stylegan2 import LabelledDirections, StyleGAN2Networks, save_directions
from eigenhub.training.options import as_settings
from eigenhub.training.publish import push_folder
from eigenhub.training.results_file import hardware
from eigenhub.training.text_source import is_local


METHOD = "householder"
#: Distances in the last row of the metrics, and what a results file calls them.
DISTANCES = {"fid": "fid", "frechet_distance": "frechet distance in features of a small network"}
VERSIONED = ("torch", "transformers", "accelerate")
DIRECTIONS = "directions"
PUSHED = ("samples/*.png", f"{DIRECTIONS}/*", "results.yaml")


def summarise(run: GanRun, last_row: dict[str, Any], seconds: float, **more: Any) -> dict[str, Any]:
    """The figures of a finished run; on all processes but the main one `last_row` is empty.

    Args:
        run ([`GanRun`]): finished.
        last_row (`dict`): of the metrics.
        seconds (`float`): since the start of the script.
        more (`Any`): what else there is to say.
    """
    return {
        **more,
        "steps": run.args.max_steps,
        "kimg": run.args.max_steps * run.batch / 1000,
        "final_loss": last_row.get("loss"),
        **{name: last_row[name] for name in DISTANCES if name in last_row},
        "generator_parameters": sum(parameter.numel() for parameter in run.generator.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in run.trained),
        "discriminator_parameters": sum(parameter.numel() for parameter in run.discriminator.parameters()),
        "images": len(run.rows),
        "num_processes": run.accelerator.num_processes,
        "hardware": hardware(run.accelerator),
        "seconds": seconds,
        "settings": as_settings(run.args),
    }


def finish(
    run: GanRun,
    summary: dict[str, Any],
    networks: StyleGAN2Networks,
    method: str,
    directions: dict[str, LabelledDirections] | None = None,
) -> None:
    """Writes networks, directions, summary, results and card; pushes if asked to; lets go of what the run held.

    Args:
        run ([`GanRun`]): finished.
        summary (`dict`): from [`summarise`].
        networks ([`StyleGAN2Networks`]): in the form to be saved.
        method (`str`): what was run, as the results file calls it.
        directions (`dict[str, LabelledDirections]`, *optional*): by layer.
    """
    run.accelerator.wait_for_everyone()
    if run.accelerator.is_main_process:
        args = run.args
        networks.save_pretrained(args.output_dir)
        if directions:
            save_directions(args.output_dir / DIRECTIONS, directions)
        if figures := measured(run, summary, method):
            save_results(Results(METHOD, figures), args.output_dir / "results.yaml")
        base = None if is_local(getattr(args, "model", ".")) else args.model
        more = {
            "base_model": base,
            "license": args.license,
            "command": args.command,
            "directions": sorted(directions or {}),
        }
        write_card(args.output_dir, overwrite=True, repo_id=args.hub_model_id, **more)
        (args.output_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        if args.push_to_hub:
            push_folder(args.output_dir, args.hub_model_id, also=PUSHED)
    run.accelerator.free_memory()
    run.accelerator.end_training()


def measured(run: GanRun, summary: dict[str, Any], method: str) -> list[Measured]:
    """The distance in the form of a results file, where one was measured.

    Args:
        run ([`GanRun`]): finished.
        summary (`dict`): from [`summarise`].
        method (`str`): what was run.
    """
    args = run.args
    name = f"eigenhub/{args.dataset}" if args.dataset in EMBEDDED_DATA else args.dataset
    name = Path(name).name if args.dataset not in EMBEDDED_DATA and is_local(name) else name
    return [
        Measured(
            id=key.replace("_", "-"),
            method=method,
            task="unconditional-image-generation",
            dataset=DatasetRef(id=name, name=name, split=args.dataset_split, config=args.dataset_config),
            metric=title,
            value=round(summary[key], 4),
            setting=f"{method}, {summary['kimg']:g} kimg, {args.eval_samples} samples",
            seeds=[args.seed],
            command=args.command,
            hardware=summary["hardware"],
            date=datetime.date.today().isoformat(),
            versions={package: version(package) for package in VERSIONED},
        )
        for key, title in DISTANCES.items()
        if key in summary
    ]
