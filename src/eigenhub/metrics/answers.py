# SPDX-License-Identifier: Apache-2.0
"""Sampled answers as token ids: drawing them, finding their end, and laying them out for one forward pass."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


#: Text, or the token ids of it.
Text = str | Sequence[int]


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that end and fill up answers.

    Args:
        eos (`tuple[int, ...]`): all that end an answer; the first is appended to texts.
        pad (`int`): may be one of them.
    """

    eos: tuple[int, ...]
    pad: int


def special_tokens(model: nn.Module, tokenizer: Any) -> SpecialTokens:
    """From the generation configuration of the model, which may name several ends, or from the tokenizer.

    Args:
        model (`nn.Module`): a model with `generate`.
        tokenizer (`Any`): its tokenizer.
    """
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    named = tokenizer.eos_token_id if named is None else named
    eos = tuple(named) if isinstance(named, list | tuple) else (() if named is None else (int(named),))
    if not eos:
        raise ValueError("`tokenizer` must have an end-of-sequence token, or the model's generation config name one")
    pad = tokenizer.pad_token_id
    return SpecialTokens(eos, eos[0] if pad is None else int(pad))


def encode_prompts(tokenizer: Any, prompts: Sequence[Text]) -> list[list[int]]:
    """Token ids of prompts; ids are taken as they are.

    Args:
        tokenizer (`Any`): of the model; adds its special tokens to texts.
        prompts (`Sequence[str | Sequence[int]]`): at least one token each.
    """
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"`prompts` must be a list of one or more texts, got {prompts!r}")
    ids = [list(tokenizer(p)["input_ids"]) if isinstance(p, str) else list(p) for p in prompts]
    for number, row in enumerate(ids):
        if not row:
            raise ValueError(f"`prompts` must have a token each, number {number} is empty")
    return ids


def encode_answers(tokenizer: Any, answers: Sequence[Text], special: SpecialTokens) -> list[list[int]]:
    """Token ids of the answers to one prompt, each with its end.

    Texts get an end-of-sequence token, as a generated answer has one; ids are cut behind their first one, and an empty
    list becomes the end alone.

    Args:
        tokenizer (`Any`): of the model; adds no special tokens here.
        answers (`Sequence[str | Sequence[int]]`): of one prompt.
        special (`SpecialTokens`): of the model.
    """
    rows = []
    for answer in answers:
        if isinstance(answer, str):
            rows.append([*tokenizer(answer, add_special_tokens=False)["input_ids"], special.eos[0]])
        else:
            rows.append(cut_at_end(list(answer), special.eos) or [special.eos[0]])
    return rows


def cut_at_end(ids: list[int], eos: Collection[int]) -> list[int]:
    """Up to and including the first end-of-sequence token: what follows is padding, which may be the same token.

    Args:
        ids (`list[int]`): of an answer.
        eos (`Collection[int]`): the tokens that end it.
    """
    end = next((place for place, token in enumerate(ids) if token in eos), len(ids) - 1)
    return ids[: end + 1]


def pad_rows(rows: Sequence[Sequence[int]], pad: int, side: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of ids as one tensor and the mask of what is not padding.

    Args:
        rows (`Sequence[Sequence[int]]`): ids.
        pad (`int`): fills up.
        side (`str`): `"left"` for generation, `"right"` for a pass over finished text, where causal attention keeps the
            padding out of every state whatever the model does with positions.
        device (`torch.device`): of the result.
    """
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[number, place] = torch.tensor(row, dtype=torch.long)
        mask[number, place] = 1
    return ids.to(device), mask.to(device)


def draw_answers(
    model: nn.Module, prompts: Sequence[Sequence[int]], special: SpecialTokens, num_samples: int, **options: Any
) -> list[list[list[int]]]:
    """Answers of every prompt, `num_samples` each, as token ids with their end.

    Args:
        model (`nn.Module`): a model with `generate`.
        prompts (`Sequence[Sequence[int]]`): ids.
        special (`SpecialTokens`): of the model.
        num_samples (`int`): answers per prompt.
        options (`Any`): for `generate`.
    """
    ids, mask = pad_rows(prompts, special.pad, "left", next(model.parameters()).device)
    options.setdefault("eos_token_id", list(special.eos))
    options.setdefault("pad_token_id", special.pad)
    output = model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=mask, num_return_sequences=num_samples, **options
    )
    output = output if isinstance(output, Tensor) else output.sequences
    answers = [cut_at_end(row, special.eos) for row in output[:, ids.shape[1] :].tolist()]
    return [answers[start : start + num_samples] for start in range(0, len(answers), num_samples)]
