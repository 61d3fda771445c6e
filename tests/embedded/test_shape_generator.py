# SPDX-License-Identifier: Apache-2.0
"""The embedded generator: cached, loadable with and without projectors, and what it draws is what its latents stand for."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from eigenhub.embedded import shape_generator
from eigenhub.embedded.shape_factors import measure_shapes
from eigenhub.embedded.shapes import FACTORS, render_shapes
from eigenhub.models.stylegan2 import StyleGAN2Generator
from eigenhub.models.stylegan2.projectors import affine_of


CONVOLUTIONS = ["b4.conv1", "b8.conv0", "b8.conv1"]


def test_pretrained_once_without_touching_the_global_generator(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"num_steps": 3, "tuning_steps": 2, "rank": 4, "size": 8, "batch_size": 4}
    state = torch.get_rng_state()
    folder = shape_generator.pretrained_shape_generator_folder(**options)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(shape_generator, "_regress", None)  # a second training would fail
    assert shape_generator.pretrained_shape_generator_folder(**options) == folder
    model = AutoModel.from_pretrained(folder)
    before = StyleGAN2Generator.from_pretrained(folder / shape_generator.UNPROJECTED_FOLDER)
    assert model.config.projected_names == CONVOLUTIONS and before.config.projected_names == []
    for name in CONVOLUTIONS:
        assert torch.linalg.matrix_rank(affine_of(model, name).effective_weight(), rtol=1e-4) == 4
    for one in (model, before):
        z = torch.randn(4096, 8, generator=torch.Generator().manual_seed(1))
        mean = one.mapping(z)[:, 0].mean(0)
        assert (mean - one.mapping.w_avg).abs().max() < 0.15  # of two samples
        assert not one.training


def test_latents_stand_for_independent_uniform_factors() -> None:
    z = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    factors = shape_generator.latent_factors(z)
    assert factors.shape == (20_000, len(FACTORS)) and 0 <= factors.min() and factors.max() <= 1
    torch.testing.assert_close(shape_generator.latent_factors(3 * z), factors)  # length says nothing
    quantiles = torch.quantile(factors, torch.tensor([0.1, 0.5, 0.9]), dim=0)
    assert (quantiles - torch.tensor([0.1, 0.5, 0.9])[:, None]).abs().max() < 0.03
    off = torch.corrcoef(factors.mT) - torch.eye(len(FACTORS))
    assert off.abs().max() < 0.03


def test_mapping_starts_at_pairs() -> None:
    torch.manual_seed(0)
    model = StyleGAN2Generator(shape_generator.shape_generator_config(8))
    shape_generator._pair_mapping(model)
    z = torch.randn(50, 8)
    w = model.mapping(z)[:, 0]
    difference = w[:, :16] - w[:, 16:]
    unit = z / z.square().mean(1, keepdim=True).sqrt()
    solution = torch.linalg.lstsq(unit, difference)
    torch.testing.assert_close(unit @ solution.solution, difference, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_it_draws_what_its_latents_stand_for() -> None:
    folder = shape_generator.pretrained_shape_generator_folder()
    for path in (folder, folder / shape_generator.UNPROJECTED_FOLDER):
        model = StyleGAN2Generator.from_pretrained(path).eval()
        z = torch.randn(256, 8, generator=torch.Generator().manual_seed(9))
        factors = shape_generator.latent_factors(z)
        with torch.no_grad():
            images = model(z).images
        drawn = render_shapes(factors, 32)
        plain = (drawn - drawn.mean(0)).square().mean()
        assert (images - drawn).square().mean() < plain / 10
        errors = (measure_shapes(images.clamp(-1, 1)) - factors).abs().nanmedian(0).values
        assert (errors[:5] < 0.1).all(), dict(zip(FACTORS, errors.tolist(), strict=True))


@pytest.mark.slow
def test_directions_change_factors() -> None:
    model = StyleGAN2Generator.from_pretrained(shape_generator.pretrained_shape_generator_folder()).eval()
    ws = model(model.latents(16), truncation_psi=0.7).ws
    changed = []
    for layer in model.config.projected_names:
        directions = model.directions(layer, "jacobian", num_samples=16)
        for k in range(2):
            ends = model.traverse(ws, layer, k, [-2.0, 2.0], directions=directions).clamp(-1, 1)
            changed.append((measure_shapes(ends[:, 1]) - measure_shapes(ends[:, 0])).abs().nanmedian(0).values)
    largest = torch.stack(changed).max(0).values
    assert (largest[:5] > 0.05).all(), dict(zip(FACTORS, largest.tolist(), strict=True))
