# SPDX-License-Identifier: Apache-2.0
"""What the card of a backward-compatible text encoder has to say beyond the card of any other."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard

from eigenhub.models.bt2.index_identity import EncoderIdentity
from eigenhub.models.bt2.text_base import SentenceTransformer
from eigenhub.models.bt2.text_module import BasisTransformation, basis_transformation


TAGS = ("backward-compatible", "bt2")
HEADING = "## Backward compatibility"


def describe_upgrade(path: Path, model: SentenceTransformer, results: Mapping[str, float] | None = None) -> None:
    """
    Add tags and a section to the card that sentence-transformers wrote.

    Args:
        path (`Path`): the README, changed in place.
        model (`SentenceTransformer`): with a [`BasisTransformation`] at its end.
        results (`Mapping[str, float]`, *optional*): of a
            [`BackwardCompatibilityEvaluator`][eigenhub.models.bt2.text_evaluator.BackwardCompatibilityEvaluator].
    """
    card = ModelCard.load(path)
    card.data.tags = [*(card.data.tags or []), *(tag for tag in TAGS if tag not in (card.data.tags or []))]
    if model.model_card_data.base_model:
        card.data.base_model = model.model_card_data.base_model
    module = basis_transformation(model)
    if HEADING not in card.content:
        name = model.model_card_data.model_id or "the/model"
        section = f"{HEADING}\n\n{_about(module, module.old_encoder)}\n\n{_code(module, name)}\n"
        card.text = f"{card.text.rstrip()}\n\n{section}" + (f"\n{results_table(results)}\n" if results else "")
    card.save(path)


def _about(module: BasisTransformation, old: EncoderIdentity | None) -> str:
    known = (
        f"`{old.model_id}`" + (f", revision `{old.revision}`" if old and old.revision else "")
        if old
        else "the old encoder"
    )
    prompts = f" with the prompts {dict(old.prompts)}" if old and old.prompts else ""
    return (
        f"The first {module.old_dim} of the {module.get_embedding_dimension()} coordinates can be compared with vectors of "
        f"{known}{prompts}, so an index of those can be searched before any of it is embedded anew. "
        f"Made with BT², [arXiv 2211.03989](https://arxiv.org/abs/2211.03989), and eigenhub."
    )


def _code(module: BasisTransformation, name: str) -> str:
    return (
        "```python\n"
        "from sentence_transformers import SentenceTransformer\n\n"
        f'model = SentenceTransformer("{name}")\n'
        'texts = ["a question"]\n'
        f"old_index_queries = model.encode_query(texts, truncate_dim={module.old_dim}, normalize_embeddings=True)\n"
        "new_index_vectors = model.encode_document(texts)  # an old vector beside them is padded with zeros\n"
        "```"
    )


def results_table(results: Mapping[str, float]) -> str:
    """Figures of an evaluation as a Markdown table, one line per query and gallery."""
    metrics = sorted(
        {name.split("_", 2)[2] for name in results if name.startswith(("old_old_", "new_old_", "new_new_"))}
    )
    lines = [f"| queries / gallery | {' | '.join(metrics)} |", f"| --- {'| --- ' * len(metrics)}|"]
    for sides in ("old_old", "new_old", "new_new"):
        cells = (f"{results[f'{sides}_{metric}']:.4f}" for metric in metrics)
        lines.append(f"| {sides.replace('_', '/')} | {' | '.join(cells)} |")
    others = [
        f"{name.replace('_', ' ')}: {results[name]:.4f}" for name in ("update_gain", "backfill_auc") if name in results
    ]
    return "\n".join([*lines, "", *([f"{', '.join(others)}."] if others else [])]).rstrip()
