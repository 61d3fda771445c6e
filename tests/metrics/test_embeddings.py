# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings do not see padding."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.metrics import sentence_embedding
from eigenhub.metrics.embeddings import TOKENS


STATES = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
BY_HAND = {"last": STATES[4], "mean": STATES.mean(0), "mean_last": (STATES.mean(0) + STATES[4]) / 2}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("right", [0, 2])
@pytest.mark.parametrize("length", [5, 1])
def test_padding_on_either_side_has_no_influence(token, left, right, length):
    states, expected = STATES[5 - length :], BY_HAND if length == 5 else dict.fromkeys(TOKENS, STATES[4])
    padded = torch.full((1, left + length + right, 8), float("nan"))
    padded[0, left : left + length] = states
    mask = torch.zeros(1, left + length + right, dtype=torch.long)
    mask[0, left : left + length] = 1
    assert_close(sentence_embedding(padded, mask, token)[0], expected[token])


def test_half_precision_is_averaged_in_float32():
    many = torch.full((1, 3000, 2), 0.1, dtype=torch.bfloat16)
    found = sentence_embedding(many, torch.ones(1, 3000), "mean")
    assert found.dtype == torch.float32
    assert_close(found, many[:, 0].float(), rtol=1e-5, atol=0)
    assert sentence_embedding(STATES[None].double(), torch.ones(1, 5)).dtype == torch.float64


@pytest.mark.parametrize(
    ("states", "mask", "token", "said"),
    [
        (STATES[None], torch.ones(1, 5), "first", "`token` must be one of last, mean, mean_last, got 'first'"),
        (STATES, torch.ones(5), "last", r"`states` must be \(b, t, d\)"),
        (STATES[None], torch.ones(1, 4), "last", r"`mask` \(b, t\), got \(1, 5, 8\) and \(1, 4\)"),
        (STATES[None].expand(2, 5, 8), torch.tensor([[1] * 5, [0] * 5]), "last", "row 1 has none"),
    ],
)
def test_bad_input(states, mask, token, said):
    with pytest.raises(ValueError, match=said):
        sentence_embedding(states, mask, token)
