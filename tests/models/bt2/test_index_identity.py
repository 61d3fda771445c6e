# SPDX-License-Identifier: Apache-2.0
"""A wrong encoder, and vectors that cannot be right, are errors that say what is wrong."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from eigenhub.models.bt2.index import CompatibleIndex
from eigenhub.models.bt2.index_identity import EncoderIdentity, IdentityError, as_identity
from tests.models.bt2.index_cases import BACKENDS, NEW, NEW_DIM, OLD, OLD_DIM, Gallery, none_of
from tests.support.devices import require_package


pytestmark = [require_package("faiss"), require_package("lancedb")]


@pytest.fixture
def gallery():
    return Gallery(size=40)


CHANGED = {
    "model_id": "other/model",
    "revision": "c3",
    "prompts": {"query": "search: "},
    "normalized": False,
}


@pytest.mark.parametrize("field", CHANGED)
@pytest.mark.parametrize("backend", BACKENDS)
def test_another_encoder_is_an_error(gallery, tmp_path, backend, field):
    index = gallery.index(folder=tmp_path, backend=backend)
    other = replace(NEW, **{field: CHANGED[field]})
    said = rf"the index holds shop/v2@b2 \({field}: "
    with pytest.raises(IdentityError, match=f"`queries` come from .*{said}"):
        index.search(gallery.queries, identity=other)
    for fill in (index.add_new, index.backfill):
        with pytest.raises(IdentityError, match=f"`vectors` come from .*{said}"):
            fill(gallery.ids[:1], gallery.new[:1], identity=other)
    assert index.status().backfilled == 0
    index.search(gallery.queries, identity=NEW)
    index.backfill(gallery.ids[:1], gallery.new[:1], identity=NEW.to_dict())
    index.close()
    with pytest.raises(IdentityError, match=said):
        CompatibleIndex.open(tmp_path, identity=other)
    CompatibleIndex.open(tmp_path, identity=OLD).close()  # the failed attempt let the lock go


def test_vectors_of_the_old_encoder_are_no_backfill(gallery):
    index = gallery.index()
    with pytest.raises(IdentityError, match=r"`vectors` come from shop/v1@a1, the index holds shop/v2@b2 \(model_id"):
        index.backfill(gallery.ids[:1], gallery.new[:1], identity=OLD)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_stamp_says_whose_vectors_these_are(gallery, tmp_path, backend):
    gallery.index(folder=tmp_path, backend=backend)
    stamp = json.loads((tmp_path / "stamp.json").read_text())
    assert [as_identity(encoder) for encoder in stamp["generations"]] == [OLD, NEW]
    assert set(stamp["generations"][0]) == {
        "model_id",
        "revision",
        "dim",
        "prompts",
        "normalized",
        "compatible_with",
    }
    assert (stamp["backend"], stamp["old_scale"], stamp["normalized_on_entry"]) == (backend, 1.0, False)


def test_a_stamp_of_another_format(gallery, tmp_path):
    gallery.index(folder=tmp_path).close()
    stamp = json.loads((tmp_path / "stamp.json").read_text())
    (tmp_path / "stamp.json").write_text(json.dumps(stamp | {"format": 99}))
    with pytest.raises(ValueError, match="was written by another version of this package"):
        CompatibleIndex.open(tmp_path)


def test_a_folder_without_an_index(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no index: stamp.json is missing"):
        CompatibleIndex.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- upgrade


def test_an_encoder_fitted_to_another_old_one_is_refused(gallery):
    index = gallery.index(new_identity=None)
    stranger = replace(NEW, compatible_with=EncoderIdentity("shop/v0", OLD_DIM))
    with pytest.raises(IdentityError, match="was fitted to shop/v0, the index holds shop/v1@a1"):
        index.upgrade(stranger)
    index.upgrade(NEW)
    index.upgrade(NEW)  # a job names it at every start
    with pytest.raises(IdentityError, match="shop/v2@b2 was named but has no vectors yet"):
        index.upgrade(replace(NEW, revision="b3"))


def test_a_narrower_encoder_is_refused(gallery):
    with pytest.raises(IdentityError, match=r"has 8 dimensions, fewer than the 12 of shop/v1"):
        gallery.index(new_identity=EncoderIdentity("shop/v2", 8))


def test_an_encoder_has_to_be_named_before_its_vectors_come(gallery):
    index = gallery.index(new_identity=None)
    for fill in (index.add_new, index.backfill):
        with pytest.raises(IdentityError, match=r"knows only shop/v1@a1: name the encoder .* by upgrade\(identity\)"):
            fill(gallery.ids[:1], gallery.new[:1])
    with pytest.raises(ValueError, match=r"`queries` must have shape \(rows, 12\), got \(8, 20\)"):
        index.search(gallery.queries)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model_id": "a"}, "`identity` must be an EncoderIdentity or a mapping with model_id, dim"),
        ({"model_id": "a", "dim": 3, "size": 1}, "must be an EncoderIdentity or a mapping"),
        ("shop/v1", "must be an EncoderIdentity or a mapping"),
        ({"model_id": "", "dim": 3}, "`model_id` must name the encoder"),
        ({"model_id": "a", "dim": 0}, "`dim` must be a positive integer, got 0"),
        ({"model_id": "a", "dim": "3"}, "`dim` must be a positive integer, got '3'"),
    ],
)
def test_what_is_no_identity(given, said):
    with pytest.raises(ValueError, match=said):
        as_identity(given)


def test_an_empty_prompt_is_no_prompt():
    assert EncoderIdentity("a", 3, prompts={"query": "", "document": ""}) == EncoderIdentity("a", 3)
    assert as_identity(NEW.to_dict()) == NEW


# ---------------------------------------------------------------- vectors and ids


def spoiled(rows, value, where):
    rows = rows.copy()
    rows[where] = value
    return rows


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN or infinite values"), (np.inf, "NaN or inf"), (0.0, "only zeros")]
)
def test_rows_that_are_no_directions(gallery, value, said):
    bad = gallery.ids[[3, 5]].tolist()
    with pytest.raises(ValueError, match=f"`vectors` must be finite and not zero: ids {bad[0]}, {bad[1]} hold {said}"):
        CompatibleIndex.from_old(spoiled(gallery.old, value, [3, 5]), gallery.ids, OLD)
    index = gallery.index()
    with pytest.raises(ValueError, match=f"ids {bad[0]}, {bad[1]} hold {said}"):
        index.backfill(gallery.ids, spoiled(gallery.new, value, [3, 5]))
    assert index.status().backfilled == 0
    with pytest.raises(ValueError, match=f"`queries` must be finite and not zero: rows 2 hold {said}"):
        index.search(spoiled(gallery.queries, value, [2]))


def test_the_message_about_many_rows_is_short(gallery):
    with pytest.raises(ValueError, match=r"\.\.\. \(40 in all\) hold only zeros"):
        CompatibleIndex.from_old(0 * gallery.old, gallery.ids, OLD)


def test_raw_new_vectors_are_refused(gallery):
    """Of norm sqrt(1 + C^2), they would win against every old vector."""
    index = gallery.index()
    with pytest.raises(
        ValueError, match="`vectors` of shop/v2@b2 must have unit norm: beside unit old vectors, longer"
    ):
        index.backfill(gallery.ids[:3], 2.236 * gallery.new[:3])
    index.backfill(gallery.ids[:3], gallery.new[:3].astype(np.float16))  # rounding is no reason


def test_old_vectors_without_unit_norm(gallery, caplog, tmp_path):
    lengths = np.linspace(0.5, 3, gallery.size)[:, None]
    index = gallery.index()
    assert not index.status().normalized_on_entry
    index = CompatibleIndex.from_old(lengths * gallery.old, gallery.ids, OLD, new_identity=NEW, folder=tmp_path)
    assert index.status().normalized_on_entry and "do not have unit norm" in caplog.text
    gallery.assert_answers(index, none_of(gallery))
    index.close()
    assert CompatibleIndex.open(tmp_path).status().normalized_on_entry
    with pytest.raises(ValueError, match="`vectors` must have unit norm, or pass normalize=True"):
        CompatibleIndex.from_old(lengths * gallery.old, gallery.ids, OLD, normalize=False)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a"] * 40, "`ids` must be one row of 64-bit integers, got dtype <U1"),
        (np.arange(40.0), "64-bit integers, got dtype float64"),
        ([[1]] * 40, r"got dtype int64 and shape \(40, 1\)"),
        ([7, 7, 8, 8, *range(100, 136)], "`ids` must be distinct, got several of 7, 8"),
        ([-5, *range(39)], "`ids` must not be negative: -1 stands for nothing found; got -5"),
        (range(39), "`ids` and `vectors` must be of one length, got 39 and 40"),
    ],
)
def test_ids_that_cannot_be(gallery, ids, said):
    with pytest.raises(ValueError, match=said):
        CompatibleIndex.from_old(gallery.old, list(ids) if isinstance(ids, range) else ids, OLD)


def test_shapes_that_cannot_be(gallery):
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(rows, 12\), got \(40, 20\)"):
        CompatibleIndex.from_old(gallery.new, gallery.ids, OLD)
    index = gallery.index()
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(rows, 20\), got \(40, 12\)"):
        index.backfill(gallery.ids, gallery.old)
    with pytest.raises(ValueError, match=r"`queries` must have shape \(rows, 12 or 20\), got \(8, 13\)"):
        index.search(gallery.queries[:, :13])
    with pytest.raises(ValueError, match="`ids` and `vectors` must be of one length, got 40 and 3"):
        index.backfill(gallery.ids, gallery.new[:3])
    with pytest.raises(ValueError, match="unknown: 123456"):
        index.backfill([123456], gallery.new[:1])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda index: index.search(np.ones(NEW_DIM), k=0), "`k` must be positive, got 0"),
        (lambda index: index.backfill([], [], batch_size=0), "`batch_size` must be positive, got 0"),
        (lambda index: index.set_old_scale(0.0), "`old_scale` must be positive and finite, got 0"),
        (lambda index: index.set_old_scale(float("nan")), "`old_scale` must be positive and finite, got nan"),
    ],
)
def test_settings_that_cannot_be(gallery, call, said):
    with pytest.raises(ValueError, match=said):
        call(gallery.index())


def test_backends_that_cannot_be(gallery):
    with pytest.raises(ValueError, match="`backend` must be one of faiss, lancedb; got 'sqlite'"):
        gallery.index(backend="sqlite")
    with pytest.raises(ValueError, match="`folder` must be given: the LanceDB backend lives on the disk"):
        gallery.index(backend="lancedb")
    for backend, allowed in (("faiss", "factory, parameters"), ("lancedb", "none")):
        with pytest.raises(ValueError, match=f"options of the {backend} backend are {allowed}; got 'factroy'"):
            gallery.index(backend=backend, factroy="Flat")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_whose_files_are_gone_is_not_an_empty_one(gallery, tmp_path, backend):
    gallery.index(folder=tmp_path, backend=backend).close()
    if backend == "faiss":
        (tmp_path / "vectors-0.log").unlink()
    else:
        shutil.rmtree(tmp_path / "tables")
    for read_only in (True, False):
        with pytest.raises(FileNotFoundError, match="which the stamp names, is missing|that the stamp names"):
            CompatibleIndex.open(tmp_path, read_only=read_only)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_index_without_items_finds_nothing(gallery, tmp_path, backend):
    index = gallery.index(folder=tmp_path, backend=backend)
    index.remove(gallery.ids)
    assert index.search(gallery.queries).ids.shape == (8, 0) and index.status().share == 1.0
    index.add_new([3], gallery.new[:1])
    assert index.search(gallery.queries).ids.tolist() == [[3]] * 8
