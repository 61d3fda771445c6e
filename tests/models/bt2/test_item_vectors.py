# SPDX-License-Identifier: Apache-2.0
"""Teacher vectors follow their item ids through any shuffling, and bad ones are named by id."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eigenhub.models.bt2 import ItemVectors, cached_vectors, weights_fingerprint
from tests.models.bt2.tiny_images import tiny_embedder, tiny_resnet


IDS = ("a", "b/c.png", "ü 3")


def vectors(*ids: str) -> torch.Tensor:
    """Rows that tell which item they belong to."""
    return torch.tensor([[float(IDS.index(name) + 1), 2.0] for name in ids])


def test_any_order(tmp_path: Path) -> None:
    kept = ItemVectors(IDS, vectors(*IDS), "old")
    kept.save(tmp_path / "folder" / "old.safetensors")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old.safetensors"]
    loaded = ItemVectors.load(tmp_path / "folder" / "old.safetensors")
    assert (loaded.ids, loaded.source) == (IDS, "old") and torch.equal(loaded.vectors, kept.vectors)
    for order in (("ü 3", "a"), ("b/c.png", "b/c.png"), IDS[::-1], ()):
        assert torch.equal(loaded.of(order), vectors(*order).view(-1, 2))


def test_bad_vectors_are_named_by_id() -> None:
    rows = vectors(*IDS)
    with pytest.raises(ValueError, match=r"`ids` must be unique, but stand more than once: a"):
        ItemVectors(("a", "a", "b"), rows, "")
    with pytest.raises(ValueError, match=r"a row for each of 2 ids, got \(3, 2\)"):
        ItemVectors(("a", "b"), rows, "")
    rows[1] = float("inf")
    rows[2] = 0
    with pytest.raises(ValueError, match="`vectors` are not finite for 1 items: b/c.png"):
        ItemVectors(IDS, rows, "")
    rows[1] = 1
    with pytest.raises(ValueError, match="`vectors` are zero for 1 items: ü 3"):
        ItemVectors(IDS, rows, "")
    with pytest.raises(ValueError, match="no vectors for 2 of 3 items: x, y"):
        ItemVectors(IDS, vectors(*IDS), "").of(["x", "a", "y"])


def test_another_file_is_not_read(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors holds no ids and no vectors"):
        ItemVectors.load(tmp_path / "model.safetensors")


def test_computed_once_per_source_and_items(tmp_path: Path) -> None:
    calls = []

    def compute(*ids: str):
        def run() -> torch.Tensor:
            calls.append(ids)
            return vectors(*ids).double()

        return run

    path = tmp_path / "old.safetensors"
    first = cached_vectors(path, "model 1", IDS, compute(*IDS))
    assert first.vectors.dtype == torch.float32
    shuffled = IDS[::-1]
    again = cached_vectors(path, "model 1", shuffled, compute(*shuffled))
    assert len(calls) == 1 and torch.equal(again.of(shuffled), vectors(*shuffled))
    cached_vectors(path, "model 1", IDS[:2], compute(*IDS[:2]))
    assert len(calls) == 1
    cached_vectors(path, "model 2", IDS, compute(*IDS))
    assert len(calls) == 2 and ItemVectors.load(path).source == "model 2"
    cached_vectors(path, "model 3", IDS, compute(*IDS), write=False)
    assert len(calls) == 3 and ItemVectors.load(path).source == "model 2"


def test_fingerprint_is_that_of_the_weights() -> None:
    torch.manual_seed(0)
    model = tiny_embedder(tiny_resnet())
    torch.manual_seed(0)
    assert weights_fingerprint(tiny_embedder(tiny_resnet())) == weights_fingerprint(model)
    before = weights_fingerprint(model)
    model.train()(pixel_values=torch.randn(2, 1, 8, 8))  # moves statistics of a batch norm
    assert weights_fingerprint(model) != before
    assert weights_fingerprint(model.bfloat16()) != before
