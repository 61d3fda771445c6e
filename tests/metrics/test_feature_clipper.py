# SPDX-License-Identifier: Apache-2.0
"""Clipping to the quantiles of a memory bank, inside of its block only."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.metrics import FeatureClipper, decoder_blocks
from tests.metrics.language_models import ARCHITECTURES


BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 1], [8, 9, 10, 11]]),
    "attention_mask": torch.tensor([[1, 1, 1, 0], [1] * 4]),
}


def states(model, **inputs):
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True).hidden_states[-2]


@pytest.mark.parametrize("per_feature", [True, False])
def test_thresholds_are_quantiles(per_feature):
    rows = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    clipper = FeatureClipper(torch.nn.Identity(), 0.01, per_feature=per_feature)
    clipper.observe(rows[:300].view(3, 100, 6))
    clipper.observe(rows[300:])
    low, high = clipper.thresholds()
    bank = rows if per_feature else rows.flatten()
    assert_close(low, bank.quantile(0.01, dim=0))
    assert_close(high, bank.quantile(0.99, dim=0))
    assert_close(clipper.clip(10 * rows), (10 * rows).clamp(low, high))
    assert clipper.clip(rows.bfloat16()).dtype == torch.bfloat16


def test_the_bank_keeps_the_newest_tokens():
    clipper = FeatureClipper(torch.nn.Identity(), 0.0, capacity=4)
    clipper.observe(torch.arange(6.0)[:, None])
    assert clipper.bank.flatten().tolist() == [2, 3, 4, 5]
    clipper.observe(torch.tensor([[[9.0], [100.0]]]), mask=torch.tensor([[1, 0]]))
    assert [limit.item() for limit in clipper.thresholds()] == [3, 9]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_is_clipped_inside_of_the_block_only(name):
    model = ARCHITECTURES[name]()
    plain = states(model, **BATCH)  # installs the hooks that capture states
    clipper = FeatureClipper.for_model(model, quantile=0.2)
    clipper.collect(model, [BATCH])
    assert_close(clipper.bank, plain[BATCH["attention_mask"].bool()])
    low, high = clipper.thresholds()
    with clipper:
        assert torch.equal(states(model, **BATCH), plain.clamp(low, high))
        with pytest.raises(RuntimeError, match="active already"), clipper:
            pass
        with pytest.raises(RuntimeError, match="leave the `with` block"):
            clipper.collect(model, [BATCH])
    assert torch.equal(states(model, **BATCH), plain)
    hooks = decoder_blocks(model)[1]._forward_hooks
    with clipper:
        assert len(decoder_blocks(model)[1]._forward_hooks) == len(hooks)
    assert not any("clip" in getattr(hook, "__qualname__", "").lower() for hook in hooks.values())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: FeatureClipper(torch.nn.Identity(), 0.5), "`quantile` must be from 0 to below 0.5, got 0.5"),
        (lambda: FeatureClipper(torch.nn.Identity(), capacity=0), "`capacity` must be at least 1, got 0"),
        (lambda: FeatureClipper(torch.nn.Identity()).thresholds(), "the memory bank is empty"),
        (lambda: FeatureClipper(torch.nn.Identity()).__enter__(), "the memory bank is empty"),
        (lambda: FeatureClipper(torch.nn.Identity()).observe(torch.ones(2, 2) / 0), "NaN or infinite"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
