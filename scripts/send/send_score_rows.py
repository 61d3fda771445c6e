# SPDX-License-Identifier: Apache-2.0
"""What `score.py` reads and writes: prompts with answers, the scorer, rows of scores, how well they detect errors."""

import argparse
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from send_detectors import DETECTORS, auroc_of, means_of, prr_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from eigenhub.embedded.fact_model import pretrained_fact_folder
from eigenhub.embedded.facts import load_facts
from eigenhub.metrics import HallucinationScore, HallucinationScorer, best_of_k
from eigenhub.metrics.answer_text import plain_answer
from eigenhub.training.gsm8k import is_correct
from eigenhub.training.options import EMBEDDED, as_settings
from eigenhub.training.send.config import CONFIG_NAME
from eigenhub.training.text_source import load_text_dataset


@dataclass(frozen=True)
class PromptRows:
    """What is to be scored.

    Args:
        prompts (`list[str]`): as the model reads them.
        answers (`list[list[str]]`): of each prompt; empty if they are to be sampled.
        references (`list[list[str]]`): right answers of each prompt; empty if none are known.
    """

    prompts: list[str]
    answers: list[list[str]] = field(default_factory=list)
    references: list[list[str]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Tells whether a run that goes on has the same rows."""
        content = json.dumps([self.prompts, self.answers, self.references])
        return hashlib.sha256(content.encode()).hexdigest()


def load_prompts(args: argparse.Namespace) -> PromptRows:
    """The rows of the options, with every complaint about them.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    if args.prompts == EMBEDDED:
        facts = load_facts()["test"].shuffle(seed=0)
        facts = facts.take(min(args.max_samples or len(facts), len(facts)))
        return PromptRows(facts["prompt"][:], references=[[answer] for answer in facts["answer"]])
    rows = load_text_dataset(args.prompts, args.split, args.dataset_config)
    rows = rows.take(min(args.max_samples or len(rows), len(rows)))
    asked = [name for name in (args.prompt_column, args.answers_column, args.reference_column) if name]
    if missing := [name for name in asked if name not in rows.column_names]:
        raise SystemExit(f"the data has no column {missing[0]!r}; its columns are {', '.join(rows.column_names)}")
    prompts = [_prompt(args, number, text) for number, text in enumerate(rows[args.prompt_column])]
    if not prompts:
        raise SystemExit(f"--prompts: {args.prompts} has no rows")
    answers = [_answers(n, given) for n, given in enumerate(rows[args.answers_column])] if args.answers_column else []
    references = [_as_list(given) for given in rows[args.reference_column]] if args.reference_column else []
    return PromptRows(prompts, answers, references)


def _prompt(args: argparse.Namespace, number: int, text: Any) -> str:
    if not isinstance(text, str) or not text:
        raise SystemExit(f"row {number}: {args.prompt_column!r} must be a text of one or more letters, got {text!r}")
    return args.prompt_template.format(prompt=text)


def _answers(number: int, given: Any) -> list[str]:
    if not isinstance(given, list) or len(given) < 2 or not all(isinstance(answer, str) for answer in given):
        raise SystemExit(f"row {number}: answers must be a list of two or more texts, got {given!r}")
    return given


def _as_list(given: Any) -> list[str]:
    return [str(entry) for entry in given] if isinstance(given, list) else [str(given)]


def load_scorer(args: argparse.Namespace) -> HallucinationScorer:
    """Model and scorer.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    source = pretrained_fact_folder() if args.model == EMBEDDED else args.model
    warn_of_mask(source)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    model = AutoModelForCausalLM.from_pretrained(source, dtype=args.dtype).to(device)
    tokenizer = AutoTokenizer.from_pretrained(source)
    try:
        return HallucinationScorer(
            model,
            tokenizer,
            layer=int(args.layer) if args.layer.removeprefix("-").isdecimal() else args.layer,
            token=args.token,
            convention=args.convention,
            alpha=args.alpha,
            num_samples=args.num_samples,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            max_new_tokens=args.max_new_tokens,
            batch_size=args.batch_size,
            greedy=True,
        )
    except ValueError as error:  # a layer that the model does not have
        raise SystemExit(f"{args.model}: {error}") from None


def warn_of_mask(source: str | Path) -> None:
    """Says it where a model was evaluated with a mask that its weights do not have.

    Args:
        source (`str` or `Path`): Hub id or folder.
    """
    path = Path(source) / CONFIG_NAME
    if not path.is_file():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("mask_in_eval") and settings.get("dropped"):
        warnings.warn(
            f"{source} was trained with `mask_in_eval`, but is scored without its mask: for site 'mlp', `bake` writes it into "
            "the weights",
            UserWarning,
            stacklevel=2,
        )


def to_row(args: argparse.Namespace, rows: PromptRows, number: int, score: HallucinationScore) -> dict[str, Any]:
    """One row of the output: the score with everything beside it, and whether the model's answer is right.

    The answer that is judged is the greedy one; of given answers it is the most frequent one.

    Args:
        args (`argparse.Namespace`): of the script.
        rows ([`PromptRows`]): all of them.
        number (`int`): of the row.
        score (`HallucinationScore`): of its prompt.
    """
    answer = score.greedy if score.greedy is not None else best_of_k(score, by="mode")
    row = {"index": number, **score.to_dict(), "answer": answer}
    if rows.references:
        row |= {"reference": rows.references[number], "right": judged(args.judge, answer, rows.references[number])}
    return row


def judged(judge: str, answer: str, references: Sequence[str]) -> bool:
    """Whether an answer is one of the right ones.

    Args:
        judge (`str`): `"exact_match"`: the first line, but for case, punctuation and articles; `"final_number"`: the number
            that the answer ends on.
        answer (`str`): of the model.
        references (`Sequence[str]`): right answers.
    """
    if judge == "final_number":
        return any(is_correct(answer, reference) for reference in references)
    return plain_answer(answer) in {plain_answer(reference) for reference in references}


def summarise(args: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means, and where answers were judged, AUROC and prediction rejection ratio of every score; printed too.

    Args:
        args (`argparse.Namespace`): of the script.
        rows (`Sequence[Mapping]`): of the output.
    """
    means = means_of(rows)
    summary: dict[str, Any] = {"prompts": len(rows), "means": means, "settings": as_settings(args)}
    print(f"{len(rows)} prompts, mean EigenScore {means['eigenscore']:.4f}: {args.output}")
    if "right" not in rows[0]:
        return summary
    wrong = [not row["right"] for row in rows]
    summary |= {"right": wrong.count(False), "auroc": auroc_of(rows, wrong), "prr": prr_of(rows, wrong)}
    print(f"{wrong.count(False)} answers right, {wrong.count(True)} not")
    if summary["auroc"]:
        print(f"{'':28}{'AUROC':>8}{'PRR':>8}")
        for name in DETECTORS:
            print(f"{name:28}{summary['auroc'][name]:8.3f}{summary['prr'][name]:8.3f}")
    return summary
