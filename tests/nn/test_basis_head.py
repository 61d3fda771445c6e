# SPDX-License-Identifier: Apache-2.0
"""The algebra of the head for every relation of the three sizes, its Procrustes start, and its folded forms."""

import warnings

import pytest
import torch
from torch.nn import functional as F

from eigenhub.linalg import procrustes
from eigenhub.nn import BasisTransformationHead, FoldedHead, check_vectors, procrustes_bases


# n, m, k: general, nothing added, everything added, no extra part, new shorter than old, scalars
SIZES = [(16, 12, 4), (16, 12, 0), (16, 12, 12), (8, 12, 4), (10, 12, 5), (8, 8, 0), (6, 12, 12), (1, 1, 0), (1, 1, 1)]
every_size = pytest.mark.parametrize(("n", "m", "k"), SIZES, ids=str)


def made(n: int, m: int, k: int, seed: int = 0, **options: object) -> BasisTransformationHead:
    """A head whose rotations are not the identity."""
    torch.manual_seed(seed)
    head = BasisTransformationHead(20, n, m, k, **options)
    with torch.no_grad():
        for basis in (head.new_basis, head.compat_basis):
            basis.skew.copy_(torch.randn(basis.skew.shape))
    return head


def teachers(n: int, m: int, rows: int = 400, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of two models that see the same things, the old one with noise."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, max(n, m), generator=generator) * torch.linspace(2, 0.3, max(n, m))
    turn = torch.linalg.qr(torch.randn(max(n, m), max(n, m), generator=generator)).Q
    old = (shared @ turn)[:, :m] + 0.3 * torch.randn(rows, m, generator=generator)
    return F.normalize(shared[:, :n], dim=-1), F.normalize(old, dim=-1)


@every_size
@pytest.mark.parametrize("added", ["normalized", "linear"])
def test_inner_products_do_not_see_the_bases(n, m, k, added):
    head, h = made(n, m, k, added=added), torch.randn(9, 20)
    f, e = head.project(h)
    z = head.transform(f, e)
    expected = e @ e.mT + 4 * f @ f.mT
    torch.testing.assert_close(z @ z.mT, expected, rtol=0, atol=1e-5)
    output = head(h)
    torch.testing.assert_close(output.new.norm(dim=-1), torch.ones(9), rtol=0, atol=1e-6)
    torch.testing.assert_close(output.embedding, F.normalize(z, dim=-1), rtol=0, atol=1e-6)
    assert torch.equal(output.compat, output.embedding[:, :m])
    assert output.embedding.shape == (9, n + k) and head.embedding_dim == n + k


@every_size
def test_lengths_and_bounds(n, m, k):
    head, h, scale = made(n, m, k), torch.randn(50, 20), 2.0
    f, e = head.project(h)
    length = (1 + scale**2) ** 0.5 if k else scale
    torch.testing.assert_close(head.transform(f, e).norm(dim=-1), torch.full((50,), length), rtol=1e-5, atol=0)
    share = head(h).compat.norm(dim=-1)
    if k:
        front = (f @ head.new_basis.matrix().mT)[:, : m - k]
        expected = ((1 + scale**2 * front.square().sum(-1)) / (1 + scale**2)).sqrt()
        torch.testing.assert_close(share, expected, rtol=1e-4, atol=1e-5)
        difference = (head(h).embedding @ head(h).embedding.mT - f @ f.mT).abs().max()
        assert difference <= 2 / (1 + scale**2) + 1e-5
    if k == m:
        torch.testing.assert_close(share, torch.full((50,), 1 / length), rtol=1e-4, atol=0)
    if m == n + k:
        torch.testing.assert_close(share, torch.ones(50), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_scale_weighs_the_new_teacher(scale):
    head, h = made(16, 12, 4, scale=scale), torch.randn(6, 20)
    f, e = head.project(h)
    expected = (e @ e.mT + scale**2 * f @ f.mT) / (1 + scale**2)
    torch.testing.assert_close(head(h).embedding @ head(h).embedding.mT, expected, rtol=0, atol=1e-5)


def test_truncated_queries_are_padded_galleries():
    """One inner-product index serves both generations, and no scaling of a query changes a ranking."""
    head = made(16, 12, 4)
    queries = head(torch.randn(7, 20))
    old = F.normalize(torch.randn(30, 12), dim=-1)
    padded = F.pad(old, (0, 4 + 16 - 12))
    scores = queries.embedding @ padded.mT
    torch.testing.assert_close(scores, queries.compat @ old.mT, rtol=0, atol=1e-6)
    raw = head.transform(*head.project(torch.randn(7, 20)))
    for scaled in (raw, F.normalize(raw, dim=-1), 7.0 * raw, F.normalize(raw[:, :12], dim=-1)):
        assert torch.equal((scaled[:, :12] @ old.mT).argsort(), (raw[:, :12] @ old.mT).argsort())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"added_dim": -1}, "0 <= added_dim, got new_dim = 16, old_dim = 12, added_dim = -1"),
        ({"added_dim": 13}, "added_dim <= old_dim, got new_dim = 16, old_dim = 12, added_dim = 13"),
        ({"new_dim": 7, "added_dim": 4}, r"old_dim <= new_dim \+ added_dim, got new_dim = 7, old_dim = 12"),
        ({"scale": 0.0}, "0 < scale < inf, got 0"),
        ({"scale": float("nan")}, "0 < scale < inf, got nan"),
        ({"old_dim": 0}, "`new_dim` and `old_dim` must be at least 1"),
        ({"added": "none"}, "`added` must be one of normalized, linear; got 'none'"),
        ({"new_proj": False}, "without `new_proj`, `in_features` must be new_dim = 16, got 20"),
        ({"rank": 7}, "`rank` must be between 1 and d // 2 = 6, got 7"),
    ],
)
def test_impossible_sizes_name_the_inequality(options, message):
    with pytest.raises(ValueError, match=message):
        BasisTransformationHead(**({"in_features": 20, "new_dim": 16, "old_dim": 12, "added_dim": 4} | options))


