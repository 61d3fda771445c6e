# SPDX-License-Identifier: Apache-2.0
"""Sampled answers to calculator steps, and every score that is to tell the wrong ones from the right ones."""

import warnings
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm
from transformers import DynamicCache, LlamaForCausalLM

from eigenhub.metrics import ees, eigenscore
from eigenhub.metrics.answer_statistics import length_normalized_entropy, lexical_similarity, mode_share
from eigenhub.metrics.answers import draw_answers, pad_rows, special_tokens
from eigenhub.metrics.conventions import CONVENTIONS
from eigenhub.metrics.ees_official import ees_official
from eigenhub.metrics.hidden_states import evaluating, layer_index
from eigenhub.metrics.sampling import fixed_seed
from eigenhub.metrics.teacher_forcing import read_answers
from eigenhub.training.gsm8k import exact_match
from support.send_gsm8k_data import Step, is_right, read
from support.send_gsm8k_model import gsm8k_tokenizer


SAMPLES, TOP_P, TOP_K, MAX_NEW_TOKENS, BATCH = 10, 0.99, 10, 12, 32
LAYERS = ("middle", "penultimate")
MOMENTS = 20


def score_steps(model: LlamaForCausalLM, steps: Sequence[Step], temperature: float, seed: int) -> dict[str, Any]:
    """For every step its greedy answer, whether that is right, and all detectors; higher is less certain in all of them.

    The same quantities as those of [`HallucinationScorer`][eigenhub.metrics.HallucinationScorer], from the same parts, but
    for both layers and all conventions at once.

    Args:
        model (`LlamaForCausalLM`): ends answers at the closing bracket.
        steps (`Sequence[Step]`): what is asked.
        temperature (`float`): of sampling.
        seed (`int`): of sampling and probes.
    """
    tokenizer = gsm8k_tokenizer()
    prompts = tokenizer([step.prompt for step in steps])["input_ids"]
    order = sorted(range(len(steps)), key=lambda place: len(prompts[place]))  # batches of like lengths
    rows: dict[int, dict[str, Any]] = {}
    with evaluating(model), fixed_seed(seed, model.device):
        for start in tqdm(range(0, len(order), BATCH), desc=f"seed {seed}, T={temperature:g}"):
            places = order[start : start + BATCH]
            found = _score_batch(model, [prompts[place] for place in places], temperature)
            rows |= dict(zip(places, found, strict=True))
    for place, step in enumerate(steps):
        rows[place]["right"] = is_right(rows[place]["greedy"], step.answer)
    return {"rows": [rows[place] for place in range(len(steps))]}


def greedy_answers(model: LlamaForCausalLM, steps: Sequence[Step]) -> list[str]:
    """The most probable answer to each step.

    Args:
        model (`LlamaForCausalLM`): ends answers at the closing bracket.
        steps (`Sequence[Step]`): what is asked.
    """
    tokenizer = gsm8k_tokenizer()
    prompts = tokenizer([step.prompt for step in steps])["input_ids"]
    order = sorted(range(len(steps)), key=lambda place: len(prompts[place]))
    answers: dict[int, str] = {}
    with evaluating(model):
        for start in range(0, len(order), 2 * BATCH):
            places = order[start : start + 2 * BATCH]
            drawn = _draw(model, [prompts[place] for place in places], 1, do_sample=False)
            answers |= {place: str(tokenizer.decode(ids)) for place, (ids,) in zip(places, drawn, strict=True)}
    return [answers[place] for place in range(len(steps))]


def final_answers(model: LlamaForCausalLM, count: int) -> dict[str, int]:
    """How many of the first test problems the model solves by itself, by greedy generation.

    Args:
        model (`LlamaForCausalLM`): of this study.
        count (`int`): problems.
    """
    tokenizer = gsm8k_tokenizer()
    rows = Dataset.from_list(read("test")[:count])
    ends = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id  # not at the end of the first step
    try:
        share = exact_match(Accelerator(), model, tokenizer, rows, batch_size=2 * BATCH)
    finally:
        model.generation_config.eos_token_id = ends
    return {"right": round(share * count), "questions": count}


