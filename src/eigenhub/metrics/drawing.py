# SPDX-License-Identifier: Apache-2.0
"""Answers drawn and read in one go: prompts are computed once, states are taken on the way."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics.answers import SpecialTokens, cut_at_end, draw_answers, pad_rows
from eigenhub.metrics.embeddings import sentence_embedding
from eigenhub.metrics.generation_record import GenerationRecord
from eigenhub.metrics.prompt_cache import positions_of, repeated_prompts


#: Embeddings of answers `(n, d)`; log-probability and mean token entropy of each.
Reading = tuple[Tensor, list[tuple[float, float]]]


@dataclass(frozen=True)
class Drawn:
    """Answers to some prompts.

    Args:
        answers (`list[list[list[int]]]`): ids, for each prompt.
        greedy (`list[list[int] | None]`): the most probable continuation of each prompt, if asked for.
        reading (`Reading` or `None`): of all answers in a row, if they could be read on the way.
    """

    answers: list[list[list[int]]]
    greedy: Sequence[list[int] | None]
    reading: Reading | None = None


class GreedyRows:
    """A logits processor that leaves some rows their most probable token only.

    So the greedy answer is a row among the samples, and not a generation of its own.

    Args:
        rows (`slice`): which.
    """

    def __init__(self, rows: slice) -> None:
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.clone()
        best = scores[self.rows].argmax(-1, keepdim=True)
        scores[self.rows] = torch.full_like(scores[self.rows], -torch.inf).scatter(-1, best, 0.0)
        return scores


def draw_and_read(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    special: SpecialTokens,
    num_samples: int,
    greedy: bool,
    index: int,
    token: str,
    **options: Any,
) -> Drawn:
    """Answers of every prompt, and their embeddings if the model can go on from the keys and values of its prompts.

    Args:
        model (`nn.Module`): in eval mode, with `generate`.
        prompts (`Sequence[Sequence[int]]`): ids.
        special (`SpecialTokens`): of the model.
        num_samples (`int`): answers per prompt.
        greedy (`bool`): also the most probable continuation.
        index (`int`): hidden state.
        token (`str`): see [`sentence_embedding`][eigenhub.metrics.sentence_embedding].
        options (`Any`): for `generate`.
    """
    repeats = num_samples + greedy
    order = [number for number in range(len(prompts)) for _ in range(repeats)]
    shared = repeated_prompts(model, prompts, order, special.pad) if _samples_plainly(model, options) else None
    if shared is None:
        return _draw_apart(model, prompts, special, num_samples, greedy, options)
    cache, cached_mask = shared
    ids, mask = pad_rows(prompts, special.pad, "left", cached_mask.device)
    options = {"eos_token_id": list(special.eos), "pad_token_id": special.pad, **options}
    if greedy:
        options["logits_processor"] = [GreedyRows(slice(num_samples, None, repeats))]
    with GenerationRecord(model, index) as record:
        output = model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=mask, past_key_values=cache, num_return_sequences=repeats, **options
        )
        generated = (output if isinstance(output, Tensor) else output.sequences)[:, ids.shape[1] :]
        whole = torch.cat([mask[order], torch.ones_like(generated)], dim=1)
        last = {"input_ids": generated[:, -1:], "attention_mask": whole, **positions_of(model, whole, 1)}
        if cache.get_seq_length() == whole.shape[1] - 1:  # no token that was drawn last has been read yet
            model(**last, past_key_values=cache, use_cache=True)
    rows = [cut_at_end(row, special.eos) for row in generated.tolist()]
    groups = [rows[start : start + repeats] for start in range(0, len(rows), repeats)]
    answers = [group[:num_samples] for group in groups]
    found = record.answers(generated)
    reading = None if found is None else _reading(found, rows, repeats, num_samples, token)
    return Drawn(answers, [group[-1] if greedy else None for group in groups], reading)


def _samples_plainly(model: nn.Module, options: Mapping[str, Any]) -> bool:
    """Whether `generate` will take one token of each row per step, from the logits and nothing else."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return False
    config = copy.deepcopy(config)
    if config.update(**options):  # arguments of `generate` itself, as an assistant or a streamer
        return False
    plain = config.get_generation_mode() == "sample" and config.use_cache is not False
    return plain and config.cache_implementation is None and config.guidance_scale in (None, 1)


def _draw_apart(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    special: SpecialTokens,
    num_samples: int,
    greedy: bool,
    options: Mapping[str, Any],
) -> Drawn:
    answers = draw_answers(model, prompts, special, num_samples, **options)
    if not greedy:
        return Drawn(answers, [None] * len(answers))
    # values at which `generate` does not complain that they have no effect
    plain = {**options, "do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
    return Drawn(answers, [row for (row,) in draw_answers(model, prompts, special, 1, **plain)])


def _reading(
    found: tuple[Tensor, Tensor, Tensor], rows: list[list[int]], repeats: int, num_samples: int, token: str
) -> Reading:
    """Embeddings and statistics of the samples; equal answers to a prompt get those of the first, to the bit."""
    states, log_probs, entropies = found
    lengths = torch.tensor([len(row) for row in rows], device=states.device)
    mask = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    embeddings = sentence_embedding(states, mask, token)
    mask = mask.to(log_probs.device)
    chosen = torch.where(mask, log_probs, 0.0).sum(1).tolist()
    mean = (torch.where(mask, entropies, 0.0).sum(1) / mask.sum(1)).tolist()
    first: dict[tuple[int, tuple[int, ...]], int] = {}
    order = [
        first.setdefault((number // repeats, tuple(row)), number)
        for number, row in enumerate(rows)
        if number % repeats < num_samples
    ]
    return embeddings[order], [(chosen[number], mean[number]) for number in order]
