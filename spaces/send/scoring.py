# SPDX-License-Identifier: Apache-2.0
"""The scores of prompts in plain numbers, and of embedded ones whether the answer is right."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr
import torch
from language_models import LoadedModel, check_length, load_model
from names import MAX_PROMPT
from random_numbers import DRAWING
from settings import ScoreSettings
from world import kind_words, normalised, questions

from eigenhub.embedded.fact_answers import verdict
from eigenhub.hub.space import on_gpu
from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.metrics import HallucinationScore, HallucinationScorer
from eigenhub.metrics.conventions import get_convention


Record = dict[str, Any]


def score_prompts(settings: ScoreSettings, prompts: Sequence[str], first: int = 0) -> list[Record]:
    """
    One record for each prompt: EigenScore, its baselines, the answers with their counts, and the settings.

    Args:
        settings (`ScoreSettings`): how.
        prompts (`Sequence[str]`): one or more, as the model reads them.
        first (`int`, *optional*, defaults to 0): number of the first prompt in a longer list, which has other draws.
    """
    loaded = load_model(settings.model)  # not while a GPU is lent for seconds
    with shown_to_visitor("These prompts cannot be scored"):
        check_length(loaded, prompts, settings.max_new_tokens)
        scores = _drawn(settings, list(prompts), settings.seed + first)
    return [_record(settings, loaded, score) for score in scores]


@on_gpu
def _drawn(settings: ScoreSettings, prompts: list[str], seed: int) -> list[HallucinationScore]:
    loaded = load_model(settings.model)
    if torch.cuda.is_available():
        loaded.model.to("cuda")
    options = asdict(settings)
    for name in ("model", "seed"):
        options.pop(name)
    scorer = HallucinationScorer(loaded.model, loaded.tokenizer, batch_size=len(prompts), seed=seed, **options)
    with DRAWING, warnings.catch_warnings():
        # said on the page, where it belongs to one prompt
        warnings.filterwarnings("ignore", "all answers to every prompt are the same", RuntimeWarning)
        return scorer.generate_and_score(prompts)


def require_prompt(settings: ScoreSettings, prompt: str | None) -> str:
    """
    A prompt as the model reads it, or why it cannot be asked.

    Args:
        settings (`ScoreSettings`): say which model.
        prompt (`str`, *optional*): of the visitor.
    """
    text = (prompt or "").strip()
    if not text:
        raise gr.Error("Write a prompt first.")
    if len(text) > MAX_PROMPT:
        raise gr.Error(f"A prompt may have up to {MAX_PROMPT:,} letters, this one has {len(text):,}.")
    return normalised(text) if settings.is_embedded else text


def _record(settings: ScoreSettings, loaded: LoadedModel, score: HallucinationScore) -> Record:
    whole = score.to_dict()
    kept = ("prompt", "eigenscore", "spectrum", "greedy", "num_distinct", "mean_length", "lexical_similarity")
    record = {
        "settings": settings.to_dict(),
        "revision": loaded.revision,
        **{name: whole[name] for name in kept},
        **{name: whole[name] for name in ("length_normalized_entropy", "mean_token_entropy", "one_minus_mode_share")},
        "alpha": get_convention(settings.convention).alpha,
        "empty": sum(score.empty),
        "answers": _grouped(score),
        "truth": None,
        "kind": None,
        "verdict": None,
    }
    if settings.is_embedded and (question := questions().get(score.prompt)):
        record |= {"truth": question.answer, "kind": kind_words(question, settings.model)}
        record["verdict"] = verdict((score.greedy or "").strip(), question.answer)
        for answer in record["answers"]:
            answer["verdict"] = verdict(answer["text"].strip(), question.answer)
    return record


def _grouped(score: HallucinationScore) -> list[dict[str, Any]]:
    """Different texts, the most frequent first; of equal texts in other tokens the likeliest counts."""
    groups: dict[str, dict[str, Any]] = {}
    for text, log_prob, length in zip(score.samples, score.sequence_log_probs, score.lengths, strict=True):
        group = groups.setdefault(text, {"text": text, "count": 0, "log_prob": log_prob, "tokens": length})
        group["count"] += 1
        if log_prob > group["log_prob"]:
            group |= {"log_prob": log_prob, "tokens": length}
    return sorted(groups.values(), key=lambda group: (-group["count"], -group["log_prob"]))
