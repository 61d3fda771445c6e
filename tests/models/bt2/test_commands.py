# SPDX-License-Identifier: Apache-2.0
"""`eigenhub bt2 fit-head`, `eval` and `status`, on files and folders as a user has them."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from typer.testing import CliRunner

from eigenhub.models.bt2 import (
    commands,
    docstring_pairs,
    identity_of,
    load_identity,
    load_sentence_transformer,
    read_pairs,
)
from eigenhub.models.bt2.commands import app
from eigenhub.models.bt2.text_module import BasisTransformation
from tests.models.bt2.index_cases import Gallery
from tests.models.bt2.text_cases import pairs, sentences, tiny_encoder
from tests.support.devices import require_package
from tests.support.models import tiny_tokenizer
from tests.support.processes import run_python


pytestmark = [require_package("sentence_transformers"), require_package("faiss")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two encoders and files of texts."""
    root = tmp_path_factory.mktemp("commands")
    for name, width, seed in (("new", 16, 1), ("old", 12, 2)):
        tiny_encoder(root, width, seed).save(str(root / name))
    for name, seed in (("fit", 0), ("test", 9)):
        rows = pairs(60, seed)
        lines = ["question\tanswer", *(f"{q}\t{d}" for q, d in zip(rows.queries, rows.documents, strict=True))]
        (root / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (root / "plain.txt").write_text("\n".join(sentences(50)) + "\n")
    return root


def invoke(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return done


def encoders_of(folders):
    return "--old", folders / "old", "--new", folders / "new"


def fit(folders, out, *arguments, code=0):
    return invoke(
        "fit-head",
        *encoders_of(folders),
        "--texts",
        folders / "fit.tsv",
        "--out",
        out,
        "--added-dim",
        4,
        *arguments,
        code=code,
    )


@pytest.fixture(scope="module")
def fitted(folders):
    fit(folders, folders / "fitted")
    return folders / "fitted"


def test_fit_head_writes_a_model_that_plain_sentence_transformers_loads(folders, tmp_path):
    done = fit(folders, tmp_path / "out")
    assert "60 pairs from" in done.stderr and "encode(texts, truncate_dim=12)" in done.output
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert model.encode(["the cat"]).shape == (1, 20)
    identity = load_identity(str(tmp_path / "out"))
    assert (identity.model_id, identity.dim) == ("new+bt2", 20)
    assert identity.compatible_with.model_id == "old" and identity.compatible_with.prompts["query"] == "the "
    compatible = model.encode_query(["the cat"], truncate_dim=12, normalize_embeddings=True)
    old = SentenceTransformer(str(folders / "old"), device="cpu").encode_query(["the cat"])
    assert (compatible * old).sum() > 0.5


def test_fit_head_on_texts_without_documents(folders, tmp_path):
    done = invoke(
        "fit-head", *encoders_of(folders), "--texts", folders / "plain.txt", "--out", tmp_path, "--added-dim", 0
    )
    assert "50 texts from" in done.stderr
    assert SentenceTransformer(str(tmp_path), device="cpu").get_embedding_dimension() == 16


def test_fit_head_in_the_form_of_the_paper(folders, tmp_path):
    done = fit(folders, tmp_path, "--added", "normalized", "--epochs", 1)
    assert "eigenhub.models.bt2.load_sentence_transformer(" in done.output
    model = load_sentence_transformer(str(tmp_path), device="cpu")
    assert isinstance(model[-1], BasisTransformation) and model[-1].added == "normalized"


def test_eval_prints_what_an_owner_asks_for(folders, fitted):
    done = invoke(
        "eval", *encoders_of(folders), "--model", fitted, "--texts", folders / "test.tsv",
        "--num-vectors", 2_000_000, "--price-per-hour", 3,
    )  # fmt: skip
    for part in ("2,000,000", "hours to embed them anew", "money", "downtime", "recall@10 before, now, after",
                 "extra storage", "+67%", "share backfilled", "with old_scale"):  # fmt: skip
        assert part in done.output, part


def test_eval_says_when_there_is_nothing_to_gain(folders):
    """The roles are changed: whichever random encoder is the worse one becomes the new one."""
    arguments = ["--texts", folders / "test.tsv", "--fit-texts", folders / "fit.tsv", "--added-dim", 4, "--json"]
    found = json.loads(invoke("eval", *encoders_of(folders), *arguments).output)
    swapped = found["difference"][0] > 0
    old, new = ("new", "old") if swapped else ("old", "new")
    done = invoke("eval", "--old", folders / old, "--new", folders / new, *arguments[:-1], "--strict", code=1)
    assert "NOTHING TO GAIN: the new encoder is not better than the old one on these texts" in done.output


def test_eval_with_all_baselines_as_json(folders):
    done = invoke(
        "eval", *encoders_of(folders), "--texts", folders / "test.tsv", "--fit-texts", folders / "fit.tsv",
        "--added-dim", 4, "--baselines", "--json",
    )  # fmt: skip
    report = json.loads(done.output)
    assert len(report["paths"]) == 13 and report["paths"][-1]["name"] == "full re-embedding"
    assert {"metrics", "verdict", "hours", "bytes_after", "extra_storage", "old_scale"} <= set(report)
    (head,) = [path for path in report["paths"] if path["name"] == "BT2 head"]
    assert head["now"] == pytest.approx(report["metrics"]["new/old"]["recall@10"])


def test_eval_refuses_a_model_that_was_fitted_to_another_encoder(folders, fitted, tmp_path):
    tiny_encoder(tmp_path, 12, seed=7).save(str(tmp_path / "other"))
    done = invoke(
        "eval", "--old", tmp_path / "other", "--new", folders / "new", "--model", fitted, "--texts",
        folders / "test.tsv", code=2,
    )  # fmt: skip
    assert "`model` was fitted to old@" in done.stderr and ", not to other@" in done.stderr


def test_static_encoders_have_an_identity_by_their_folder(tmp_path):
    """They have no configuration of transformers that would remember where they came from."""
    tokenizer = tiny_tokenizer()
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=6)], device="cpu").save(
        str(tmp_path / "static")
    )
    identity = identity_of(load_sentence_transformer(str(tmp_path / "static"), device="cpu"))
    assert (identity.model_id, identity.dim, identity.normalized) == ("static", 6, False)


