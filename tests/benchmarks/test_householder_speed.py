# SPDX-License-Identifier: Apache-2.0
"""The contenders of the benchmark of reflections and generators compute one and the same, so that their times may be compared."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg.householder import householder_product_reference
from tests.support.processes import ROOT


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def assert_same(found, expected, tolerance=1e-4):
    for one, other in zip(found, expected, strict=True):
        assert_close(one.double(), other.double(), rtol=0, atol=tolerance * other.abs().max().item())


def expected(vectors, r, upstream):
    """Columns of the product and gradient of the vectors by the definition, in float64."""
    vectors = vectors.double().requires_grad_()
    frame = householder_product_reference(vectors, r)
    return frame, torch.autograd.grad(frame, vectors, upstream.double())[0]


@pytest.mark.parametrize(("k", "r"), [(7, 3), (20, 3), (20, 12)])
def test_reflections_are_the_same_product(k, r):
    from support import householder_speed, householder_speed_products

    gaussian = householder_speed_products.gaussian
    wanted = expected(gaussian(12, k), r, gaussian(12, r, seed=1))
    calls = householder_speed.long_contenders(12, k, r)
    assert len(calls) == 3
    for call in calls.values():
        assert_same(call(), wanted)


def test_thin_frames_are_the_same_frame():
    from support import householder_speed

    calls = householder_speed.thin_contenders(12, 4)
    assert len(calls) == 3
    first, *others = [call() for call in calls.values()]
    for found in others:
        assert_same(found, first)
    assert_close(first[0].mT @ first[0], torch.eye(4), rtol=0, atol=1e-6)


def test_torch_parametrizations_hold_the_same_frame():
    from support import householder_speed

    ours, trivialized, plain = householder_speed.layer_contenders(12, 4, "householder").values()
    assert_same(plain(), ours())
    assert_same(trivialized()[:1], ours()[:1])
    for orthogonal_map in ("cayley", "matrix_exp"):
        ours, trivialized, _ = householder_speed.layer_contenders(12, 4, orthogonal_map).values()
        assert_same(trivialized()[:1], ours()[:1])


def test_batches_and_the_loop_of_peft():
    from support import householder_speed

    for calls in (householder_speed.batch_contenders(3, 12, 4), householder_speed.hra_contenders(12, 5)):
        one, other = calls.values()
        assert_same(one(), other())


def test_contenders_that_differ_are_refused():
    from support import householder_speed

    steps = {"one": lambda: (torch.ones(3),), "other": lambda: (torch.tensor([1.0, 1.0, 1.01]),)}
    with pytest.raises(RuntimeError, match="other and one differ by 1.0e-02"):
        householder_speed.check_agreement(steps)


@pytest.mark.parametrize("batch", [1, 2])
def test_generators_make_the_same_images_and_gradients(batch):
    from support import householder_speed_generator

    sizes = {"z_dim": 6, "w_dim": 8, "img_resolution": 16, "channel_max": 12, "mapping_layers": 2}
    model = householder_speed_generator.generator(**sizes)
    ours, *others = [call() for call in householder_speed_generator.step_contenders(model, batch).values()]
    assert len(others) == 2 and all(gradient.abs().max() > 0 for gradient in ours)
    for found in others:
        assert_same(found, ours)


def test_affines_and_their_parameters():
    from support import householder_speed_generator

    for train in (False, True):
        calls = householder_speed_generator.affine_contenders(2, train)
        assert_same(calls["folded"]()[:1], calls["projected"]()[:1])
    counts = {row["what"]: row["value"] for row in householder_speed_generator.parameter_rows()}
    sizes = {"thin": 2 * 512 * 10, "dense": 2 * 512 * 512, "plain": 512 * 512}
    assert counts == {f"parameters, {form}": size for form, size in sizes.items()}
