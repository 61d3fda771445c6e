# SPDX-License-Identifier: Apache-2.0
"""What `train_bt2.py` says about a run: retrieval among old and new vectors, the results file, the model card."""

import argparse
import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined
from torch import Tensor

from eigenhub.hub.cards import MARKER, CardError, card_problems, installed_versions
from eigenhub.hub.eval_results import to_eval_results, write_eval_results
from eigenhub.hub.resources import find
from eigenhub.hub.results import DatasetRef, Measured, Results, save_results
from eigenhub.models.bt2.backfill_curves import backfill_curve
from eigenhub.models.bt2.retrieval_metrics import LABEL_METRICS, rank, update_gain
from eigenhub.models.bt2.retrieval_relevance import Relevance
from eigenhub.training.options import EMBEDDED
from eigenhub.training.results_file import hardware
from eigenhub.training.text_source import is_local


if TYPE_CHECKING:
    from accelerate import Accelerator
    from bt2_data import Split


TEMPLATE = "hub_cards/bt2/image_model_card.md.jinja"
VERSIONED = ("torch", "transformers", "accelerate", "datasets")
PAIRS = ("old/old", "new/old", "new/new", "teacher/old", "teacher/teacher")


def retrieval(split: "Split", student: Tensor, old: Tensor | None, teacher: Tensor | None) -> dict[str, dict]:
    """CMC and mAP by pair, query first; every test image is query and gallery, itself excluded.

    Args:
        split ([`Split`]): the test items.
        student (`Tensor` of shape `(items, dim)`): vectors of the trained model.
        old (`Tensor` of shape `(items, old_dim)`, *optional*): of the old one.
        teacher (`Tensor` of shape `(items, new_dim)`, *optional*): of the independently trained new one.
    """
    labels = split.labels.numpy()
    relevance = Relevance.of_labels(labels, labels, split.ids, split.ids)
    sets = {"old": old, "new": student, "teacher": teacher}
    found = {}
    for pair in PAIRS:
        query, gallery = (sets[name] for name in pair.split("/"))
        if query is not None and gallery is not None:
            found[pair] = rank(query, gallery, relevance).metrics(LABEL_METRICS)
    return found


def backfill(split: "Split", student: Tensor, old: Tensor | None) -> dict[str, Any]:
    """mAP while the gallery goes from old vectors to those of the trained model, in a random order; empty without old ones.

    Args:
        split ([`Split`]): the test items.
        student (`Tensor` of shape `(items, dim)`): vectors of the trained model.
        old (`Tensor` of shape `(items, old_dim)`, *optional*): of the old one.
    """
    if old is None or student.shape[1] < old.shape[1]:
        return {}
    labels = split.labels.numpy()
    relevance = Relevance.of_labels(labels, labels, split.ids, split.ids)
    curve = backfill_curve(student, old, student, relevance, metric="map")
    return {"shares": list(curve.shares), "map": list(curve.values), "auc": curve.auc}


def gains(found: dict[str, dict]) -> dict[str, float | None]:
    """Update gain by metric, where both models are known; None where there was nothing to gain."""
    if "teacher/teacher" not in found or "new/old" not in found:
        return {}
    renamed = {"old/old": "old/old", "new/old": "new/old", "new/new": "teacher/teacher"}
    return {
        name: update_gain({pair: found[source][name] for pair, source in renamed.items()}) for name in LABEL_METRICS
    }


def table(found: dict[str, dict]) -> str:
    """The pairs as lines of text, in per cent."""
    lines = [f"{'query/gallery':16}" + "".join(f"{name:>8}" for name in LABEL_METRICS)]
    for pair, values in found.items():
        lines.append(f"{pair:16}" + "".join(f"{100 * values[name]:8.1f}" for name in LABEL_METRICS))
    return "\n".join(lines)


def warnings_of(found: dict[str, dict]) -> list[str]:
    """What a reader must be told: queries that do worse than before, an upgrade that is none."""
    said = []
    if "new/old" in found and found["new/old"]["map"] <= found["old/old"]["map"]:
        said.append("not compatible: the trained model searches the old gallery no better than the old model does")
    if "teacher/teacher" in found and found["teacher/teacher"]["map"] <= found["old/old"]["map"]:
        said.append("nothing to gain: the independently trained new model is not better than the old one")
    return said


def measured(
    args: argparse.Namespace, accelerator: "Accelerator", found: dict[str, dict], steps: int
) -> list[Measured]:
    """The figures in the form of a results file."""
    name = {EMBEDDED: "eigenhub/glyphs"}.get(args.dataset, args.dataset)
    name = name.rstrip("/").split("/")[-1] if is_local(args.dataset) else name
    split = "test" if args.dataset == EMBEDDED else args.eval_split
    common: dict[str, Any] = {
        "task": "image-feature-extraction",
        "dataset": DatasetRef(id=name, name=name, split=split),
        "setting": f"{args.method}, {steps} steps",
        "seeds": [args.seed],
        "command": args.command,
        "hardware": hardware(accelerator),
        "date": datetime.date.today().isoformat(),
        "versions": {package: version(package) for package in VERSIONED},
    }
    return [
        Measured(
            id=f"{pair.replace('/', '-')}-{metric.replace('@', '')}",
            method=args.method if "new" in pair else "teachers",
            metric=f"{metric} {pair}",
            value=round(value, 4),
            **common,
        )
        for pair, values in found.items()
        for metric, value in values.items()
    ]


def write_card(args: argparse.Namespace, results: Results, config: dict[str, Any], summary: dict[str, Any]) -> None:
    """`README.md`, `results.yaml` and the Hub's result files beside the model.

    Args:
        args (`argparse.Namespace`): options of the script.
        results ([`Results`]): what was measured.
        config (`dict[str, Any]`): of the model.
        summary (`dict[str, Any]`): of the run.
    """
    name = args.hub_model_id or args.output_dir.resolve().name
    given = args.backbone != EMBEDDED and not args.from_scratch and not is_local(args.backbone)
    data = ModelCardData(
        library_name="transformers",
        license="apache-2.0",
        pipeline_tag="image-feature-extraction",
        tags=["eigenhub", "bt2", "backward-compatible", "image-retrieval"],
        base_model=args.backbone if given else None,
        datasets=None if args.dataset == EMBEDDED or is_local(args.dataset) else [args.dataset],
        model_name=name,
        eval_results=to_eval_results(results),
    )
    # StrictUndefined: a name that nobody gives is an error, not an empty line in a public card
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    card = environment.from_string(find(TEMPLATE).read_text(encoding="utf-8")).render(
        card_data=data.to_yaml(),
        marker=MARKER,
        name=name,
        args=args,
        config=config,
        summary=summary,
        metrics=LABEL_METRICS,
        versions=installed_versions(),
    )
    if problems := card_problems(card):
        raise CardError("; ".join(problems))
    (args.output_dir / "README.md").write_text(card, encoding="utf-8")
    save_results(results, args.output_dir / "results.yaml")
    write_eval_results(results, args.output_dir)