def test_status_beside_a_writer(tmp_path):
    gallery = Gallery()
    index = gallery.index(folder=tmp_path)
    index.backfill(gallery.ids[:75], gallery.new[:75])
    done = invoke("status", tmp_path)
    assert "shop/v1@a1: 225 of 300 items\nshop/v2@b2: 75 of 300 items\nbackfilled: 25.0%" in done.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--texts": "nowhere.tsv"}, "nowhere.tsv is not a file"),
        ({"--texts": "docstrings:no_such_package"}, "must name installed packages or 'python', got 'no_such_package'"),
        (
            {"--query-column": "title"},
            "`query_column` must be a column of text in .*, one of question, answer; got 'title'",
        ),
        ({"--added-dim": "13"}, "`added_dim` must satisfy added_dim <= old_dim"),
        ({"--scale": "0"}, "`scale` must satisfy 0 < scale"),
        ({"--lr": "-1"}, "`lr` must be positive, got -1"),
    ],
)
def test_mistakes_are_one_line(folders, tmp_path, change, said):
    given = {"--texts": folders / "fit.tsv", "--out": tmp_path, "--added-dim": 4, "--epochs": 1} | change
    done = invoke("fit-head", *encoders_of(folders), *(part for pair in given.items() for part in pair), code=2)
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
    import re

    assert re.search(said, done.stderr), done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "give --model, or --fit-texts"), (["--model", "m", "--baselines"], "--baselines needs --fit-texts")],
)
def test_eval_says_what_it_needs(folders, arguments, said):
    done = invoke("eval", *encoders_of(folders), "--texts", folders / "test.tsv", *arguments, code=2)
    assert said in done.stderr


