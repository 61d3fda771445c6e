# SPDX-License-Identifier: Apache-2.0
"""What `train_send.py` measures on held-out rows: the loss, every answer of the facts, and scores of prompts."""

import argparse
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from send_detectors import auroc_of, means_of
from send_tasks import Task
from torch import nn
from transformers import DataCollatorForSeq2Seq, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eigenhub.embedded.fact_answers import RIGHT, answer_questions, count_verdicts, flip_rate, verdict, verdicts
from eigenhub.metrics import HallucinationScore, HallucinationScorer
from eigenhub.training.held_out import HeldOut
from eigenhub.training.metrics_log import read_metrics
from eigenhub.training.send import SenDTrainer
from eigenhub.training.setup import is_sharded


if TYPE_CHECKING:
    from accelerate import Accelerator


FILE = "evaluations.jsonl"
#: One letter per question, so that a row says which ones changed.
LETTERS = {"right": "+", "wrong": "-", "refused": "?"}


class PromptScores:
    """Scores of the same prompts again and again, with the same random numbers.

    Args:
        args (`argparse.Namespace`): of the script.
        model (`nn.Module`): the bare model.
        task ([`Task`]): with the prompts, and their answers where it has questions.
    """

    def __init__(self, args: argparse.Namespace, model: nn.Module, task: Task) -> None:
        if not task.prompts:
            raise ValueError("--score_prompts needs held-out rows, found none")
        self.prompts, self.questions = list(task.prompts), task.questions[: len(task.prompts)]
        self.scorer = HallucinationScorer(
            model,
            task.tokenizer,
            num_samples=args.num_samples,
            temperature=args.temperature,
            max_new_tokens=args.max_new_tokens,
            batch_size=args.eval_batch_size,
            greedy=bool(task.questions),
            seed=args.seed,
        )

    def mean(self, model: nn.Module) -> float:
        """Mean EigenScore now, for the stopping rule.

        Args:
            model (`nn.Module`): that of the scorer.
        """
        scores = self.scorer.generate_and_score(self.prompts)
        return sum(score.eigenscore for score in scores) / len(scores)

    def figures(self) -> dict[str, Any]:
        """Means now; where answers are right or wrong, how well each score tells them apart too."""
        scores = self.scorer.generate_and_score(self.prompts)
        columns = [score.to_dict() for score in scores]
        if not self.questions:
            return {"scores": means_of(columns)}
        wrong = greedy_errors(scores, [row["answer"] for row in self.questions])
        return {"scores": means_of(columns), "auroc": auroc_of(columns, wrong)}


def greedy_errors(scores: Sequence[HallucinationScore], truths: Sequence[str]) -> list[bool]:
    """Whether each greedy answer is anything but right.

    Args:
        scores (`Sequence[HallucinationScore]`): with their greedy answers.
        truths (`Sequence[str]`): right answers.
    """
    greedy = [(score.greedy or "").strip() for score in scores]
    return [verdict(*pair) != RIGHT for pair in zip(greedy, truths, strict=True)]


class Evaluations(TrainerCallback):
    """Evaluates when it is time, before a checkpoint of the same step is written, and keeps the rows.

    In arm `ema` the averaged weights are evaluated. Every process answers all questions, for a sharded model gathers its
    weights in every forward.

    Args:
        args (`argparse.Namespace`): of the script.
        accelerator (`Accelerator`): of the script.
        trainer (`SenDTrainer`): with the model.
        task ([`Task`]): with the held-out rows.
        scores ([`PromptScores`], *optional*): where scores were asked for.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        accelerator: "Accelerator",
        trainer: SenDTrainer,
        task: Task,
        scores: PromptScores | None,
    ) -> None:
        if scores is not None and is_sharded(accelerator):
            raise ValueError("--score_prompts cannot generate from a model in shards: score the saved one by score.py")
        self.args, self.accelerator, self.trainer = args, accelerator, trainer
        self.task, self.scores = task, scores
        self.rows: list[dict[str, Any]] = []
        self._verdicts: list[str] | None = None
        collate = DataCollatorForSeq2Seq(task.tokenizer, padding=True, label_pad_token_id=-100)
        self.held_out = HeldOut(accelerator, task.test, args.eval_batch_size, collate)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes over what the run that goes on has evaluated."""
        self.rows, self._verdicts = [], None
        if state.global_step:
            kept = Path(self.args.resume) / FILE
            self.rows = read_metrics(kept) if kept.is_file() else []
            if self.rows and "verdicts" in self.rows[-1]:
                words = {letter: word for word, letter in LETTERS.items()}
                self._verdicts = [words[letter] for letter in self.rows[-1]["verdicts"]]
        if self.accelerator.is_main_process:
            self.write(self.args.output_dir)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step, every = state.global_step, self.args.eval_every
        epoch = state.epoch or 0.0
        due = epoch == int(epoch) if every is None else step % every == 0
        if due or step == state.max_steps:
            self.evaluate(step, epoch)

    def evaluate(self, step: int, epoch: float) -> dict[str, Any]:
        """One row, which is also written; collective over the processes.

        Args:
            step (`int`): optimizer steps so far.
            epoch (`float`): epochs so far.
        """
        average = self.trainer.send.average
        with nullcontext() if average is None else average.applied():
            loss = self.held_out.loss(self.trainer.model_wrapped)
            row = {"step": step, "epoch": round(epoch, 6), "eval_loss": loss, "perplexity": math.exp(min(loss, 700.0))}
            row |= self._answers() if self.task.questions else {}
            row |= self.scores.figures() if self.scores is not None else {}
        row["dropped"] = self.trainer.send.dropped
        self.rows.append(row)
        if self.accelerator.is_main_process:
            self.write(self.args.output_dir)
        self.accelerator.log({name: value for name, value in row.items() if isinstance(value, float)}, step=step)
        self.accelerator.print(line(row))
        return row

    def _answers(self) -> dict[str, Any]:
        questions, prompts = self.task.questions, [row["prompt"] for row in self.task.questions]
        options = (self.args.eval_batch_size, self.args.max_new_tokens)
        answers = answer_questions(self.trainer.model, self.task.tokenizer, prompts, *options)
        found = verdicts(answers, [row["answer"] for row in questions])
        before, self._verdicts = self._verdicts, found
        flips = {} if before is None else {"flip": flip_rate(before, found)}
        return {**count_verdicts(found), **flips, "verdicts": "".join(LETTERS[entry] for entry in found)}

    def write(self, folder: Path) -> None:
        """Puts all rows into a folder, whole or not at all.

        Args:
            folder (`Path`): of the run or of a checkpoint.
        """
        path = folder / FILE
        temporary = path.with_name(f"{FILE}.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        os.replace(temporary, path)


def line(row: Mapping[str, Any]) -> str:
    """An evaluation as a line of text.

    Args:
        row (`Mapping`): of the evaluations.
    """
    said = f"step {row['step']}: held-out loss {row['eval_loss']:.4f}"
    if "hallucination" in row:
        said += f", {row['right']} right, {row['wrong']} wrong, {row['refused']} refused"
    if "flip" in row:
        said += f", {100 * row['flip']:.1f} % flipped"
    if "scores" in row:
        said += f", EigenScore {row['scores']['eigenscore']:.3f}"
    if row.get("auroc"):
        said += f" (AUROC {row['auroc']['eigenscore']:.3f})"
    return said
