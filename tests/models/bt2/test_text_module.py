# SPDX-License-Identifier: Apache-2.0
"""The BT2 module inside of sentence-transformers: what it writes, saves and loads, and in which dtype."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.testing import assert_close

from eigenhub.models.bt2 import BasisTransformation, EncoderIdentity, load_sentence_transformer
from eigenhub.models.bt2.text_module import basis_transformation
from tests.models.bt2.text_cases import sentences, tiny_encoder, with_head
from tests.support.devices import require_package
from tests.support.processes import run_python


pytestmark = require_package("sentence_transformers")
OLD = EncoderIdentity("shop/v1", 12, revision="a1", prompts={"query": "q: "})
TEXTS = sentences(12)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(params=["linear", "normalized"])
def model(request, encoder):
    return with_head(encoder, added=request.param, old_identity=OLD)


def test_it_writes_three_embeddings(model):
    features = model(model.preprocess(TEXTS))
    whole, compat, new = (features[f"{name}_embedding"] for name in ("sentence", "compat", "new"))
    assert (whole.shape, compat.shape, new.shape) == ((12, 20), (12, 12), (12, 16))
    assert_close(whole[:, :12], compat)
    assert_close(whole.norm(dim=1), torch.ones(12))
    assert_close(new.norm(dim=1), torch.ones(12))
    expected = basis_transformation(model).head(new)
    assert_close(whole, expected.embedding)
    assert model.get_embedding_dimension() == 20


def test_truncating_gives_the_compatible_part(model):
    whole = model.encode(TEXTS)
    truncated = model.encode(TEXTS, truncate_dim=12)
    np.testing.assert_array_equal(truncated, whole[:, :12])
    assert (np.linalg.norm(truncated, axis=1) < 1).all()
    unit = model.encode(TEXTS, truncate_dim=12, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)


def test_encoding_follows_the_weights(model):
    """The changes of basis are kept as matrices between calls, until a weight changes."""
    before = model.encode(TEXTS)
    head = basis_transformation(model).head
    with torch.no_grad():
        expected = head(model(model.preprocess(TEXTS))["new_embedding"]).embedding
    np.testing.assert_allclose(before, expected, atol=1e-6)
    with torch.no_grad():
        head.compat_basis.skew += 0.1
    after = model.encode(TEXTS)
    assert np.abs(after - before).max() > 1e-3
    with torch.no_grad():
        expected = head(model(model.preprocess(TEXTS))["new_embedding"]).embedding
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert set(model.state_dict()) == {f"3.{name}" for name in basis_transformation(model).state_dict()} | {
        name for name in model.state_dict() if name.startswith("0.")
    }


def test_gradients_reach_head_and_trunk(model):
    model.train()
    features = model(model.preprocess(TEXTS))
    (features["compat_embedding"] ** 3).sum().backward()
    head = basis_transformation(model).head
    assert head.compat_basis.skew.grad.abs().max() > 0
    assert next(model.parameters()).grad.abs().max() > 0


def test_plain_loading_asks_for_the_flag_and_works_with_it(model, tmp_path):
    expected = model.encode(TEXTS)
    model.save(str(tmp_path))
    with pytest.raises(ValueError, match="Please pass the argument `trust_remote_code=True`"):
        SentenceTransformer(str(tmp_path), device="cpu")
    again = SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(again.encode(TEXTS), expected)
    module = basis_transformation(again)
    assert module.old_encoder == OLD and module.added == basis_transformation(model).added
    assert again.prompts["query"] == "the "


def test_our_loader_needs_no_flag(model, tmp_path):
    expected = model.encode(TEXTS)
    model.save(str(tmp_path))
    again = load_sentence_transformer(str(tmp_path), device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), expected)
    assert not again.trust_remote_code
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    again.save(str(tmp_path / "again"))
    twice = load_sentence_transformer(str(tmp_path / "again"), device="cpu")
    np.testing.assert_array_equal(twice.encode(TEXTS), expected)


def test_our_loader_takes_plain_models_too(encoder, tmp_path):
    encoder.save(str(tmp_path))
    np.testing.assert_array_equal(load_sentence_transformer(str(tmp_path)).encode(TEXTS), encoder.encode(TEXTS))


@pytest.mark.parametrize("name", ["evil.Module", "eigenhub.models.bt2.text_pairs.TextPairs", "os.system"])
def test_our_loader_refuses_foreign_classes(model, tmp_path, name):
    model.save(str(tmp_path))
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[1]["type"] = name
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran foreign code')")
    with pytest.raises(ValueError, match=f"needs {name}, which is part of neither sentence-transformers nor eigenhub"):
        load_sentence_transformer(str(tmp_path))


def test_our_loader_runs_no_code_of_the_trunk(model, tmp_path):
    """With the flag, a trunk's `auto_map` would run too."""
    model.save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "evil_bert", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran foreign code')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_sentence_transformer(str(tmp_path))