@every_size
@pytest.mark.parametrize("added", ["normalized", "linear"])
@pytest.mark.parametrize("new_proj", [True, False])
def test_folded_is_unfolded(n, m, k, added, new_proj):
    head = BasisTransformationHead(20 if new_proj else n, n, m, k, added=added, new_proj=new_proj)
    h = torch.randn(9, head.in_features)
    t1, t2 = head.fold()
    assert t1.shape == (n + k, k) and t2.shape == (n + k, n)
    whole = torch.cat([t1, t2], dim=1)
    torch.testing.assert_close(whole @ whole.mT, torch.eye(n + k), rtol=0, atol=1e-5)
    f, e = head.project(h)
    torch.testing.assert_close(e @ t1.mT + 2 * f @ t2.mT, head.transform(f, e), rtol=0, atol=1e-5)
    for found, expected in zip(FoldedHead(head)(h), head(h), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    if added == "linear" or not k:
        matrix = head.folded_matrix()
        assert matrix.shape == (n + k, n)
        torch.testing.assert_close(F.normalize(f @ matrix.mT, dim=-1), head(h).embedding, rtol=0, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="one matrix needs `added='linear'` or `added_dim=0`, got 'normalized'"):
            head.folded_matrix()


def test_a_folded_head_may_be_rounded():
    head, h = made(16, 12, 4), torch.randn(9, 20)
    half = FoldedHead(head).to(torch.bfloat16)
    assert half(h).embedding.dtype == torch.bfloat16
    torch.testing.assert_close(half(h).embedding.float(), head(h).embedding, rtol=0, atol=2e-2)


def test_a_folded_head_needs_no_solver():
    exported = torch.export.export(FoldedHead(made(16, 12, 4)).eval(), (torch.randn(3, 20),))
    names = {str(node.target) for node in exported.graph.nodes}
    assert not any("solve" in name or "linalg_lu" in name for name in names)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_features_are_computed_in_float32(dtype):
    head, h = made(16, 12, 4), torch.randn(9, 20).to(dtype)
    expected = head(h.float()).embedding
    assert torch.equal(head(h).embedding, expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(h).embedding, expected)
    half = made(16, 12, 4).to(dtype)(h)
    assert half.embedding.dtype == torch.float32
    torch.testing.assert_close(half.embedding, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize(("n", "m"), [(16, 16), (16, 12)])
def test_nothing_added_starts_as_procrustes(n, m):
    new, old = teachers(n, m)
    head = BasisTransformationHead(n, n, m, 0, new_proj=False).procrustes_init_(new, old)
    expected = new @ procrustes(new, old)
    torch.testing.assert_close(head(new).compat, expected, rtol=0, atol=1e-6)
    best = (expected * old).sum()
    for seed in range(200):
        turn = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed))).Q
        assert ((new @ turn[:, :m]) * old).sum() < best


