# SPDX-License-Identifier: Apache-2.0
"""Losses of an adversarial pair against hand formulas and finite differences."""

import math

import pytest
import torch

from eigenhub.models.stylegan2 import (
    PathLengthPenalty,
    discriminator_loss,
    generator_loss,
    hessian_penalty,
    jacobian_penalty,
    r1_penalty,
)
from tests.models.stylegan2.tiny import discriminator, gaussian, generator


PENALTIES = {"hessian": hessian_penalty, "jacobian": jacobian_penalty}


def test_logistic_losses_are_the_formulas():
    real, fake = gaussian(5, 1, seed=1, dtype=torch.float64), gaussian(5, 1, seed=2, dtype=torch.float64)
    expected = sum(math.log1p(math.exp(-r)) / 5 for r in real.flatten().tolist())
    expected += sum(math.log1p(math.exp(f)) / 5 for f in fake.flatten().tolist())
    assert discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert generator_loss(fake).item() == pytest.approx(
        sum(math.log1p(math.exp(-f)) / 5 for f in fake.flatten().tolist()), rel=1e-12
    )
    assert generator_loss(torch.tensor([[-1000.0]])).item() == 1000  # and not infinite


def numeric_gradient(function, x, eps=1e-6):
    """Central differences of a number in every entry of a tensor."""
    found = torch.zeros_like(x)
    for i in range(x.numel()):
        step = torch.zeros_like(x).flatten()
        step[i] = eps
        step = step.view_as(x)
        found.view(-1)[i] = (function(x + step) - function(x - step)) / (2 * eps)
    return found


