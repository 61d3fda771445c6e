# SPDX-License-Identifier: Apache-2.0
"""The two forms in which the Hub reads figures, made from a `Results`."""

from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from eigenhub.files import write_text
from eigenhub.hub.results import Measured, Results


def own_figures(results: Results) -> list[Measured]:
    """What was measured for the method itself; its peers' figures do not describe this model."""
    return [m for m in results.measured if m.method == results.method]


def to_eval_results(results: Results) -> list[EvalResult]:
    """Figures for the `model-index` of a card's front matter.

    Args:
        results (`Results`): figures of one method or checkpoint.

    Returns:
        `list[EvalResult]`: one per figure measured with the method itself.
    """
    return [
        EvalResult(
            task_type=m.task,
            dataset_type=m.dataset.id,
            dataset_name=m.dataset.name,
            dataset_config=m.dataset.config,
            dataset_split=m.dataset.split,
            dataset_revision=m.dataset.revision,
            metric_type=m.metric,
            metric_name=f"{m.metric} ({m.setting})",
            metric_value=m.value,
        )
        for m in own_figures(results)
    ]


def to_entries(results: Results) -> dict[str, list[EvalResultEntry]]:
    """Figures for `.eval_results/`, by file stem; only datasets with a leaderboard `task_id` have a place there.

    Args:
        results (`Results`): figures of one method or checkpoint.

    Returns:
        `dict[str, list[EvalResultEntry]]`: the entries of each file.
    """
    files: dict[str, list[EvalResultEntry]] = {}
    for m in own_figures(results):
        if m.dataset.task_id is None:
            continue
        entry = EvalResultEntry(
            dataset_id=m.dataset.id,
            task_id=m.dataset.task_id,
            value=m.value,
            dataset_revision=m.dataset.revision,
            date=m.date,
            notes=f"{m.metric}; {m.setting}; {m.command}",
        )
        files.setdefault(m.dataset.id.rsplit("/", 1)[-1].lower(), []).append(entry)
    return files


def write_eval_results(results: Results, folder: str | Path) -> list[Path]:
    """Write `.eval_results/<dataset>.yaml` files into a model folder.

    Args:
        results (`Results`): figures of one method or checkpoint.
        folder (`str | Path`): the model folder.

    Returns:
        `list[Path]`: the files written, empty if no figure belongs to a leaderboard.
    """
    written = []
    for stem, entries in to_entries(results).items():
        path = Path(folder) / ".eval_results" / f"{stem}.yaml"
        path.parent.mkdir(exist_ok=True)
        write_text(path, yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False))
        written.append(path)
    return written
