# SPDX-License-Identifier: Apache-2.0
"""Finished answers in one forward pass: the embedding of each and the probabilities of its tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics.answer_statistics import token_statistics
from eigenhub.metrics.answers import pad_rows
from eigenhub.metrics.embeddings import sentence_embedding
from eigenhub.metrics.hidden_states import forward_with_states, takes_logits_to_keep


def read_answers(
    model: nn.Module, pairs: Sequence[tuple[list[int], list[int]]], pad: int, index: int, token: str
) -> tuple[Tensor, list[tuple[float, float]]]:
    """Reads prompts with their answers, each different pair once: at low temperatures most answers are copies.

    Args:
        model (`nn.Module`): in eval mode.
        pairs (`Sequence[tuple[list[int], list[int]]]`): ids of prompt and answer, one or more each.
        pad (`int`): fills up.
        index (`int`): hidden state.
        token (`str`): see [`sentence_embedding`][eigenhub.metrics.sentence_embedding].

    Returns:
        embeddings of the answers `(n, d)`; log-probability and mean token entropy of each.
    """
    keys = [(tuple(prompt), tuple(answer)) for prompt, answer in pairs]
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    different = [(list(prompt), list(answer)) for prompt, answer in place]
    embeddings, statistics = _read_each(model, different, pad, index, token)
    order = [place[key] for key in keys]
    return embeddings[order], [statistics[number] for number in order]


def _read_each(
    model: nn.Module, pairs: Sequence[tuple[list[int], list[int]]], pad: int, index: int, token: str
) -> tuple[Tensor, list[tuple[float, float]]]:
    """One pass. Padding is on the right, so nothing depends on the rest of the batch."""
    device = next(model.parameters()).device
    ids, mask = pad_rows([prompt + answer for prompt, answer in pairs], pad, "right", device)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if takes_logits_to_keep(model):  # those before the shortest prompt's last token predict no answer
        inputs["logits_to_keep"] = ids.shape[1] - (min(len(prompt) for prompt, _ in pairs) - 1)
    logits, states = forward_with_states(model, inputs, index)
    left_out = ids.shape[1] - logits.shape[1]
    answer_mask = torch.zeros_like(mask, dtype=torch.bool)
    statistics = []
    for row, (prompt, answer) in enumerate(pairs):
        place = slice(len(prompt), len(prompt) + len(answer))
        answer_mask[row, place] = True
        before = slice(place.start - 1 - left_out, place.stop - 1 - left_out)  # each token is predicted one earlier
        statistics.append(token_statistics(logits[row, before], ids[row, place].to(logits.device)))
    return sentence_embedding(states, answer_mask, token), statistics
