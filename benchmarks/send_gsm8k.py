# SPDX-License-Identifier: Apache-2.0
"""Which scores tell wrong answers from right ones on real text, and what SenD does there: GSM8K, exact answers, three seeds.

    python benchmarks/send_gsm8k.py            # one seed, a model trained for a minute; saves nothing
    python benchmarks/send_gsm8k.py --full     # some half hour of an idle core; saves its results and fills the card

A small Llama is trained on the training split. It is asked the calculator steps of test problems: the prompt is the
question with its own solution up to `<<48/2=`, the answer what follows up to `>>`, right if it is the same number exactly.
Needs train.jsonl and test.jsonl of `openai/gsm8k` in ../shared/data/gsm8k or in the folder that EIGENHUB_GSM8K names.
Finished runs are kept in --cache, so it can be stopped and continued.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.arguments import add_cache, arguments
from support.cached import cached


if TYPE_CHECKING:
    from support.send_gsm8k_data import Step


COMMAND = "python benchmarks/send_gsm8k.py --full"
TEMPERATURES = (0.5, 1.0)
#: Longest prompt in tokens: the model is trained on rows of 256.
LONGEST = 192
NOTE = (
    "A Llama of half a million parameters, {steps} optimizer steps on {known:,} problems of the training split and, four fifths of "
    "them, on the calculator steps of these problems alone; {questions} test problems, one calculator step of each drawn at random among those with a prompt of up to "
    "{longest} tokens ({fitting} of {all} steps); seeds {seeds} train models of their own and answer the same questions. Right is "
    "the number of the solution, exactly, in the greedy answer. K = 10 samples, top_p 0.99, top_k 10. AUROC of wrong against right "
    "answers: mean over the seeds, in brackets 95 per cent of {resamples} resamples of the questions, drawn for all seeds "
    'together; 0.5 is chance, below it points the wrong way. The states are those of the closing bracket. "Within" counts only '
    "pairs of a wrong and a right answer with as many digits in the operands, or with greedy answers of the same length. Of shares, "
    "losses and flips the brackets are the smallest and the largest of the seeds. Training further: {problems} problems that were "
    "kept back, a fifth of them tracked and not trained on, {epochs} epochs at 1e-3; masks from epoch 4 on."
)


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Args:
        train_steps (`int`): optimizer steps of the model.
        seeds (`tuple[int, ...]`): models.
        questions (`int`): steps that are scored.
        final (`int`): problems whose final answer is asked for.
        asked_again (`int`): steps that are asked after each epoch of training further.
        epochs (`int`): of training further.
        resamples (`int`): for the intervals.
    """

    train_steps: int = 2250
    seeds: tuple[int, ...] = (0, 1, 2)
    questions: int = 600
    final: int = 200
    asked_again: int = 120
    epochs: int = 6
    resamples: int = 500


SHORT = Plan(150, (0,), 64, 8, 32, 4, 50)


def sampled(plan: Plan) -> "list[Step]":
    """The steps that are asked."""
    from support.send_gsm8k_data import read, sample_steps

    return sample_steps(read("test"), plan.questions, fits)


def fits(step: "Step") -> bool:
    """Whether a prompt is short enough."""
    from support.send_gsm8k_model import gsm8k_tokenizer

    return len(gsm8k_tokenizer()(step.prompt)["input_ids"]) <= LONGEST


def scored(plan: Plan, seed: int, steps: "Sequence[Step]", cache: Path) -> dict[str, Any]:
    """Final answers and the scores at both temperatures of one seed."""
    from support.send_gsm8k_model import load_model, model_folder
    from support.send_gsm8k_scores import final_answers, score_steps

    def score(temperature: float) -> dict[str, Any]:
        return score_steps(load_model(model_folder(plan.train_steps, seed)), steps, temperature, seed)

    def solve() -> dict[str, Any]:
        return final_answers(load_model(model_folder(plan.train_steps, seed)), plan.final)

    common = {"train_steps": plan.train_steps, "seed": seed}
    tasks = {t: {**common, "questions": len(steps), "temperature": t} for t in TEMPERATURES}
    runs = {t: cached(cache, task, partial(score, t)) for t, task in tasks.items()}
    return {"runs": runs, "final": cached(cache, {**common, "final": plan.final}, solve)}


def trained_further(plan: Plan, steps: "Sequence[Step]", cache: Path) -> dict[str, list[dict[str, Any]]]:
    """All arms and seeds."""
    from support.send_gsm8k_arms import ARMS, train_arm
    from support.send_gsm8k_model import model_folder
    from tqdm import tqdm

    def train(arm: str, seed: int) -> dict[str, Any]:
        return train_arm(model_folder(plan.train_steps, seed), arm, plan.epochs, seed, asked)

    asked = steps[: plan.asked_again]
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed, arm in tqdm([(seed, arm) for seed in plan.seeds for arm in ARMS], desc="training further"):
        task = {"arm": arm, "train_steps": plan.train_steps, "seed": seed, "epochs": plan.epochs, "asked": len(asked)}
        found[arm].append(cached(cache, task, partial(train, arm, seed)))
    return found


def main() -> None:
    full = "all seeds and steps; saves its results, fills the card"
    parser = arguments(__doc__, "short", "one seed, a model trained for a minute; prints only", full)
    add_cache(parser, "send_gsm8k")
    args = parser.parse_args()

    import torch
    from support import send_gsm8k_arms, send_gsm8k_data, send_gsm8k_report
    from support.card_figures import replace_measured
    from support.report import save
    from support.send_gsm8k_card import card_figures
    from support.send_gsm8k_model import known_rows
    from transformers.utils import logging

    if not send_gsm8k_data.has_data():
        print(
            f"skipped: needs train.jsonl and test.jsonl of openai/gsm8k in {send_gsm8k_data.FOLDER} or EIGENHUB_GSM8K"
        )
        return
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    plan = Plan() if args.full else SHORT
    steps = sampled(plan)
    found = [scored(plan, seed, steps, args.cache) for seed in plan.seeds]
    arms = trained_further(plan, steps, args.cache)
    every = [s for n, r in enumerate(send_gsm8k_data.read("test")) for s in send_gsm8k_data.steps_of(n, r)]
    note = NOTE.format(
        steps=plan.train_steps,
        known=len(known_rows()),
        questions=len(steps),
        longest=LONGEST,
        fitting=sum(map(fits, every)),
        all=len(every),
        seeds=", ".join(map(str, plan.seeds)),
        resamples=plan.resamples,
        problems=send_gsm8k_arms.PROBLEMS,
        epochs=plan.epochs,
    )
    runs = {t: [entry["runs"][t] for entry in found] for t in TEMPERATURES}
    answers = send_gsm8k_report.answer_rows(runs[TEMPERATURES[0]], steps, [entry["final"] for entry in found])
    tables = (send_gsm8k_report.detector_rows, send_gsm8k_report.difference_rows)
    detectors = [line for t in TEMPERATURES for table in tables for line in table(t, runs[t], steps, plan.resamples)]
    rows = [*answers, *detectors, *send_gsm8k_report.arm_rows(arms)]
    title = "SenD: detecting wrong answers on GSM8K"
    save("send_gsm8k", title, rows, ["transformers", "eigenhub"], args.full, note, "quality")
    if args.full:
        replace_measured("send", card_figures(rows, list(plan.seeds), COMMAND))


if __name__ == "__main__":
    main()
