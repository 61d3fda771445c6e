# SPDX-License-Identifier: Apache-2.0
"""Blocks of rows: whatever the layout in memory, the same numbers."""

import pytest
import torch

from eigenhub.optim import blocks
from eigenhub.optim.blocks import add_rows_, block_budget, contiguous_rows, reordered, row_norms, row_pieces


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 700)


def layouts():
    """The same 23 x 9 matrices: rows in memory, columns in memory, a slice of columns, every second row, one row."""
    base = torch.randn(3, 23, 9)
    wide = torch.randn(3, 9, 40)
    yield base
    yield base.mT.contiguous().mT
    yield wide[:, :, 5:28].mT
    yield torch.randn(3, 46, 9)[:, ::2]
    yield base[:, :1].mT.contiguous().mT
    yield base[:, :0]


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_layout_gives_the_same_numbers(case, dtype):
    rows = list(layouts())[case].to(dtype)
    plain = rows.clone(memory_format=torch.contiguous_format)
    made = contiguous_rows(rows)
    assert made.is_contiguous() and made.equal(plain)
    assert contiguous_rows(rows[0]).is_contiguous() and contiguous_rows(rows[0]).equal(plain[0])
    order = torch.randperm(9)
    chosen = reordered(rows[0], order)
    assert chosen.is_contiguous() and chosen.equal(plain[0][:, order])
    norms = row_norms(rows, torch.float32, 10**6)
    assert norms.equal(torch.linalg.vector_norm(plain, dim=-1, dtype=torch.float32))
    total = torch.randn(rows.shape)
    expected = total + -0.5 * plain
    assert add_rows_(total, rows, 10**6, alpha=-0.5) is total and total.equal(expected)


def test_pieces_cover_all_rows_once_within_the_budget():
    assert [(p.start, p.stop) for p in row_pieces(7, 10, 30)] == [(0, 3), (3, 6), (6, 7)]
    assert [(p.start, p.stop) for p in row_pieces(0, 10, 30)] == [(0, 0)]
    assert len(list(row_pieces(4, 100, 1))) == 4
    assert block_budget(10**6, torch.device("cpu")) == 700 and block_budget(5, torch.device("cpu")) == 5
    assert block_budget(10**6, torch.device("cuda")) == 10**6
