# SPDX-License-Identifier: Apache-2.0
"""What defines each module and loss of `eigenhub.nn`, for any size, layout and precision."""

import copy

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from eigenhub.linalg import gram_defect, orthonormalize
from eigenhub.nn import (
    BasisTransformationHead,
    FoldedHead,
    HouseholderFrame,
    LowRankOrthogonal,
    OrthogonalTransform,
    apply_householder_projector,
    class_prototypes,
    contrastive_influence_loss,
    influence_loss,
    new_teacher_loss,
    old_match_loss,
    procrustes_bases,
    projector_factors,
    remove_householder_projector,
)
from tests.reliability.properties import FEW, FLOATS, HALVES, MANY, SEEDS, assert_near, check, gaussian, tolerance


SIZES = st.integers(1, 17)
FORMS = st.sampled_from(["thin", "dense"])


def moved_transform(d, rank, map, seed):
    """A transform with a rotation that is not the identity."""
    torch.manual_seed(seed)
    transform = OrthogonalTransform(d, rank, map)
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return transform


def a_transform_is_its_orthogonal_matrix(d, rank, rows, seed):
    rank = None if rank is None or 2 * rank > d else rank
    transform = moved_transform(d, rank, "cayley", seed)
    x, atol = gaussian(rows, d, seed=seed, dtype=torch.float32), tolerance(torch.float32, d, 200)
    matrix = transform.matrix()
    assert gram_defect(matrix).abs().max() < atol
    assert_near(transform(x), x.double() @ matrix.double().mT, atol)
    assert_near(transform(x.view(1, rows, d)), transform(x)[None], atol)
    before = matrix.detach().clone()
    transform.rebase_()
    assert_near(transform.matrix(), before, atol)
    assert transform.skew_norm() == 0


def a_transform_keeps_the_dtype_of_half_inputs(d, dtype, seed):
    transform = moved_transform(d, None, "cayley", seed)
    x = gaussian(3, d, seed=seed, dtype=dtype)
    found = transform(x)
    assert found.dtype == dtype
    assert_near(found, transform(x.float()), 8 * torch.finfo(dtype).eps * (1 + x.abs().max().item() * d**0.5))


def a_transform_has_the_gradient_of_float64(d, seed):
    transform = moved_transform(d, None, "cayley", seed)
    wide = copy.deepcopy(transform).double()
    x, weight = gaussian(2, d, seed=seed), gaussian(2, d, seed=seed + 1)
    (transform(x.float()) * weight.float()).sum().backward()
    (wide(x) * weight).sum().backward()
    assert_near(transform.skew.grad, wide.skew.grad, tolerance(torch.float32, d, 500))


def a_frame_comes_back_from_its_vectors(d, r, form, dtype, seed):
    r = min(r, d)
    module = HouseholderFrame(d, r, form)
    frame = orthonormalize(gaussian(d, r, seed=seed)).to(dtype)
    found = module(module.right_inverse(frame))
    assert found.dtype == dtype
    assert_near(found, frame, tolerance(dtype, d, 300))
    drawn = module(module.random_vectors(torch.Generator().manual_seed(seed)))
    assert gram_defect(drawn).abs().max() < tolerance(torch.float32, d, 100)


def a_projector_is_the_product_of_its_frames(d_out, d_in, rank, form, seed):
    rank = min(rank, d_out, d_in)
    map = LowRankOrthogonal(d_out, d_in, rank, parameterization=form)
    weight = gaussian(d_out, d_in, seed=seed)
    arguments = map.right_inverse(weight)
    u, values, v = map.factors(*arguments)
    found, atol = map(*arguments), tolerance(torch.float32, d_out + d_in, 300) * (1 + map.gain.item())
    assert_near(found, (u * values) @ v.mT, atol)
    expected = torch.zeros(min(d_out, d_in), dtype=torch.float64)
    expected[:rank] = map.gain.double()
    assert_near(torch.linalg.svdvals(found), expected, atol)


def a_projector_is_put_on_and_taken_off(d_out, d_in, rank, seed):
    torch.manual_seed(seed)
    rank = min(rank, d_out, d_in)
    model = nn.Sequential(nn.Linear(d_in, d_out))
    apply_householder_projector(model, ["0"], rank=rank)
    weight, (u, values, v) = model[0].weight.detach().clone(), projector_factors(model[0])
    atol = tolerance(torch.float32, d_out + d_in, 300) * (1 + values.max().item())
    assert_near((u * values) @ v.mT, weight, atol)
    remove_householder_projector(model)
    assert_near(model[0].weight, weight, atol)
    assert not hasattr(model[0], "parametrizations")


