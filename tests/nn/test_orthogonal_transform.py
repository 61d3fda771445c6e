# SPDX-License-Identifier: Apache-2.0
"""The transform stays orthogonal whatever happens to it: long training, decay, half precision, re-basing, loading."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from eigenhub.linalg import gram_defect
from eigenhub.nn import OrthogonalTransform


def randomised(d: int, rank: int | None = None, map: str = "cayley", scale: float = 1.0) -> OrthogonalTransform:
    transform = OrthogonalTransform(d, rank, map)
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape))
    return transform


def defect(transform: OrthogonalTransform) -> float:
    return gram_defect(transform.matrix().double()).abs().max().item()


def rotated(base: torch.Tensor) -> torch.Tensor:
    """The base after two reflections, which make a rotation."""
    target = base.clone()
    generator = torch.Generator().manual_seed(3)
    for direction in nn.functional.normalize(torch.randn(2, len(base), generator=generator)):
        target -= 2 * direction[:, None] * (direction @ target)
    return target


def train(
    transform: OrthogonalTransform, target: torch.Tensor, steps: int, optimizer: torch.optim.Optimizer
) -> list[float]:
    """Losses on the way to a matrix."""
    losses = []
    for step in range(steps):
        x = torch.randn(16, transform.d, generator=torch.Generator().manual_seed(step))
        loss = (transform(x) - x @ target.mT).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("d", [1, 2, 5, 64])
def test_starts_at_a_random_base(d):
    transform = OrthogonalTransform(d)
    assert torch.equal(transform.matrix(), transform.base)
    assert defect(transform) < 1e-6
    assert not torch.equal(OrthogonalTransform(64).base, OrthogonalTransform(64).base)
    assert sum(p.numel() for p in transform.parameters()) == d * (d - 1) // 2


@pytest.mark.parametrize("rows", [1, 3, 63, 65, 200])
@pytest.mark.parametrize("rank", [None, 7])
def test_forward_is_the_matrix_form(rows, rank):
    transform = randomised(64, rank, scale=0.2)
    x = torch.randn(2, rows, 64)
    torch.testing.assert_close(transform(x), x @ transform.matrix().mT, rtol=0, atol=3e-6)
    torch.testing.assert_close(transform(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-5, atol=0)


def test_both_routes_give_the_same_gradients():
    transform = randomised(8).double()
    x = torch.randn(20, 8, dtype=torch.float64)
    grads = []
    for parts in ([x], x.split(4)):  # formed, applied
        transform.zero_grad()
        sum((transform(part) * torch.arange(8)).square().sum() for part in parts).backward()
        grads.append(transform.skew.grad.clone())
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("map", ["cayley", "expm"])
@pytest.mark.parametrize("rows", [2, 9])
def test_gradcheck(map, rows):
    transform = randomised(5, map=map).double()
    x = torch.randn(rows, 5, dtype=torch.float64, requires_grad=True)

    def call(skew: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(transform, {"skew": skew}, x)

    assert torch.autograd.gradcheck(call, (transform.skew, x))


@pytest.mark.parametrize(("map", "theirs"), [("cayley", "cayley"), ("expm", "matrix_exp")])
def test_parity_with_torch(map, theirs):
    """At equal raw parameters: the strict lower triangle of theirs is our vector, the bases are the same."""
    transform = randomised(33, map=map)
    layer = orthogonal(nn.Linear(33, 33, bias=False), orthogonal_map=theirs)
    rows, columns = torch.tril_indices(33, 33, -1)
    with torch.no_grad():
        layer.parametrizations.weight.original[rows, columns] = transform.skew
        layer.parametrizations.weight[0].base.copy_(transform.base)
    torch.testing.assert_close(transform.matrix(), layer.weight, rtol=0, atol=2e-5)
    x = torch.randn(4, 33)
    torch.testing.assert_close(transform(x), layer(x), rtol=0, atol=5e-5)


def test_expm_is_base_times_exponential():
    transform = randomised(12, map="expm")
    lower = torch.zeros(12, 12)
    rows, columns = torch.tril_indices(12, 12, -1)
    lower[rows, columns] = transform.skew.detach()
    expected = transform.base @ torch.matrix_exp(lower - lower.mT)
    torch.testing.assert_close(transform.matrix().detach(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("rank", "decay"), [(None, 0.0), (None, 0.1), (4, 0.1)])
def test_orthogonal_after_a_thousand_steps(rank, decay):
    transform = OrthogonalTransform(24, rank)
    optimizer = torch.optim.AdamW(transform.parameters(), lr=1e-2, weight_decay=decay)
    losses = train(transform, rotated(transform.base), 1000, optimizer)
    assert defect(transform) < 1e-5
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("rank", [None, 4])
def test_rebase_changes_nothing_and_training_goes_on(rank):
    transform = OrthogonalTransform(24, rank)
    target = rotated(transform.base)
    optimizer = torch.optim.Adam(transform.parameters(), lr=1e-2)
    before = train(transform, target, 40, optimizer)
    matrix = transform.matrix().detach()
    assert transform.skew_norm() > 0.1
    transform.rebase_(optimizer)
    torch.testing.assert_close(transform.matrix().detach(), matrix, rtol=0, atol=1e-6)
    assert transform.skew_norm() == 0
    assert not any(parameter in optimizer.state for parameter in transform.parameters())
    after = train(transform, target, 40, optimizer)
    assert after[-1] < 0.9 * before[-1]
    assert defect(transform) < 1e-5


@pytest.mark.parametrize("rank", [None, 3])
def test_skew_norm_is_that_of_the_generator(rank):
    transform = randomised(10, rank)
    if rank is None:
        generator = torch.zeros(10, 10)
        rows, columns = torch.tril_indices(10, 10, -1)
        generator[rows, columns] = transform.skew.detach()
    else:
        generator = (transform.left @ transform.right.mT).detach()
    expected = torch.linalg.matrix_norm(generator - generator.mT) / 10**0.5
    torch.testing.assert_close(transform.skew_norm(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_casts_leave_it_in_float32(dtype):
    transform = randomised(16)
    expected = transform.matrix()
    model = nn.Sequential(nn.Linear(4, 16), transform).to(dtype)
    assert model[0].weight.dtype == dtype
    assert {tensor.dtype for tensor in transform.state_dict().values()} == {torch.float32}
    assert torch.equal(transform.matrix(), expected)
    x = torch.randn(3, 16).to(dtype)
    assert transform(x).dtype == dtype
    torch.testing.assert_close(transform(x).float(), x.float() @ expected.mT, rtol=1e-2, atol=1e-2)
    assert model.double()[1].base.dtype == torch.float64


def test_autocast_does_not_reach_inside():
    transform, x = randomised(32), torch.randn(4, 32)
    expected = transform(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(transform(x), expected)


@pytest.mark.parametrize("assign", [False, True])
def test_a_base_from_half_precision_is_mended_with_a_warning(assign):
    transform = randomised(48)
    rounded = {name: tensor.bfloat16() for name, tensor in transform.state_dict().items()}
    loaded = OrthogonalTransform(48)
    with pytest.warns(UserWarning, match=r"OrthogonalTransform\(48\) was saved in half precision or not orthogonal"):
        loaded.load_state_dict(rounded, assign=assign)
    assert loaded.base.dtype == torch.float32
    assert defect(loaded) < 1e-5
    torch.testing.assert_close(loaded.base, transform.base, rtol=0, atol=1e-2)


def test_loading_a_whole_one_is_silent_and_exact():
    transform, loaded = randomised(48), OrthogonalTransform(48)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.load_state_dict(transform.state_dict())
    assert torch.equal(loaded.matrix(), transform.matrix())


def test_set_base():
    transform = randomised(6)
    flip = torch.eye(6).flip(0)
    transform.set_base(flip)
    assert torch.equal(transform.matrix(), flip)
    with pytest.raises(ValueError, match=r"`base` must have shape \(6, 6\), got \(5, 5\)"):
        transform.set_base(torch.eye(5))
    with pytest.raises(ValueError, match=r"must be orthogonal, but its Gram matrix is 3.0e\+00 away"):
        transform.set_base(2 * torch.eye(6))
    with pytest.raises(ValueError, match="must be orthogonal"):
        transform.set_base(torch.full((6, 6), float("nan")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "`d` must be at least 1, got 0"),
        ((8, 0), "`rank` must be between 1 and d // 2 = 4, got 0"),
        ((8, 5), "`rank` must be between 1 and d // 2 = 4, got 5"),
        ((8, None, "householder"), "`map` must be one of cayley, expm; got 'householder'"),
        ((8, 2, "expm"), "`rank` needs `map='cayley'`, got 'expm'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        OrthogonalTransform(*arguments)


def test_bad_input_names_the_size():
    with pytest.raises(ValueError, match=r"last dimension of `x` must be 8, got shape \(2, 7\)"):
        OrthogonalTransform(8)(torch.zeros(2, 7))


def test_builds_on_the_meta_device_and_takes_no_rows():
    with torch.device("meta"):
        assert OrthogonalTransform(8, 2).base.is_meta
    assert OrthogonalTransform(8)(torch.zeros(0, 8)).shape == (0, 8)
