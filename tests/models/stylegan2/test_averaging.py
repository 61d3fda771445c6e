# SPDX-License-Identifier: Apache-2.0
"""The running average: its factor, its parameters, and the frames of projectors, which stay orthonormal."""

import pytest
import torch

from eigenhub.models.stylegan2 import average_decay, averaged_copy, update_average
from eigenhub.models.stylegan2.projectors import projector_at
from tests.models.stylegan2.tiny import gaussian, generator


LAYERS = ("b8.conv0", "b16.conv0")


def test_the_half_life_does_not_depend_on_the_batch():
    for batch in (4, 16, 40):
        assert average_decay(batch, half_life_kimg=0.4) ** (400 / batch) == pytest.approx(0.5, rel=1e-12)
    assert average_decay(32) == 0.5 ** (32 / 10_000)  # the official factor, right at a batch of 32 alone
    assert average_decay(8, half_life_kimg=0) == 0.0


def test_the_half_life_grows_with_what_was_seen():
    assert average_decay(8, 10.0, seen=160, rampup=0.05) == 0.5
    assert average_decay(8, 10.0, seen=1e6, rampup=0.05) == average_decay(8, 10.0)


def test_parameters_are_averaged_and_buffers_taken_over():
    average, model = averaged_copy(generator(0)), generator(1)
    before = {name: p.clone() for name, p in average.named_parameters()}
    update_average(average, model, 0.75)
    theirs = dict(model.named_parameters())
    for name, parameter in average.named_parameters():
        assert torch.allclose(parameter, 0.75 * before[name] + 0.25 * theirs[name], atol=1e-6), name
        assert not parameter.requires_grad
    assert torch.equal(average.mapping.w_avg, model.mapping.w_avg) and not average.training
    update_average(average, model, 0.0)
    assert all(torch.equal(p, theirs[name]) for name, p in average.named_parameters())


def defect(matrix):
    return (matrix.mT @ matrix - torch.eye(matrix.shape[1])).abs().max().item()


@pytest.mark.parametrize("parameterization", ["thin", "dense"])
def test_averaged_frames_are_orthonormal(parameterization):
    model = generator().add_projectors(rank=4, parameterization=parameterization)
    average = averaged_copy(model)
    with torch.no_grad():
        for step in range(5):
            for parameter in model.projector_parameters():
                parameter.add_(gaussian(*parameter.shape, seed=step))
            update_average(average, model, 0.7)
    for name in LAYERS:
        last, kept = (projector_at(m, name).factors() for m in (model, average))
        assert defect(kept.left) < 1e-5 and defect(kept.right) < 1e-5
        assert (kept.right - last.right).abs().max() > 0.05  # an average of something
        assert torch.linalg.svdvals(kept.left * kept.values)[:4] == pytest.approx(kept.values, rel=1e-5)
        if parameterization == "thin":  # what averaging the frames themselves would give
            assert defect(0.5 * kept.right + 0.5 * last.right) > 1e-2


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="`batch` must be at least 1, got 0"):
        average_decay(0)
    with pytest.raises(ValueError, match="`half_life_kimg` must be at least 0, got -1"):
        average_decay(1, -1)
    with pytest.raises(ValueError, match="`rampup` needs `seen`"):
        average_decay(1, rampup=0.1)
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\], got 2"):
        update_average(generator(), generator(), 2)
    with pytest.raises(ValueError, match="differ in parameters: synthesis.b16.conv0.affine.projector.left"):
        update_average(generator(), generator().add_projectors(rank=2), 0.5)
