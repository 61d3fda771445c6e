# SPDX-License-Identifier: Apache-2.0
"""How well scores of sampled answers tell the wrong answers of the plain model apart."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics import HallucinationScore, HallucinationScorer, auroc, ees, eigenscore
from eigenhub.metrics.conventions import CONVENTIONS
from eigenhub.metrics.ees_official import ees_official
from eigenhub.metrics.hidden_states import evaluating, layer_index
from eigenhub.metrics.teacher_forcing import read_answers
from support.send_facts_runs import prepared
from support.send_facts_script import DETECTORS, Task, greedy_errors


NUM_SAMPLES, BATCH = 10, 128
#: Where the authors of EES take their embeddings.
EES_PLACE = (CONVENTIONS["send"].layer, CONVENTIONS["send"].token)
Scores = dict[str, list[float]]


def detector_run(seed: int, epochs: int, temperatures: Sequence[float]) -> dict[str, Any]:
    """AUROC of every detector on the plain model at its end, by temperature.

    Args:
        seed (`int`): of world, base model, run and sampling.
        epochs (`int`): epochs of the run.
        temperatures (`Sequence[float]`): of sampling.
    """
    with prepared(["--arm", "off"], seed, epochs) as (trainer, task):
        trainer.train()
        found = {t: detector_figures(trainer.model, task, t, seed) for t in temperatures}
    return {"scored": [{"epoch": epochs, "temperature": t, **figures} for t, figures in found.items()]}


def detector_figures(model: nn.Module, task: Task, temperature: float, seed: int) -> dict[str, Any]:
    """AUROC of every detector for wrong greedy answers, and the share of these; a refusal counts as wrong.

    Args:
        model (`nn.Module`): the model.
        task ([`Task`]): tokenizer and questions.
        temperature (`float`): of sampling.
        seed (`int`): of sampling and of the probes.
    """
    scorer = HallucinationScorer(
        model,
        task.tokenizer,
        num_samples=NUM_SAMPLES,
        temperature=temperature,
        max_new_tokens=2,
        batch_size=BATCH,
        seed=seed,
    )
    scores = scorer.generate_and_score([row["prompt"] for row in task.questions])
    wrong = greedy_errors(scores, [row["answer"] for row in task.questions])
    columns = {name: [score.to_dict()[name] for score in scores] for name in DETECTORS if name != "eigenscore"}
    columns |= {"one_minus_lexical_similarity": [1 - score.lexical_similarity for score in scores]}
    columns |= embedding_scores(model, scorer, scores, seed)
    return {
        "wrong": sum(wrong) / len(wrong),
        "auroc": {name: auroc(column, wrong) for name, column in columns.items()},
        "distinct": sum(score.num_distinct for score in scores) / len(scores),
        "all_alike": sum(score.num_distinct == 1 for score in scores) / len(scores),
    }


def embedding_scores(
    model: nn.Module, scorer: HallucinationScorer, scores: Sequence[HallucinationScore], seed: int
) -> Scores:
    """EigenScore in all conventions, each at its own place in the model, and both forms of EES.

    Args:
        model (`nn.Module`): the model.
        scorer ([`HallucinationScorer`]): gives the special tokens.
        scores (`Sequence[HallucinationScore]`): with the answers.
        seed (`int`): of the probes.
    """
    places = {name: (convention.layer, convention.token) for name, convention in CONVENTIONS.items()}
    states = {place: answer_states(model, scorer, scores, *place) for place in {*places.values(), EES_PLACE}}
    columns = {f"eigenscore, {name}": eigenscore(states[place], name).tolist() for name, place in places.items()}
    x = states[EES_PLACE]
    generator = torch.Generator().manual_seed(seed)
    columns["ees, corrected"] = ees(x, generator=generator).tolist()
    columns["ees, corrected, exact trace"] = ees(x, exact_trace=True).tolist()
    columns["ees, released"] = [float(ees_official(row, generator=generator)) for row in x]
    columns["ees, released, exact trace"] = [float(ees_official(row, exact_trace=True)) for row in x]
    return columns


def answer_states(
    model: nn.Module, scorer: HallucinationScorer, scores: Sequence[HallucinationScore], layer: str, token: str
) -> Tensor:
    """Embeddings of all answers, `[questions, K, d]`.

    Args:
        model (`nn.Module`): the model.
        scorer ([`HallucinationScorer`]): gives the special tokens.
        scores (`Sequence[HallucinationScore]`): with prompts and answers.
        layer (`str`): of the hidden states.
        token (`str`): see [`sentence_embedding`][eigenhub.metrics.sentence_embedding].
    """
    parts = []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(scores), BATCH):
            pairs = [
                (list(scorer.tokenizer(score.prompt)["input_ids"]), answer)
                for score in scores[start : start + BATCH]
                for answer in score.sample_ids
            ]
            found, _ = read_answers(model, pairs, scorer.special.pad, layer_index(model, layer), token)
            parts.append(found.reshape(-1, NUM_SAMPLES, found.shape[-1]))
    return torch.cat(parts)
