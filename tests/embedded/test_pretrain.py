# SPDX-License-Identifier: Apache-2.0
"""The small pretraining loop."""

from itertools import islice, repeat

import torch

from eigenhub.embedded.pretrain import endless_rows, fit
from tests.support.models import tiny_llama


def test_rows_cover_every_epoch_in_a_seeded_order() -> None:
    batches = list(islice(endless_rows(12, 4, seed=1), 6))
    for epoch in (batches[:3], batches[3:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(12))
    again = list(islice(endless_rows(12, 4, seed=1), 6))
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(torch.cat(batches), torch.cat(list(islice(endless_rows(12, 4, seed=2), 6))))


def test_rows_drop_the_incomplete_batch_but_not_a_small_set() -> None:
    assert [len(rows) for rows in islice(endless_rows(10, 4, seed=0), 4)] == [4, 4, 4, 4]
    assert [len(rows) for rows in islice(endless_rows(3, 4, seed=0), 2)] == [3, 3]


def test_fit_learns_and_returns_the_final_loss() -> None:
    model = tiny_llama()
    ids = torch.arange(4, 20).repeat(4, 1)
    with torch.no_grad():
        before = model(input_ids=ids, labels=ids).loss.item()
    final = fit(model, repeat({"input_ids": ids, "labels": ids}), 30, 1e-2, "test", progress=False)
    with torch.no_grad():
        after = model(input_ids=ids, labels=ids).loss.item()
    assert after < 0.5 * before
    assert after <= final < before
    assert not model.training
