# SPDX-License-Identifier: Apache-2.0
"""Path lengths of linear generators in closed form, what is drawn and moved, the distances."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.metrics.path_length import (
    feature_distance,
    interpretable_path_length,
    lpips_distance,
    perceptual_path_length,
    pixel_distance,
    trimmed_mean,
)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WS = gaussian(300, 3, 4)
MAP = gaussian(12, 3 * 8 * 8, seed=1)


def linear(ws):
    return (ws.flatten(1) @ MAP).view(-1, 3, 8, 8)


def trimmed_by_numpy(values):
    low, high = np.percentile(values, 1, method="lower"), np.percentile(values, 99, method="higher")
    return values[(values >= low) & (values <= high)].mean()


@pytest.mark.parametrize("sampling", ["full", "end"])
@pytest.mark.parametrize("eps", [1e-4, 0.1])
def test_a_linear_generator_has_the_length_of_its_chords(sampling, eps):
    end = gaussian(300, 3, 4, seed=2)
    found = perceptual_path_length(linear, WS, end, pixel_distance, sampling, eps, batch_size=7)
    chords = ((end - WS).flatten(1) @ MAP).square().mean(1)
    assert_close(found.distances, chords, rtol=1e-6, atol=0)
    assert found.value == pytest.approx(trimmed_by_numpy(chords.numpy()), rel=1e-6)


def test_places_are_uniform_on_the_way_or_at_its_end():
    start, end = torch.zeros(2000, 1).double(), torch.ones(2000, 1).double()
    seen = []

    def images(w):
        seen.append(w.clone())
        return w

    perceptual_path_length(images, start, end, pixel_distance, eps=1e-3, batch_size=2000)
    first, second = seen
    assert_close(second - first, torch.full_like(first, 1e-3), rtol=1e-6, atol=0)
    assert first.min() >= 0 and first.max() <= 1
    assert abs(first.mean() - 0.5) < 0.02 and abs(first.var() - 1 / 12) < 0.005
    seen.clear()
    perceptual_path_length(images, start, end, pixel_distance, "end", eps=1e-3, batch_size=2000)
    assert not seen[0].any()


def test_seeds_and_batches():
    end = gaussian(300, 3, 4, seed=2)

    def run(**options):
        return perceptual_path_length(lambda w: linear(w) ** 3, WS, end, pixel_distance, **options).distances

    assert_close(run(batch_size=300), run(batch_size=1), rtol=1e-9, atol=0)
    assert not torch.allclose(run(seed=1), run())


def test_trimmed_mean():
    for count in (1, 7, 100, 1001):
        values = gaussian(count, seed=count)
        assert trimmed_mean(values) == pytest.approx(trimmed_by_numpy(values.numpy()))
    outliers = torch.cat([torch.ones(998), torch.tensor([1e9, -1e9])])
    assert trimmed_mean(outliers) == 1.0


# ---------------------------------------------------------------- along edits
DIRECTIONS = [
    (0, torch.linalg.qr(gaussian(4, 4, seed=3)).Q[:, :2]),
    (2, torch.linalg.qr(gaussian(4, 4, seed=4)).Q[:, :3]),
]


@pytest.mark.parametrize("eps", [1.0, 0.25])
def test_edits_of_a_linear_generator_have_the_length_of_their_columns(eps):
    found = interpretable_path_length(linear, WS, DIRECTIONS, pixel_distance, eps, batch_size=11)
    for (layer, k), distance in zip(found.choices.tolist(), found.distances, strict=True):
        index, vectors = DIRECTIONS[layer]
        column = vectors[:, k] @ MAP.view(3, 4, -1)[index]
        assert distance == pytest.approx(column.square().mean().item(), rel=1e-9)
    assert found.value == pytest.approx(trimmed_by_numpy(found.distances.numpy()))


def test_every_sample_draws_for_itself_and_moves_one_layer_alone():
    before = WS.clone()
    seen = []

    def images(ws):
        seen.append(ws.clone())
        return ws

    found = interpretable_path_length(images, WS, DIRECTIONS, pixel_distance, batch_size=300)
    moved = seen[1] - seen[0]
    assert torch.equal(WS, before) and torch.equal(seen[0], WS)
    for row, (layer, k) in zip(moved, found.choices.tolist(), strict=True):
        index, vectors = DIRECTIONS[layer]
        assert_close(row[index], vectors[:, k], rtol=0, atol=1e-12)
        assert not row[[i for i in range(3) if i != index]].any()
    counts = torch.bincount(found.choices[:, 0] * 3 + found.choices[:, 1], minlength=6)
    assert counts[2] == 0 and counts[:2].min() > 50 and counts[3:].min() > 30  # layers first, then their directions
    again = interpretable_path_length(images, WS, DIRECTIONS, pixel_distance, seed=1)
    assert not torch.equal(again.choices, found.choices)


# ---------------------------------------------------------------- distances
def test_distances_by_pixels_and_features():
    x, y = gaussian(5, 3, 8, 8), gaussian(5, 3, 8, 8, seed=1)
    assert_close(pixel_distance(x, y), ((x - y) ** 2).mean((1, 2, 3)))
    assert_close(feature_distance(lambda images: images.mean((2, 3)))(x, y), ((x - y).mean((2, 3)) ** 2).mean(1))


def test_lpips_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(
        ImportError, match=r"LPIPS needs torch_fidelity: install it by `pip install 'eigenhub\[fid\]'`"
    ):
        lpips_distance()


def test_lpips_gets_images_of_its_range_and_size(monkeypatch):
    """A stand-in for the library, whose weights need a download: names, ranges and sizes of torch-fidelity 0.4.0."""

    class SampleSimilarityLPIPS(torch.nn.Module):
        def __init__(self, name):
            super().__init__()
            assert name == "lpips-vgg16"

        def forward(self, x, y):
            assert x.shape[2:] == (4, 4) and x.dtype == torch.float32
            assert x.min() >= 0 and x.max() <= 255 and x.max() > 200
            return (x - y).abs().mean((1, 2, 3))

    module = ModuleType("torch_fidelity.sample_similarity_lpips")
    module.SampleSimilarityLPIPS = SampleSimilarityLPIPS
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.sample_similarity_lpips", module)
    distance = lpips_distance(largest=4)
    white, black = torch.ones(2, 3, 8, 8).double(), -torch.ones(2, 3, 8, 8).double()
    assert distance(white, black).tolist() == [255.0, 255.0]
    assert lpips_distance()(white[..., :4, :4], white[..., :4, :4]).tolist() == [0.0, 0.0]


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampling": "middle"}, "`sampling` must be one of full, end; got 'middle'"),
        ({"eps": 0.0}, "`eps` must be positive, got 0.0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"end": WS[:3]}, r"`end` must have the shape of `start`, \(300, 3, 4\), got \(3, 3, 4\)"),
        ({"start": WS[:0], "end": WS[:0]}, "`start` must hold at least one sample, got none"),
        ({"distance": lambda x, y: (x - y).mean()}, "`distance` must give one number per image, got 38 for 300"),
    ],
)
def test_bad_paths(options, said):
    with pytest.raises(ValueError, match=said):
        perceptual_path_length(
            **({"images": linear, "start": WS, "end": WS.flip(0), "distance": pixel_distance} | options)
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"directions": []}, "`directions` must hold at least one layer, got none"),
        ({"directions": [(3, torch.ones(4, 1))]}, "`directions` must name entries of `ws` from 0 to 2, got 3"),
        ({"directions": [(0, torch.ones(5, 1))]}, r"`directions` must have shape \(4, count\), got \(5, 1\)"),
        ({"ws": WS[:, 0]}, r"`ws` must have shape \(samples, num_ws, w_dim\), got \(300, 4\)"),
        ({"eps": -1.0}, "`eps` must be positive, got -1.0"),
    ],
)
def test_bad_edits(options, said):
    with pytest.raises(ValueError, match=said):
        interpretable_path_length(
            **({"images": linear, "ws": WS, "directions": DIRECTIONS, "distance": pixel_distance} | options)
        )
