# SPDX-License-Identifier: Apache-2.0
"""Frames and low-rank orthogonal weights as parametrizations, and the projector in models of other libraries."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from eigenhub.linalg import gram_defect, subspace_angles
from eigenhub.nn.householder_frame import HouseholderFrame
from eigenhub.nn.householder_projector import (
    apply_householder_projector,
    projector_factors,
    projector_of,
    remove_householder_projector,
)
from eigenhub.nn.low_rank_orthogonal import LowRankOrthogonal
from tests.support.models import tiny_vit


def gaussian(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def with_values(values: list[float], m: int, n: int) -> torch.Tensor:
    """A matrix with given singular values."""
    u = torch.linalg.qr(gaussian(m, len(values))).Q
    v = torch.linalg.qr(gaussian(n, len(values), seed=1)).Q
    return (u * torch.tensor(values, dtype=torch.float64)) @ v.mT


# ---------------------------------------------------------------- frames
@pytest.mark.parametrize("parameterization", ["thin", "dense"])
@pytest.mark.parametrize(("d", "r"), [(1, 1), (6, 6), (7, 3), (8, 3), (40, 10)])
def test_frame_round_trip_with_saved_signs(parameterization, d, r):
    frame = torch.linalg.qr(gaussian(d, r)).Q
    module = HouseholderFrame(d, r, parameterization).double()
    vectors = module.right_inverse(frame)
    assert vectors.shape == module.vectors_shape
    torch.testing.assert_close(module(vectors), frame, rtol=0, atol=1e-12)
    loaded = HouseholderFrame(d, r, parameterization).double()
    loaded.load_state_dict(module.state_dict())
    assert torch.equal(loaded(vectors), module(vectors))


@pytest.mark.parametrize("parameterization", ["thin", "dense"])
def test_any_matrix_goes_to_its_nearest_frame(parameterization):
    matrix = gaussian(9, 4)
    module = HouseholderFrame(9, 4, parameterization)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(module(module.right_inverse(matrix)), u @ vh, rtol=0, atol=1e-12)
    with pytest.warns(UserWarning, match="dependent columns"):
        module.right_inverse(matrix[:, [0, 0, 1, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frames_stay_orthonormal_in_training_and_under_autocast(dtype):
    layer = nn.Linear(5, 16, bias=False)
    register_parametrization(layer, "weight", HouseholderFrame(16, 5))
    layer.to(dtype)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.ones(2, 5, dtype=dtype)).square()[:, :3].sum().backward()
        optimizer.step()
    projector = layer.parametrizations.weight
    with torch.autocast("cpu", torch.bfloat16):
        frame = projector[0].frame(projector.original)
    assert gram_defect(frame).abs().max() < 1e-5
    assert layer.weight.dtype == dtype and (layer.weight - before).abs().max() > 0.1


def test_random_frames_follow_their_generator():
    module = HouseholderFrame(12, 3)
    draws = [module.random_vectors(torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert gram_defect(module(draws[0])).abs().max() < 1e-6
    dense = HouseholderFrame(200, 3, "dense").random_vectors()
    assert dense.shape == (200, 200) and dense.std() == pytest.approx(0.05, rel=0.02)


# ---------------------------------------------------------------- low-rank orthogonal weights
@pytest.mark.parametrize("parameterization", ["thin", "dense"])
@pytest.mark.parametrize(("d_out", "d_in", "rank"), [(8, 12, 3), (12, 8, 8), (5, 5, 1)])
def test_a_weight_has_rank_equal_singular_values(parameterization, d_out, d_in, rank):
    weight = gaussian(d_out, d_in)
    projector = LowRankOrthogonal(d_out, d_in, rank, parameterization=parameterization)
    vectors = projector.right_inverse(weight)
    found = projector(*vectors)
    sigma = torch.linalg.svdvals(weight)[:rank]
    gain = sigma.mean()
    values = torch.linalg.svdvals(found)
    torch.testing.assert_close(values[:rank], gain.expand(rank), rtol=1e-6, atol=0)
    assert (values[rank:] < 1e-6 * gain).all()

    u, scale, v = projector.factors(*vectors)
    torch.testing.assert_close(found @ v, u * scale, rtol=0, atol=1e-12)
    outside = gaussian(d_in, 4, seed=2)
    outside -= v @ (v.mT @ outside)
    assert (found @ outside).abs().max() < 1e-12
    exact = torch.linalg.svd(weight)
    assert subspace_angles(v, exact.Vh[:rank].mT).max() < 1e-7
    assert subspace_angles(u, exact.U[:, :rank]).max() < 1e-7


def test_the_start_is_the_nearest_of_its_kind():
    weight = gaussian(8, 6)
    projector = LowRankOrthogonal(8, 6, 3)
    best = projector(*projector.right_inverse(weight))
    distance = (weight - best).norm()
    for factor in (0.97, 1.03):
        assert (weight - factor * best).norm() > distance
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1, 10.0):
        for _ in range(10):
            u = torch.linalg.qr(
                projector.factors(*projector.right_inverse(weight)).left
                + size * torch.randn(8, 3, dtype=torch.float64, generator=generator)
            ).Q
            v = torch.linalg.qr(
                projector.factors(*projector.right_inverse(weight)).right
                + size * torch.randn(6, 3, dtype=torch.float64, generator=generator)
            ).Q
            assert (weight - projector.gain.double() * u @ v.mT).norm() >= distance - 1e-9


@pytest.mark.parametrize(("gain", "expected"), [("mean", 2.0), ("unit", 1.0), ("equalized", 9**-0.5), (0.25, 0.25)])
def test_gains(gain, expected):
    projector = LowRankOrthogonal(7, 9, 2, gain=gain)
    projector.right_inverse(with_values([3.0, 1.0, 0.5], 7, 9))
    assert projector.gain.item() == pytest.approx(expected)


@pytest.mark.parametrize("gain", ["mean", "equalized"])
def test_learned_values_of_full_rank_reproduce_the_weight(gain):
    weight = gaussian(6, 9)
    projector = LowRankOrthogonal(6, 9, 6, gain=gain, singular_values="learned")
    torch.testing.assert_close(projector(*projector.right_inverse(weight)), weight, rtol=0, atol=1e-6)


def test_a_rotation_of_both_frames_changes_nothing():
    projector = LowRankOrthogonal(8, 6, 3)
    weight = projector(*projector.right_inverse(gaussian(8, 6)))
    u, values, v = projector.factors(*projector.right_inverse(weight))
    turn = torch.linalg.qr(gaussian(3, 3)).Q
    rotated = [projector.left.right_inverse(u @ turn), projector.right.right_inverse(v @ turn)]
    torch.testing.assert_close(projector(*rotated), weight, rtol=0, atol=1e-6)


def test_what_is_not_unique_is_said():
    projector = LowRankOrthogonal(7, 9, 3)
    with pytest.warns(UserWarning, match="less than 3 nonzero singular values"):
        vectors = projector.right_inverse(with_values([3.0, 1.0], 7, 9))
    assert gram_defect(projector.factors(*vectors).right).abs().max() < 1e-10
    with pytest.warns(UserWarning, match="singular values 3 and 4 are equal"):
        projector.right_inverse(with_values([3.0, 2.0, 1.0, 1.0], 7, 9))
    learned = LowRankOrthogonal(7, 9, 3, singular_values="learned")
    with pytest.warns(UserWarning, match="less than 3"):
        assert all(torch.isfinite(t).all() for t in learned.right_inverse(with_values([3.0, 1.0], 7, 9)))


# ---------------------------------------------------------------- in models
def test_projector_in_a_vision_transformer():
    model = tiny_vit()
    images = gaussian(2, 1, 8, 8, dtype=torch.float32)
    names = [f"vit.layers.{i}.attention.q_proj" for i in range(2)]
    targets = ["q_proj"]
    made = apply_householder_projector(model, targets, rank=4)
    assert sorted(made) == sorted(names)
    expected = model(images).logits
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear) and torch.linalg.matrix_rank(layer.weight, atol=1e-5) == 4

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model(images).logits.square().sum().backward()
    optimizer.step()
    trained = model(images).logits.detach()
    assert (trained - expected).abs().max() > 1e-3
    assert gram_defect(projector_factors(model.get_submodule(names[0])).right).abs().max() < 1e-5

    twin = tiny_vit(seed=1)
    apply_householder_projector(twin, targets, rank=4)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(images).logits, trained)
    assert sorted(remove_householder_projector(twin)) == sorted(names)
    assert twin.state_dict().keys() == tiny_vit().state_dict().keys()
    torch.testing.assert_close(twin(images).logits, trained, rtol=0, atol=1e-6)


@pytest.mark.parametrize("singular_values", ["fixed", "learned"])
def test_leaving_two_thin_layers(singular_values):
    model = nn.Sequential(nn.Linear(9, 12), nn.Tanh(), nn.Linear(12, 3, bias=False))
    apply_householder_projector(model, "0|2", rank=2, singular_values=singular_values)
    x = gaussian(4, 9, dtype=torch.float32)
    expected = model(x)
    assert remove_householder_projector(model, leave="factored") == ["0", "2"]
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)
    assert [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)] == [
        (2, 9),
        (12, 2),
        (2, 12),
        (3, 2),
    ]


def test_pointwise_convolutions_and_half_precision():
    model = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Linear(5, 5))
    apply_householder_projector(model, ["0"], rank=2)
    assert model[0].weight.shape == (4, 6, 1, 1)
    x = gaussian(2, 6, 5, 5, dtype=torch.float32)
    expected = model(x)
    half = copy.deepcopy(model).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert (half(x.bfloat16()).float() - expected).abs().max() < 0.05 * expected.abs().max()
    assert projector_of(half[2]) is None
    remove_householder_projector(model)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)


def test_random_start_and_later_assignment():
    model = nn.Sequential(nn.Linear(8, 8))
    original = model[0].weight.detach().clone()
    apply_householder_projector(model, ["0"], 2, init="random", generator=torch.Generator().manual_seed(1))
    v = projector_factors(model[0]).right
    assert subspace_angles(v, torch.linalg.svd(original).Vh[:2].mT).max() > 0.2
    copy.deepcopy(model)
    model[0].weight = original
    assert subspace_angles(projector_factors(model[0]).right, torch.linalg.svd(original).Vh[:2].mT).max() < 1e-3


TIED = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
TIED["b"].weight = TIED["a"].weight


@pytest.mark.parametrize(
    ("model", "targets", "options", "message"),
    [
        (nn.Sequential(nn.Linear(4, 6)), ["0"], {"rank": 5}, r"module '0': `rank` must be between 1 and 4 .* got 5"),
        (nn.Sequential(nn.Linear(4, 6)), ["0"], {"rank": 0}, "`rank` must be between 1 and 4"),
        (nn.Sequential(nn.Linear(4, 6)), ["0"], {"rank": 2, "gain": "max"}, "`gain` must be one of mean, unit"),
        (nn.Sequential(nn.Linear(4, 6)), ["0"], {"rank": 2, "gain": -1.0}, "`gain` must be one of .* got -1.0"),
        (nn.Sequential(nn.Linear(4, 6)), ["0"], {"rank": 2, "init": "svd"}, "`init` must be one of nearest, random"),
        (nn.Sequential(nn.Linear(4, 6)), ["0"], {"rank": 2, "singular_values": "free"}, "`singular_values` must be"),
        (nn.Sequential(nn.Linear(4, 6)), ["0"], {"rank": 2, "parameterization": "qr"}, "`parameterization` must be"),
        (nn.Sequential(nn.Linear(4, 6)), ["query"], {"rank": 2}, r"`target_modules` \['query'\] matches no module"),
        (nn.Sequential(nn.Linear(4, 6)), [], {"rank": 2}, r"`target_modules` \[\] matches no module"),
        (nn.Sequential(nn.Linear(4, 6)), "(", {"rank": 2}, "is no regular expression"),
        (nn.Sequential(nn.ReLU()), ["0"], {"rank": 2}, "module '0' must be a linear layer .* got ReLU"),
        (nn.Sequential(nn.Conv2d(4, 4, 3)), ["0"], {"rank": 2}, "1 x 1 convolution, got Conv2d"),
        (TIED, ["b"], {"rank": 2}, "module 'b' shares its weight: a.weight, b.weight"),
    ],
)
def test_bad_targets_and_settings(model, targets, options, message):
    with pytest.raises(ValueError, match=message):
        apply_householder_projector(model, targets, **options)
    assert all(projector_of(module) is None for module in model.modules())


def test_bad_weights_and_removals():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.zeros_(model[1].weight)
    with pytest.raises(ValueError, match="module '1': `gain='mean'` of a weight of zeros"):
        apply_householder_projector(model, ["0", "1"], rank=2)
    nn.init.constant_(model[1].weight, float("nan"))
    with pytest.raises(ValueError, match="module '1': `weight` has entries that are NaN"):
        apply_householder_projector(model, ["0", "1"], rank=2)
    with pytest.raises(ValueError, match="the model has no Householder projector"):
        remove_householder_projector(model)
    apply_householder_projector(model, ["0"], rank=2)
    with pytest.raises(ValueError, match="module '0' has a parametrized weight already"):
        apply_householder_projector(model, ["0"], rank=2)
    with pytest.raises(ValueError, match="`leave` must be one of folded, factored; got 'thin'"):
        remove_householder_projector(model, leave="thin")
    with pytest.raises(ValueError, match="has no Householder projector"):
        projector_factors(model[1])
    module = HouseholderFrame(4, 2)
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(4, 2\), got \(4, 4\)"):
        module(torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"`frame` must have shape \(4, 2\), got \(2, 4\)"):
        module.right_inverse(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="`r` must be between 1 and d = 2, got 3"):
        HouseholderFrame(2, 3)
