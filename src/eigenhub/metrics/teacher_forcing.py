# SPDX-License-Identifier: Apache-2.0
"""Finished answers in a forward pass: the embedding of each and the probabilities of its tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics.answer_statistics import token_statistics
from eigenhub.metrics.answers import pad_rows
from eigenhub.metrics.embeddings import sentence_embedding
from eigenhub.metrics.hidden_states import forward_with_states, takes
from eigenhub.metrics.prompt_cache import positions_of, repeated_prompts


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
    """One pass over the answers, behind one over the prompts if the model can go on from there; else one over both."""
    device = next(model.parameters()).device
    prompts = list(dict.fromkeys(tuple(prompt) for prompt, _ in pairs))
    place = {prompt: number for number, prompt in enumerate(prompts)}
    shared = repeated_prompts(model, prompts, [place[tuple(prompt)] for prompt, _ in pairs], pad)
    leads = [prompt if shared is None else prompt[-1:] for prompt, _ in pairs]
    rows = [lead + answer for lead, (_, answer) in zip(leads, pairs, strict=True)]
    ids, mask = pad_rows(rows, pad, "right", device)  # nothing depends on what is to the right
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if shared is not None:
        whole = torch.cat([shared[1], mask], dim=1)
        inputs |= {"attention_mask": whole, "past_key_values": shared[0]}
        inputs |= positions_of(model, whole, ids.shape[1])
    if takes(model, "logits_to_keep"):  # those before the shortest lead's last token predict no answer
        inputs["logits_to_keep"] = ids.shape[1] - (min(map(len, leads)) - 1)
    logits, states = forward_with_states(model, inputs, index)
    left_out = ids.shape[1] - logits.shape[1]
    answer_mask = torch.zeros_like(mask, dtype=torch.bool)
    statistics = []
    for row, (lead, (_, answer)) in enumerate(zip(leads, pairs, strict=True)):
        where = slice(len(lead), len(lead) + len(answer))
        answer_mask[row, where] = True
        before = slice(where.start - 1 - left_out, where.stop - 1 - left_out)  # each token is predicted one earlier
        statistics.append(token_statistics(logits[row, before], ids[row, where].to(logits.device)))
    return sentence_embedding(states, answer_mask, token), statistics
