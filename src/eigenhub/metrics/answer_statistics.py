# SPDX-License-Identifier: Apache-2.0
"""What else the answers and their probabilities say: the baselines that cost nothing beside EigenScore."""

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import combinations

import torch
from torch import Tensor


def token_statistics(logits: Tensor, ids: Tensor) -> tuple[float, float]:
    """Log-probability of an answer and the mean entropy of the distributions that its tokens were drawn from.

    At temperature 1 and without truncation, whatever the sampling was.

    Args:
        logits (`Tensor` of shape `(t, vocabulary)`): that predict the tokens; half precision is computed in float32.
        ids (`Tensor` of shape `(t,)`): the tokens.

    Returns:
        natural logarithm of the probability, and nats per token.
    """
    log_probs, entropies = each_token_statistics(logits, ids)
    return float(log_probs.sum()), float(entropies.mean())


def each_token_statistics(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    r"""Log-probabilities of tokens and entropies $\ln Z - \frac1Z\sum_v e^{l_v} l_v$ of their distributions.

    Args:
        logits (`Tensor` of shape `(..., vocabulary)`): that predict the tokens; half precision is computed in float32.
        ids (`Tensor` of shape `(...)`): the tokens.

    Returns:
        two tensors of shape `(...)`, in nats.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    shifted = logits - logits.amax(-1, keepdim=True)
    chosen = shifted.gather(-1, ids[..., None])[..., 0]
    weights = shifted.exp()
    total = weights.sum(-1)
    entropies = total.log() - torch.linalg.vecdot(weights, shifted) / total
    if entropies.isnan().any():  # a token that cannot be has -inf, and 0 times that is NaN
        entropies = torch.special.entr(weights / total[..., None]).sum(-1)
    return chosen - total.log(), entropies


def length_normalized_entropy(log_probs: Sequence[float], lengths: Sequence[int]) -> float:
    r"""$-\frac1K \sum_k \frac{1}{L_k} \ln p(a_k)$, the predictive entropy per token (Malinin & Gales, 2021).

    Args:
        log_probs (`Sequence[float]`): of the answers.
        lengths (`Sequence[int]`): tokens of the answers.
    """
    return -sum(p / n for p, n in zip(log_probs, lengths, strict=True)) / len(log_probs)


def mode_share(answers: Sequence[Hashable]) -> float:
    """Share of the most frequent answer.

    Args:
        answers (`Sequence[Hashable]`): at least one.
    """
    return Counter(answers).most_common(1)[0][1] / len(answers)


def lexical_similarity(answers: Sequence[Sequence[int]]) -> float:
    """Mean Rouge-L F-measure of all pairs of answers; 1 where all are the same.

    Args:
        answers (`Sequence[Sequence[int]]`): tokens of two or more answers.
    """
    pairs = list(combinations([tuple(answer) for answer in answers], 2))
    known: dict[tuple, float] = {}
    for pair in pairs:
        if pair not in known:
            known[pair] = rouge_l(*pair)
    return sum(known[pair] for pair in pairs) / len(pairs)


def rouge_l(first: Sequence[int], second: Sequence[int]) -> float:
    """Twice the longest common subsequence by the sum of the lengths; 1 for two empty sequences.

    Args:
        first (`Sequence[int]`): tokens.
        second (`Sequence[int]`): tokens.
    """
    if first == second:
        return 1.0
    return 2 * common_subsequence(first, second) / (len(first) + len(second))


def common_subsequence(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common subsequence, a row of the table at a time as the bits of an integer (Hyyrö, 2004).

    Args:
        first (`Sequence[int]`): tokens.
        second (`Sequence[int]`): tokens.
    """
    places: dict[int, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        match = row & places.get(token, 0)
        row = (row + match | row - match) & full
    return len(first) - row.bit_count()