def test_help_is_light(tmp_path):
    """Neither torch nor sentence-transformers load for a question about flags."""
    code = (
        "import sys\nfrom types import ModuleType\n"
        "from importlib.util import spec_from_file_location, module_from_spec\n"
        f"spec = spec_from_file_location('commands', {commands.__file__!r})\n"
        "module = module_from_spec(spec)\nspec.loader.exec_module(module)\n"
        "from typer.testing import CliRunner\n"
        "done = CliRunner().invoke(module.app, ['eval', '--help'])\n"
        "assert done.exit_code == 0 and '--num-vectors' in done.output\n"
        "print('true' if not {'torch', 'transformers'} & set(sys.modules) else 'false')\n"
    )
    assert run_python(code, folder=tmp_path).result is True


# ---------------------------------------------------------------- texts


def test_columns_and_formats(tmp_path):
    rows = [{"n": 1, "text": "a b", "title": "t", "body": "c d"}, {"n": 2, "text": "e", "title": "u", "body": None}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_pairs(str(tmp_path / "rows.jsonl"))
    assert (found.queries, found.documents) == (["a b", "e"], ["t", "u"])
    found = read_pairs(str(tmp_path / "rows.jsonl"), "title", "body")
    assert (found.queries, found.documents) == (["t"], ["c d"])  # a row without a document is no pair
    (tmp_path / "rows.csv").write_text('query,document\n"a, b",c\n')
    assert read_pairs(str(tmp_path / "rows.csv")).queries == ["a, b"]


def test_a_limit_draws_rows_that_stay_together(tmp_path):
    (tmp_path / "rows.tsv").write_text("q\td\n" + "".join(f"q{i}\td{i}\n" for i in range(50)))
    found = read_pairs(str(tmp_path / "rows.tsv"), limit=10, seed=1)
    assert len(found) == 10 and [q[1:] for q in found.queries] == [d[1:] for d in found.documents]
    assert (
        found
        == read_pairs(str(tmp_path / "rows.tsv"), limit=10, seed=1)
        != read_pairs(str(tmp_path / "rows.tsv"), limit=10, seed=2)
    )


def test_equal_documents_answer_for_each_other(tmp_path):
    (tmp_path / "rows.tsv").write_text("q\td\nx\tsame\ny\tother\nz\tsame\n")
    relevance = read_pairs(str(tmp_path / "rows.tsv")).relevance()
    assert [rows.tolist() for rows in relevance.relevant] == [[0, 2], [1], [0, 2]]


def test_docstrings_are_first_sentence_and_rest(tmp_path, monkeypatch):
    package = tmp_path / "sample_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        '"""Reads maps of a whole country at once. Only those of the last ten years are complete, and older ones have gaps."""\n'
        "class Map:\n"
        '    """Draws the map in the size that is asked for.\n\n    The size is given in pixels, and both sides must be '
        'even numbers."""\n'
        '    def no(self):\n        """Too short."""\n'
    )
    (package / "broken.py").write_text("def (")
    (package / "tests").mkdir()
    (package / "tests" / "other.py").write_text((package / "__init__.py").read_text().replace("maps", "tests"))
    monkeypatch.syspath_prepend(tmp_path)
    assert docstring_pairs(["sample_package"]) == [
        (
            "Reads maps of a whole country at once.",
            "Only those of the last ten years are complete, and older ones have gaps.",
        ),
        (
            "Draws the map in the size that is asked for.",
            "The size is given in pixels, and both sides must be even numbers.",
        ),
    ]


def test_docstrings_of_real_packages():
    found = docstring_pairs(["asyncio", "email", "json"], limit=100)
    assert len(found) == 100 == len({pair.query for pair in found}) == len({pair.document for pair in found})
    assert all(len(pair.document.split()) <= 60 for pair in found)
    words = np.mean([len(pair.query.split()) for pair in found])
    assert 6 < words < 20
