# SPDX-License-Identifier: Apache-2.0
"""The folded form: plain modules, equal vectors, loadable by everybody; and its way to the Hub."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from torch import nn

from eigenhub.models.bt2 import (
    EncoderIdentity,
    fold,
    identity_of,
    load_identity,
    load_sentence_transformer,
    save_folded,
)
from eigenhub.models.bt2.text_identity import weights_hash
from eigenhub.models.bt2.text_module import basis_transformation
from tests.models.bt2.text_cases import sentences, tiny_encoder, with_head
from tests.support.devices import require_package
from tests.support.hub_server import run_client
from tests.support.processes import run_python


pytestmark = require_package("sentence_transformers")
OLD = EncoderIdentity("shop/v1", 12, revision="a1")
TEXTS = sentences(12)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def model(encoder):
    return with_head(encoder, old_identity=OLD)


@pytest.mark.parametrize(
    "options",
    [{}, {"added_dim": 0}, {"added_dim": 12}, {"old_dim": 20}, {"new_proj": True}, {"new_proj": True, "added_dim": 0}],
    ids=str,
)
@pytest.mark.parametrize("normalize", [True, False])
def test_the_folded_model_gives_the_same_vectors(options, normalize, tmp_path):
    model = with_head(tiny_encoder(tmp_path, normalize=normalize), **options)
    head = basis_transformation(model).head
    if head.new_projection is not None:
        nn.init.normal_(head.new_projection.bias)
    folded = fold(model)
    np.testing.assert_allclose(folded.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    assert folded.get_embedding_dimension() == model.get_embedding_dimension()
    kinds = [type(module).__name__ for module in folded]
    plain = ["Transformer", "Pooling", "Dense", "Normalize"]
    assert kinds == (plain if "new_proj" not in options or not normalize else [*plain[:2], "Normalize", *plain[2:]])


def test_a_normalized_added_part_is_no_matrix(encoder):
    with pytest.raises(ValueError, match="one matrix needs `added='linear'` or `added_dim=0`"):
        fold(with_head(encoder, added="normalized"))


LOAD = """
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = json.loads(sys.argv[2])
print(json.dumps([model.encode(texts).tolist(), model.encode(texts, truncate_dim=12).tolist()]))
"""


def test_it_loads_without_this_package_and_without_a_flag(model, tmp_path):
    folder = save_folded(model, tmp_path / "folded")
    done = run_python(LOAD, str(folder), json.dumps(TEXTS), folder=tmp_path, block=("eigenhub",))
    whole, truncated = (np.array(rows) for rows in done.result)
    np.testing.assert_allclose(whole, model.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(truncated, model.encode(TEXTS, truncate_dim=12), atol=1e-6)


def test_servers_know_the_names_of_the_modules(model, tmp_path):
    """Text-embeddings-inference matches these names to the letter, and takes no other activation."""
    folder = save_folded(model, tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    assert [module["type"] for module in modules] == [f"sentence_transformers.models.{kind}" for kind in kinds]
    dense = json.loads((folder / "2_Dense" / "config.json").read_text())
    assert (dense["in_features"], dense["out_features"], dense["bias"]) == (16, 20, False)
    assert dense["activation_function"] == "torch.nn.modules.linear.Identity"


def test_the_identity_goes_along(model, encoder, tmp_path):
    folder = save_folded(model, tmp_path)
    again = SentenceTransformer(str(folder), device="cpu")
    assert identity_of(again) == identity_of(model) == load_identity(str(folder))
    assert identity_of(model).compatible_with == OLD
    assert identity_of(model).prompts == {"query": "the ", "document": "a "}
    plain = identity_of(encoder)
    assert (plain.model_id, plain.dim, plain.revision, plain.compatible_with) == (
        "bert-16-0",
        16,
        weights_hash(encoder),
        None,
    )
    with pytest.raises(FileNotFoundError, match="has no bt2_identity.json: it was not exported by save_folded"):
        load_identity(str(tmp_path / "2_Dense"))


def test_any_change_of_a_weight_is_another_identity(model, encoder):
    before = identity_of(model)
    assert identity_of(model) == before
    head = basis_transformation(model).head
    with torch.no_grad():
        head.compat_basis.skew[0] += 1e-6
    changed = identity_of(model)
    with torch.no_grad():
        head.compat_basis.skew[0] -= 1e-6
    assert [line.partition(":")[0] for line in changed.differences(before)] == ["revision"]
    assert identity_of(encoder, model_id="me/mine", revision="v1").name == "me/mine@v1"


def test_a_model_of_no_known_origin_needs_a_name(tmp_path):
    encoder = tiny_encoder(tmp_path)
    encoder.transformers_model.config._name_or_path = ""
    with pytest.raises(ValueError, match="`model_id` must be given for a model that was not loaded"):
        identity_of(encoder)


def test_the_card_says_what_it_is_compatible_with(model, tmp_path):
    results = {
        f"{side}_{metric}": 0.5 for side in ("old_old", "new_old", "new_new") for metric in ("mrr@10", "ndcg@10")
    }
    folder = save_folded(model, tmp_path, results | {"update_gain": 0.25, "backfill_auc": 0.4})
    card = ModelCard.load(folder / "README.md")
    assert {"backward-compatible", "bt2", "sentence-transformers"} <= set(card.data.tags)
    for part in (
        "first 12 of the 20 coordinates",
        "`shop/v1`, revision `a1`",
        "truncate_dim=12, normalize_embeddings=True",
        "| new/old | 0.5000 | 0.5000 |",
        "update gain: 0.2500, backfill auc: 0.4000.",
    ):
        assert part in card.content, part


PUSH = """
from eigenhub.models.bt2 import load_sentence_transformer, push_to_hub
model = load_sentence_transformer({folder!r}, device="cpu")
push_to_hub(model, "tester/bt2-folded")
push_to_hub(model, "tester/bt2-module", folded=False)
"""
PULL = """
import json
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("tester/bt2-folded", device="cpu")
print(json.dumps(model.encode({texts!r}).tolist()))
"""
PULL_MODULE = """
import json
from eigenhub.models.bt2 import identity_of, load_identity, load_sentence_transformer
from sentence_transformers import SentenceTransformer
model = load_sentence_transformer("tester/bt2-module", device="cpu")
folded = SentenceTransformer("tester/bt2-folded", device="cpu")
assert identity_of(folded) == load_identity("tester/bt2-folded"), (identity_of(folded), load_identity("tester/bt2-folded"))
print(json.dumps([model.encode({texts!r}).tolist(), load_identity("tester/bt2-folded").model_id]))
"""


@pytest.mark.slow
@pytest.mark.hub
def test_through_the_hub(model, tmp_path, hub_server):
    """Folded by default; the module itself on request, for training on."""
    model.save(str(tmp_path / "model"))
    run_client(PUSH.format(folder=str(tmp_path / "model")), hub_server, tmp_path / "author", block=())
    expected = model.encode(TEXTS)
    pulled = run_client(PULL.format(texts=TEXTS), hub_server, tmp_path / "reader", block=("eigenhub",)).result
    np.testing.assert_allclose(pulled, expected, atol=1e-6)
    again, name = run_client(PULL_MODULE.format(texts=TEXTS), hub_server, tmp_path / "other", block=()).result
    np.testing.assert_allclose(again, expected, atol=1e-6)
    assert name == "tester/bt2-folded"


def test_a_folded_model_is_loaded_by_ours_too(model, tmp_path):
    folder = save_folded(model, tmp_path)
    np.testing.assert_allclose(
        load_sentence_transformer(str(folder), device="cpu").encode(TEXTS), model.encode(TEXTS), atol=1e-6
    )