def _draw(model: LlamaForCausalLM, prompts: list[list[int]], count: int, **options: Any) -> list[list[list[int]]]:
    """Answers to each prompt, which is read once: its keys and values serve all of its samples."""
    special = special_tokens(model, gsm8k_tokenizer())
    ids, mask = pad_rows(prompts, special.pad, "left", model.device)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    memory = DynamicCache(config=model.config)
    model(ids[:, :-1], attention_mask=mask[:, :-1], position_ids=places[:, :-1], past_key_values=memory)
    memory.batch_repeat_interleave(count)
    repeated = [prompt for prompt in prompts for _ in range(count)]
    options = {"max_new_tokens": MAX_NEW_TOKENS, "past_key_values": memory, **options}
    found = [answer for (answer,) in draw_answers(model, repeated, special, 1, **options)]
    return [found[start : start + count] for start in range(0, len(found), count)]


def _score_batch(model: LlamaForCausalLM, prompts: list[list[int]], temperature: float) -> list[dict[str, Any]]:
    tokenizer = gsm8k_tokenizer()
    options = {"do_sample": True, "temperature": temperature, "top_p": TOP_P, "top_k": TOP_K}
    samples = _draw(model, prompts, SAMPLES, **options)
    greedy = [answers[0] for answers in _draw(model, prompts, 1, do_sample=False)]
    pairs = [(prompt, answer) for prompt, answers in zip(prompts, samples, strict=True) for answer in answers]
    pad, first = special_tokens(model, tokenizer).pad, len(pairs)
    pairs += list(zip(prompts, greedy, strict=True))
    scores: dict[str, list[float]] = {}
    for layer in LAYERS:
        states, statistics = read_answers(model, pairs, pad, layer_index(model, layer), "last")
        scores |= spectral_scores(states[:first].unflatten(0, (len(prompts), SAMPLES)), layer)
    results = []
    for number, answers in enumerate(samples):
        row = {name: values[number] for name, values in scores.items()}
        row |= answer_scores(answers, statistics[number * SAMPLES : (number + 1) * SAMPLES])
        row["greedy, - log-probability"] = -statistics[first + number][0]
        length = len(greedy[number])
        results.append({"greedy": tokenizer.decode(greedy[number]), "greedy_length": length, "scores": row})
    return results


def answer_scores(answers: Sequence[Sequence[int]], statistics: Sequence[tuple[float, float]]) -> dict[str, float]:
    """What the texts of the samples and their probabilities say.

    Args:
        answers (`Sequence[Sequence[int]]`): tokens of the samples.
        statistics (`Sequence[tuple[float, float]]`): log-probability and mean token entropy of each.
    """
    keys = [tuple(answer) for answer in answers]
    lengths = [len(answer) for answer in answers]
    return {
        "length-normalised entropy": length_normalized_entropy([found for found, _ in statistics], lengths),
        "mean token entropy": sum(entropy for _, entropy in statistics) / len(statistics),
        "1 - mode share": 1 - mode_share(keys),
        "distinct answers": float(len(set(keys))),
        "1 - lexical similarity": 1 - lexical_similarity(answers),
        "mean length": sum(lengths) / len(lengths),
    }


def spectral_scores(states: Tensor, layer: str) -> dict[str, list[float]]:
    """EigenScore in all conventions and the forms of EES.

    Args:
        states (`Tensor` of shape `(b, K, d)`): embeddings of the samples.
        layer (`str`): name of the layer that they are from.
    """
    found = {f"EigenScore {name}, {layer}": eigenscore(states, name).tolist() for name in CONVENTIONS}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="all answers of an item are the same")
        found[f"EES exact trace, {layer}"] = ees(states, MOMENTS, exact_trace=True).tolist()
        found[f"EES 20 probes, {layer}"] = ees(states, MOMENTS).tolist()
    found[f"EES as released, {layer}"] = [float(ees_official(item, MOMENTS)) for item in states]
    found[f"EES as released, exact trace, {layer}"] = [
        float(ees_official(item, MOMENTS, exact_trace=True)) for item in states
    ]
    return found