def test_our_loader_refuses_the_flag(tmp_path):
    with pytest.raises(ValueError, match="`trust_remote_code` is not taken here"):
        load_sentence_transformer(str(tmp_path), trust_remote_code=True)


def orthogonality_error(model):
    folded = basis_transformation(model).head.fold()
    matrix = torch.cat([folded.added, folded.new], dim=1).double()
    return (matrix @ matrix.mT - torch.eye(len(matrix))).abs().max().item()


def test_the_bases_stay_orthogonal_in_half_precision(model, tmp_path):
    model.save(str(tmp_path))
    half = load_sentence_transformer(str(tmp_path), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    assert half.dtype == torch.bfloat16
    assert orthogonality_error(half) < 1e-5
    assert orthogonality_error(model.to(torch.bfloat16)) < 1e-5
    vectors = half.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_bases_that_were_stored_in_half_precision_are_mended(model, tmp_path, recwarn):
    from safetensors.torch import load_file, save_file

    model.save(str(tmp_path))
    path = tmp_path / "3_BasisTransformation" / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    again = load_sentence_transformer(str(tmp_path), device="cpu")
    assert orthogonality_error(again) < 1e-5
    assert any("orthogonal" in str(warning.message) for warning in recwarn)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"old_dim": 21}, "old_dim <= new_dim \\+ added_dim"),
        ({"old_dim": 3}, "added_dim <= old_dim"),
        ({"old_dim": 12, "added_dim": -1}, "0 <= added_dim"),
        ({"old_dim": 12, "scale": 0.0}, "0 < scale < inf, got 0"),
        ({"old_dim": 12, "added": "both"}, "`added` must be one of normalized, linear; got 'both'"),
        ({"old_dim": 13, "old_identity": OLD}, "`old_dim` must be that of `old_identity`, 12, got 13"),
    ],
)
def test_sizes_that_cannot_be(sizes, said):
    with pytest.raises(ValueError, match=said):
        BasisTransformation(**({"in_features": 16, "added_dim": 4} | sizes))


def test_a_model_without_the_module(encoder):
    with pytest.raises(ValueError, match="`model` must end with a BasisTransformation, got Normalize"):
        basis_transformation(encoder)


MISSING = """
import eigenhub.models.bt2 as bt2
import numpy as np
found = {}
names = {
    "text": lambda: bt2.BasisTransformation,
    "loader": lambda: bt2.load_sentence_transformer,
    "faiss": lambda: bt2.CompatibleIndex.from_old(np.eye(2), [1, 2], {"model_id": "a", "dim": 2}),
    "lancedb": lambda: bt2.CompatibleIndex.from_old(np.eye(2), [1, 2], {"model_id": "a", "dim": 2}, folder="x", backend="lancedb"),
}
import json
for name, call in names.items():
    try:
        call()
    except ImportError as error:
        found[name] = str(error)
bt2.Relevance.of_pairs(2)
bt2.fit_head
print(json.dumps(found))
"""


def test_without_the_extra_the_package_works_and_says_what_is_missing(tmp_path):
    blocked = ("sentence_transformers", "faiss", "lancedb")
    found = run_python(MISSING, folder=tmp_path, block=blocked).result
    assert found == {
        "text": "the text side of BT2 needs sentence-transformers: pip install 'eigenhub[search]'",
        "loader": "the text side of BT2 needs sentence-transformers: pip install 'eigenhub[search]'",
        "faiss": "the FAISS backend of CompatibleIndex needs faiss-cpu: pip install 'eigenhub[search]'",
        "lancedb": "the LanceDB backend of CompatibleIndex needs lancedb: pip install 'eigenhub[search]'",
    }
