# SPDX-License-Identifier: Apache-2.0
"""Each loss against its plain formula, and which parameters each one moves."""

import math
import warnings

import pytest
import torch
from torch.nn import functional as F

from eigenhub.nn import (
    PAPER_WEIGHTS,
    BasisTransformationHead,
    ClassPrototypes,
    class_prototypes,
    compat_losses,
    contrastive_influence_loss,
    influence_loss,
    new_teacher_loss,
    old_match_loss,
    weighted_sum,
)


def vectors(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def log_softmax(scores: list[float], place: int) -> float:
    return scores[place] - math.log(sum(math.exp(score) for score in scores))


def test_distances_are_mean_cosine_distances():
    x, y = vectors(5, 7), vectors(5, 7, seed=1)
    expected = sum(1 - cosine(a, b) for a, b in zip(x, y, strict=True)) / 5
    for loss in (new_teacher_loss, old_match_loss):
        assert loss(x, y).item() == pytest.approx(expected)
        assert loss(3 * x, 0.1 * y).item() == pytest.approx(expected)
    assert new_teacher_loss(x, x).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match=r"`teacher` must have shape \(5, 7\), got \(5, 6\)"):
        new_teacher_loss(x, y[:, :6])
    with pytest.raises(ValueError, match=r"`old` must have shape \(5, 7\), got \(4, 7\)"):
        old_match_loss(x, y[:4])


def test_prototypes_are_means_that_are_not_normalised_again():
    old, labels = vectors(6, 4), torch.tensor([0, 2, 0, 2, 2, 0])
    with pytest.warns(
        UserWarning, match=r"1 of 3 classes have no items and are left out of the influence loss: \[1\]"
    ):
        found = class_prototypes(5 * old, labels, 3)
    unit = F.normalize(old, dim=-1)
    torch.testing.assert_close(found.vectors[0], unit[labels == 0].mean(0).float())
    torch.testing.assert_close(found.vectors[2], unit[labels == 2].mean(0).float())
    assert found.vectors[0].norm() < 1 and not found.vectors[1].any()
    assert found.present.tolist() == [True, False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_prototypes(old, torch.tensor([0, 1, 0, 1, 1, 0]), 2)


def test_prototypes_refuse_labels_they_have_no_row_for():
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 3\), got 0 to 3"):
        class_prototypes(vectors(2, 4), torch.tensor([0, 3]), 3)
    with pytest.raises(ValueError, match="one row per item, got 2 and 1"):
        class_prototypes(vectors(2, 4), torch.tensor([0]), 3)


def test_influence_is_cross_entropy_on_class_means():
    compat, means, labels = vectors(4, 5), 0.7 * F.normalize(vectors(3, 5, seed=1), dim=-1), torch.tensor([2, 0, 1, 1])
    unit = F.normalize(compat, dim=-1)
    expected = -sum(log_softmax([float(u @ m) for m in means], int(y)) for u, y in zip(unit, labels, strict=True))
    assert influence_loss(compat, means, labels).item() == pytest.approx(expected / 4)
    assert influence_loss(compat, means, labels, torch.ones(3).bool()).item() == pytest.approx(expected / 4)


def test_influence_leaves_missing_classes_out_of_the_softmax():
    compat, means = vectors(4, 5), F.normalize(vectors(3, 5, seed=1), dim=-1)
    present = torch.tensor([True, False, True])
    compat.requires_grad_()
    found = influence_loss(compat, means, torch.tensor([2, 0, 1, 0]), present)
    rest = influence_loss(compat[[0, 1, 3]], means[[0, 2]], torch.tensor([1, 0, 0]))
    torch.testing.assert_close(found, rest)
    (gradient,) = torch.autograd.grad(found, compat)
    assert torch.isfinite(gradient).all() and not gradient[2].any()
    nothing = influence_loss(compat, means, torch.tensor([1, 1, 1, 1]), present)
    assert nothing.item() == 0 and torch.isfinite(torch.autograd.grad(nothing, compat)[0]).all()