def test_r1_equals_finite_differences():
    model = discriminator(img_resolution=8, img_channels=1, channel_max=4, channel_base=32, mbstd_channels=0).double()
    images = gaussian(2, 1, 8, 8, dtype=torch.float64)
    steps = 1e-6 * torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    with torch.no_grad():
        slopes = [(model(x + steps).logits - model(x - steps).logits) / 2e-6 for x in images]
    expected = 3.0 / 2 * torch.stack(slopes).square().sum() / 2
    logits = model(images.requires_grad_()).logits
    assert r1_penalty(logits, images, gamma=3.0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_r1_changes_the_discriminator_as_its_value_says():
    model = discriminator(img_resolution=8, channel_max=4, channel_base=32).double()
    images = gaussian(2, 3, 8, 8, dtype=torch.float64).requires_grad_()
    weight = model.b8.conv0.weight

    def value():
        return r1_penalty(model(images).logits, images, gamma=1.0)

    (slope,) = torch.autograd.grad(value(), weight)
    direction = gaussian(*weight.shape, seed=3, dtype=torch.float64)
    values = []
    for sign in (1, -2):  # up, then down past the start
        with torch.no_grad():
            weight.add_(sign * 1e-6 * direction)
        values.append(value().item())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx((slope * direction).sum().item(), rel=1e-5)


def test_path_lengths_equal_finite_differences():
    model = generator(img_resolution=8, channel_max=4, channel_base=32, w_dim=3).double()
    ws = gaussian(2, 4, 3, dtype=torch.float64).requires_grad_()
    images = model.synthesis(ws)
    noise = gaussian(*images.shape, seed=1, dtype=torch.float64) / 8
    penalty = PathLengthPenalty(weight=2.0, decay=0.25).double()
    penalty.mean.fill_(0.4)
    numeric = numeric_gradient(lambda x: (model.synthesis(x) * noise).sum().item(), ws.detach())
    lengths = numeric.square().sum(2).mean(1).sqrt()
    mean = 0.75 * 0.4 + 0.25 * lengths.mean()
    assert penalty(images, ws, noise).item() == pytest.approx((2 * (lengths - mean).square().mean()).item(), rel=1e-6)
    assert penalty.mean.item() == pytest.approx(mean.item(), rel=1e-7)


def test_path_length_of_a_linear_map_has_the_expected_scale():
    """For an image M w the mean square of the length is the mean square row sum of M over pixels."""
    matrix = gaussian(64, 6, dtype=torch.float64)
    ws = gaussian(4000, 1, 6, seed=1, dtype=torch.float64).requires_grad_()
    images = (ws[:, 0] @ matrix.T).view(-1, 1, 8, 8)
    lengths = PathLengthPenalty().double().lengths(images, ws)
    assert lengths.square().mean().item() == pytest.approx(matrix.square().sum().item() / 64, rel=0.05)


def test_the_mean_of_path_lengths_is_shared_and_saved():
    ws = gaussian(3, 2, 4).requires_grad_()
    images = ws.square().sum((1, 2)).view(-1, 1, 1, 1)
    noise = torch.ones_like(images)
    penalty = PathLengthPenalty(decay=1.0)
    penalty(images, ws, noise, across=lambda mean: mean + 10)
    alone = PathLengthPenalty(decay=1.0)
    alone(images, ws, noise)
    assert penalty.mean.item() == pytest.approx(alone.mean.item() + 10)
    again = PathLengthPenalty()
    again.load_state_dict(penalty.state_dict())
    assert torch.equal(again.mean, penalty.mean) and not penalty.mean.requires_grad


def test_hessian_penalty_of_quadratic_forms():
    """The variance of v'Hv over signs is twice the squared sum of the off-diagonal entries."""
    x = gaussian(400, 3, dtype=torch.float64)
    diagonal = torch.diag(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    mixed = diagonal + torch.tensor([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]], dtype=torch.float64)

    def form(matrix):
        return lambda z: 0.5 * torch.einsum("bi,ij,bj->b", z, matrix, z).view(-1, 1, 1, 1)

    draws = torch.Generator().manual_seed(0)
    assert hessian_penalty(form(diagonal), x, generator=draws).item() < 1e-20
    found = hessian_penalty(form(mixed), x, count=8, reduction="mean", generator=draws)
    assert found.item() == pytest.approx(2 * (0.5**2 + 0.5**2), rel=0.05)
    largest = hessian_penalty(form(mixed), x, count=2, generator=draws)
    assert largest.item() == pytest.approx(2.0)  # v'Hv is the trace plus or minus 1: variance of (1, -1)


def test_jacobian_penalty_of_linear_maps():
    """The variance of |Jv|^2 over signs is twice the squared sum of the off-diagonal entries of J'J."""
    x = gaussian(400, 3, dtype=torch.float64)
    orthogonal = torch.linalg.qr(gaussian(16, 3, seed=1, dtype=torch.float64)).Q * torch.tensor([1.0, 2.0, 3.0])
    skew = orthogonal.clone()
    skew[:, 1] += 0.5 * skew[:, 0]

    def linear(matrix):
        return lambda z: (z @ matrix.T).view(-1, 1, 4, 4)

    draws = torch.Generator().manual_seed(0)
    assert jacobian_penalty(linear(orthogonal), x, generator=draws).item() < 1e-20
    found = jacobian_penalty(linear(skew), x, count=8, reduction="mean", generator=draws).item()
    assert found == pytest.approx(2 * (0.5**2 + 0.5**2) / 16**2, rel=0.05)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_change_the_gradient_of_the_generator(name):
    """The official code adds its penalty to a log: there the two gradients are equal."""
    model = generator()
    z = gaussian(2, 6)

    def gradients(weight):
        model.zero_grad()
        loss = generator_loss(model(z=z).images.mean((1, 2, 3))[:, None])
        if weight:
            draws = torch.Generator().manual_seed(0)
            loss = loss + weight * PENALTIES[name](lambda moved: model(z=moved).images, z, generator=draws)
        loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    plain, penalised = gradients(0.0), gradients(0.1)
    changed = [n for n in plain if not torch.allclose(plain[n], penalised[n], rtol=1e-3, atol=1e-9)]
    assert {"mapping.fc0.weight", "synthesis.b16.conv0.weight"} <= set(changed)


@pytest.mark.parametrize("name", PENALTIES)
def test_descending_a_penalty_lowers_it(name):
    model = generator().double()
    z = gaussian(2, 6, dtype=torch.float64)

    def value():
        draws = torch.Generator().manual_seed(0)
        return PENALTIES[name](lambda moved: model(z=moved).images, z, eps=0.5, generator=draws)

    before = value()
    gradients = torch.autograd.grad(before, list(model.parameters()), allow_unused=True)
    size = sum(g.square().sum() for g in gradients if g is not None)
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            if gradient is not None:
                parameter.sub_(1e-3 * before / size * gradient)
    assert 0.9985 < (value() / before).item() < 0.9995


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: r1_penalty(x.sum((1, 2, 3)), x), "`images` must require gradients"),
        (lambda x: r1_penalty(x.sum(), x.requires_grad_(), gamma=-1), "`gamma` must be at least 0, got -1"),
        (lambda x: PathLengthPenalty(weight=-1), "`weight` must be at least 0, got -1"),
        (lambda x: PathLengthPenalty(decay=0), r"`decay` must be in \(0, 1\], got 0"),
        (lambda x: PathLengthPenalty()(x, x[:, :, 0]), "`ws` must require gradients"),
        (lambda x: hessian_penalty(torch.sin, x, count=1), "`count` must be at least 2, got 1"),
        (lambda x: hessian_penalty(torch.sin, x, eps=0), "`eps` must be positive, got 0"),
        (lambda x: jacobian_penalty(torch.sin, x, reduction="sum"), "`reduction` must be one of max, mean; got 'sum'"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.ones(2, 1, 2, 2))