@pytest.mark.parametrize(("n", "m", "k"), [(16, 12, 4), (16, 12, 12), (16, 16, 6), (12, 16, 6), (12, 16, 16)])
def test_linear_added_part_starts_as_procrustes(n, m, k):
    """New/old scores of the first step are those of the whole map, whatever k is."""
    new, old = teachers(n, m)
    head = BasisTransformationHead(n, n, m, k, added="linear", new_proj=False)
    if n < m:  # rows without a counterpart in the new space keep their random start
        torch.nn.init.zeros_(head.added_projection.weight)
    head.procrustes_init_(new, old)
    compat = F.normalize(head(new).compat, dim=-1)
    torch.testing.assert_close(compat, F.normalize(new @ procrustes(new, old), dim=-1), rtol=0, atol=1e-5)


def test_normalised_added_part_starts_on_the_weakest_shared_directions():
    new, old = teachers(16, 12)
    head = BasisTransformationHead(20, 16, 12, 4)
    features = new @ torch.randn(16, 20)
    with torch.no_grad():
        head.new_projection.weight.copy_(torch.linalg.lstsq(features, new).solution.mT)
        head.new_projection.bias.zero_()
    head.procrustes_init_(new, old)
    u = torch.linalg.svd(new.mT @ old, full_matrices=True).U
    f, e = head.project(features)
    torch.testing.assert_close(e.abs(), F.normalize(f @ u[:, 8:12], dim=-1).abs(), rtol=0, atol=1e-3)
    score = (F.normalize(head(features).compat, dim=-1) * old).sum(-1).mean()
    torch.manual_seed(1)
    random = (F.normalize(BasisTransformationHead(20, 16, 12, 4)(features).compat, dim=-1) * old).sum(-1).mean()
    assert score > random + 0.3


def test_procrustes_start_from_summed_statistics():
    """The statistics are a sum, so shards of the data may be added up."""
    new, old = (vectors.double() for vectors in teachers(16, 12))
    whole = procrustes_bases(new.mT @ old, 4)
    parts = procrustes_bases(new[:100].mT @ old[:100] + new[100:].mT @ old[100:], 4)
    for bases in (whole, parts):  # single vectors may differ in sign
        start = bases.new[:8].mT @ bases.compat[:, 4:].mT + bases.added.mT @ bases.compat[:, :4].mT
        torch.testing.assert_close(start, procrustes(new, old), rtol=0, atol=1e-10)
    assert whole.added.shape == (4, 16)


def test_start_refuses_what_it_cannot_use():
    head = BasisTransformationHead(16, 16, 12, 4, new_proj=False)
    new, old = teachers(16, 12)
    with pytest.raises(ValueError, match=r"`new` must have shape \(rows, 16\), got \(400, 12\)"):
        head.procrustes_init_(old, old)
    with pytest.raises(ValueError, match="same inputs, got 400 and 399 rows"):
        head.procrustes_init_(new, old[1:])
    broken = old.clone()
    broken[[3, 7]] = float("nan")
    with pytest.raises(ValueError, match="`old` has 2 rows that are not finite: 3, 7"):
        head.procrustes_init_(new, broken)
    broken = new.clone()
    broken[5] = 0
    with pytest.raises(ValueError, match="`new` has 1 rows that are zero: 5"):
        head.procrustes_init_(broken, old)
    with pytest.warns(UserWarning, match="23 pairs for old_dim = 12: below 24 the Procrustes rotation is arbitrary"):
        head.procrustes_init_(new[:23], old[:23])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head.procrustes_init_(new[:24], old[:24])


def test_long_lists_of_bad_rows_are_cut():
    with pytest.raises(ValueError, match=r"`vectors` has 12 rows that are zero: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\."):
        check_vectors("vectors", torch.zeros(12, 3))


def test_unused_basis_is_frozen():
    """With k = m no rotated coordinate of f is compared with anything, and DDP would wait for its gradient."""
    assert not BasisTransformationHead(20, 16, 12, 12).new_basis.skew.requires_grad
    assert BasisTransformationHead(20, 16, 12, 11).new_basis.skew.requires_grad
