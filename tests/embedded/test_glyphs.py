# SPDX-License-Identifier: Apache-2.0
"""The embedded glyphs: fixed, distinct, with ids that survive; and the two generations of models trained on them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eigenhub.embedded.glyph_models import CLASSES, glyph_backbone, glyph_embedder_folder
from eigenhub.embedded.glyphs import ALPHABET, FONTS, NUM_CLASSES, class_names, draw_glyphs, load_glyphs
from eigenhub.models.bt2 import Bt2EmbedderForImageClassification


def test_shapes_classes_and_ids() -> None:
    splits = draw_glyphs(3, 2)
    assert {name: split.images.shape for name, split in splits.items()} == {
        "train": (180, 1, 28, 28),
        "test": (120, 1, 28, 28),
    }
    for split, each in ((splits["train"], 3), (splits["test"], 2)):
        assert torch.bincount(split.labels).tolist() == [each] * 60
    ids = splits["train"].ids + splits["test"].ids + draw_glyphs(3, 2, seed=1)["train"].ids
    assert len(set(ids)) == len(ids)
    half = splits["train"].of_classes(30)
    assert half.labels.max() == 29 and len(half.ids) == 90 and torch.equal(half.images, splits["train"].images[:90])


def test_alphabet_has_sixty_glyphs_that_every_font_draws_differently() -> None:
    from eigenhub.embedded.glyphs import _drawn_glyphs

    assert len(ALPHABET) == len(set(ALPHABET)) == NUM_CLASSES == 60
    drawn = _drawn_glyphs()
    assert drawn.shape == (60, len(FONTS), 56, 56)
    assert drawn.min() == 0 and drawn.max() == 1
    for font in range(len(FONTS)):
        flat = drawn[:, font].flatten(1)
        distances = torch.cdist(flat, flat) + 99 * torch.eye(60)
        assert distances.min() > 1, f"{FONTS[font]} draws two classes alike"


def test_classes_are_a_fixed_mixture_of_scripts() -> None:
    names = class_names()
    assert sorted(names) == sorted(ALPHABET) and names != list(ALPHABET)
    order = np.random.RandomState(60).permutation(60)
    assert names == [ALPHABET[place] for place in order]
    old = set(names[:30])
    assert all(old & set(part) for part in (ALPHABET[:18], ALPHABET[18:36], ALPHABET[36:48], ALPHABET[48:]))


def test_images_are_reproducible_noisy_and_differ() -> None:
    first = draw_glyphs(2, 1, seed=3)["train"].images.clone()
    draw_glyphs.cache_clear()
    assert torch.equal(draw_glyphs(2, 1, seed=3)["train"].images, first)
    assert not torch.equal(draw_glyphs(2, 1, seed=4)["train"].images, first)
    corner = first[:, 0, :2, :2]
    assert corner.std() == pytest.approx(0.2, rel=0.1) and abs(corner.mean()) < 0.05
    assert first.amax((1, 2, 3)).min() > 0.5, "an image without a glyph"
    assert len({image.numpy().tobytes() for image in first}) == len(first)


def test_dataset_has_the_same_images() -> None:
    split, glyphs = load_glyphs(2, 1)["test"], draw_glyphs(2, 1)["test"]
    assert split.column_names == ["item_id", "pixel_values", "labels"]
    assert list(split["item_id"]) == glyphs.ids
    assert torch.equal(split[:]["pixel_values"], glyphs.images)
    assert split.features["labels"].names == class_names()


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="each class needs images, got 0 for training and 1 for tests"):
        draw_glyphs(0, 1)
    with pytest.raises(ValueError, match="`generation` must be old or new, got 'next'"):
        glyph_embedder_folder("next")  # type: ignore[arg-type]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from eigenhub.embedded.glyphs import _drawn_glyphs

    _drawn_glyphs.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'eigenhub\[demo\]'"):
        _drawn_glyphs()


def test_embedders_are_trained_once_and_load(empty_cache: Path) -> None:
    folder = glyph_embedder_folder("old", epochs=1)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert glyph_embedder_folder("old", epochs=1) == folder and folder.is_relative_to(empty_cache)
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    model = Bt2EmbedderForImageClassification.from_pretrained(folder)
    assert model.config.num_labels == CLASSES["old"] == 30
    with torch.no_grad():
        vectors = model(draw_glyphs()["test"].images[:8]).embedding
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(8))


def test_the_new_generation_is_wider() -> None:
    assert [glyph_backbone(generation).hidden_sizes for generation in ("old", "new")] == [[8, 16], [16, 32]]