def a_head_folds_into_one_change_of_basis(new, old, added, kind, seed):
    old = min(old, new)
    torch.manual_seed(seed)
    head = BasisTransformationHead(new + 2, new, old, added, added=kind, new_proj=True)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    h, atol = gaussian(4, new + 2, seed=seed, dtype=torch.float32), tolerance(torch.float32, new + added, 500)
    output = head(h)
    assert_near(output.embedding.norm(dim=-1), torch.ones(4), atol)
    assert torch.equal(output.compat, output.embedding[..., :old])
    folded = head.fold()
    assert gram_defect(torch.cat(folded, dim=1)).abs().max() < atol
    assert_near(FoldedHead(head)(h).embedding, output.embedding, atol)
    assert_near(head(h[None]).embedding, output.embedding[None], atol)


def bases_of_a_cross_product_are_orthogonal(new, old, added, seed):
    old, added = min(old, new), min(added, min(old, new))
    bases = procrustes_bases(gaussian(new, old, seed=seed), added)
    assert gram_defect(bases.new).abs().max() < 1e-9 and gram_defect(bases.compat).abs().max() < 1e-9


def losses_are_cosines_and_blind_to_length(batch, dim, classes, seed):
    x, y = gaussian(batch, dim, seed=seed), gaussian(batch, dim, seed=seed + 1)
    unit = nn.functional.normalize(x, dim=-1)
    assert_near(old_match_loss(unit, unit), torch.zeros(()), 1e-12)
    assert_near(old_match_loss(3 * x, 5 * y), old_match_loss(x, y), 1e-12)
    assert_near(new_teacher_loss(unit, unit), torch.zeros(()), 1e-12)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(batch) % classes
    present = classes <= batch
    if present:
        prototypes = class_prototypes(y, labels, classes).vectors
        expected = torch.stack([nn.functional.normalize(y, dim=-1)[labels == c].mean(0) for c in range(classes)])
        assert_near(prototypes, expected, 1e-6)
        shuffled = influence_loss(7 * x[order], prototypes, labels[order])
        assert_near(shuffled, influence_loss(x, prototypes, labels), 1e-9)
    more = torch.cat([y, y])
    assert contrastive_influence_loss(x, more) >= contrastive_influence_loss(x, y) - 1e-12


PROPERTIES = [
    (a_transform_is_its_orthogonal_matrix, dict(d=SIZES, rank=st.none() | st.integers(1, 3), rows=st.integers(0, 30))),
    (a_transform_keeps_the_dtype_of_half_inputs, dict(d=SIZES, dtype=HALVES)),
    (a_transform_has_the_gradient_of_float64, dict(d=st.integers(2, 17))),
    (a_frame_comes_back_from_its_vectors, dict(d=SIZES, r=SIZES, form=FORMS, dtype=FLOATS)),
    (a_projector_is_the_product_of_its_frames, dict(d_out=SIZES, d_in=SIZES, rank=SIZES, form=FORMS)),
    (a_projector_is_put_on_and_taken_off, dict(d_out=SIZES, d_in=SIZES, rank=SIZES)),
    (
        a_head_folds_into_one_change_of_basis,
        dict(
            new=st.integers(2, 12), old=SIZES, added=st.integers(0, 3), kind=st.sampled_from(["linear", "normalized"])
        ),
    ),
    (bases_of_a_cross_product_are_orthogonal, dict(new=SIZES, old=SIZES, added=st.integers(0, 4))),
    (losses_are_cosines_and_blind_to_length, dict(batch=SIZES, dim=SIZES, classes=st.integers(1, 5))),
]


@pytest.mark.parametrize(("statement", "strategies"), PROPERTIES, ids=lambda value: getattr(value, "__name__", ""))
def test_holds(statement, strategies):
    check(statement, strategies | {"seed": SEEDS}, FEW)


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "strategies"), PROPERTIES, ids=lambda value: getattr(value, "__name__", ""))
def test_holds_on_many(statement, strategies):
    check(statement, strategies | {"seed": SEEDS}, MANY)