def test_contrastive_influence_is_info_nce_against_old_documents():
    compat, documents = vectors(3, 5), vectors(4, 5, seed=1)
    expected = -sum(log_softmax([7 * cosine(b, d) for d in documents], i) for i, b in enumerate(compat)) / 3
    assert contrastive_influence_loss(compat, documents, 7.0).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="a row per query, got 2 for 3 queries"):
        contrastive_influence_loss(compat, documents[:2])


def test_terms_come_by_name_and_add_up():
    head = BasisTransformationHead(20, 16, 12, 4)
    output = head(torch.randn(6, 20))
    new, old, labels = vectors(6, 16), vectors(6, 12), torch.tensor([0, 1, 2, 0, 1, 2])
    prototypes = class_prototypes(old, labels, 3)
    terms = compat_losses(output, new, old, labels, prototypes)
    assert list(terms) == ["new_teacher", "influence", "old_match"]
    torch.testing.assert_close(terms["new_teacher"], new_teacher_loss(output.new, new))
    torch.testing.assert_close(terms["influence"], influence_loss(output.compat, *prototypes[:1], labels))
    torch.testing.assert_close(terms["old_match"], old_match_loss(output.compat, old))
    total = terms["new_teacher"] + 10 * terms["influence"] + 5 * terms["old_match"]
    torch.testing.assert_close(weighted_sum(terms, PAPER_WEIGHTS), total)
    assert list(compat_losses(output, labels=labels)) == []
    assert list(compat_losses(output, old=old)) == ["old_match"]
    contrastive = compat_losses(output, labels=labels, prototypes=prototypes, documents=old)
    torch.testing.assert_close(contrastive["influence"], contrastive_influence_loss(output.compat, old))


def gradients(head: BasisTransformationHead, features: torch.Tensor, term: str) -> dict[str, torch.Tensor]:
    """Gradients of one term; parameters that it does not reach have none."""
    labels = torch.arange(len(features)) % 3
    old, new = vectors(len(features), head.old_dim, seed=2), vectors(len(features), head.new_dim, seed=3)
    loss = compat_losses(head(features), new, old, labels, class_prototypes(old, labels, 3))[term]
    named = dict(head.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}


def test_new_teacher_does_not_move_the_bases_or_the_added_part():
    head = BasisTransformationHead(20, 16, 12, 4)
    assert set(gradients(head, torch.randn(6, 20), "new_teacher")) == {"new_projection.weight", "new_projection.bias"}


@pytest.mark.parametrize("term", ["influence", "old_match"])
def test_compatible_terms_move_everything(term):
    head = BasisTransformationHead(20, 16, 12, 4)
    found = gradients(head, torch.randn(6, 20), term)
    assert found.keys() == dict(head.named_parameters()).keys()
    assert all(gradient.abs().max() > 0 for gradient in found.values())


@pytest.mark.parametrize("term", ["influence", "old_match"])
def test_compatible_terms_do_not_see_how_the_extra_part_is_turned(term):
    """Rows m - k .. n of P may be rotated among themselves: no old vector is ever compared with them."""
    head, features = BasisTransformationHead(20, 16, 12, 4), torch.randn(6, 20)
    labels, old = torch.arange(6) % 3, vectors(6, 12)
    prototypes = class_prototypes(old, labels, 3)
    before = head(features)
    turn = torch.block_diag(torch.eye(8), torch.linalg.qr(torch.randn(8, 8)).Q)
    head.new_basis.set_base(turn @ head.new_basis.base)
    after = head(features)
    assert not torch.allclose(after.embedding, before.embedding, atol=1e-2)
    losses = [compat_losses(output, None, old, labels, prototypes)[term] for output in (before, after)]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)


def test_losses_of_half_precision_prototypes_follow_the_embedding():
    compat = vectors(3, 5).float()
    prototypes = ClassPrototypes(vectors(2, 5, seed=1).bfloat16(), torch.ones(2).bool())
    assert influence_loss(compat, prototypes.vectors, torch.tensor([0, 1, 1])).dtype == torch.float32
