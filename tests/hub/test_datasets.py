# SPDX-License-Identifier: Apache-2.0
"""The descriptions of the datasets are true of the rows, and every source of rows has one."""

import ast
from typing import Any

import pytest

from eigenhub.hub.datasets import FOLDER, dataset_slugs, get_dataset
from eigenhub.hub.resources import find
from eigenhub.hub.schema import SchemaError
from tests.house.sources import ROOT
from tests.hub.tiny_datasets import tiny


SLUGS = dataset_slugs()
#: Modules with a `load_…` that are no dataset of their own.
NO_DATASET = {
    "sentences": "reads files of the user",
    "shapes": "tensors; `shape_rows` makes rows of them",
}


def test_the_code_makes_the_rows():
    dataset = tiny("facts")
    names: dict[str, Any] = {}
    exec(dataset.code("default"), names)
    assert names["rows"]["test"][:] == dataset.load("default")["test"][:]
    assert "load_facts(FactRecipe(num_known=2," in dataset.code("default")
    code = get_dataset("digits").code("turned")
    assert code.endswith("import load_digits\n\nrows = load_digits(quarter_turns=1)")


def test_every_source_of_rows_has_a_description():
    loaders = {get_dataset(slug).loader.split(":")[0].rpartition(".")[2] for slug in SLUGS}
    found = set()
    for path in (ROOT / "src" / "eigenhub" / "embedded").glob("*.py"):
        names = {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
        found |= {path.stem} if any(name.startswith("load_") for name in names) else set()
    assert found - set(NO_DATASET) == loaders


@pytest.mark.parametrize("slug", SLUGS)
def test_a_licence_that_the_hub_does_not_know_has_a_name_and_a_link(slug):
    dataset = get_dataset(slug)
    assert (dataset.license == "other") == (dataset.license_name is not None) == (dataset.license_link is not None)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="`slug` must be one of arithmetic, .*; got 'nope'"):
        get_dataset("nope")
    with pytest.raises(ValueError, match="`config` of arithmetic must be one of add, subtract; got 'multiply'"):
        get_dataset("arithmetic").load("multiply")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("title:", "name:"), r"facts.yaml: unknown \['name'\]; allowed: slug, title"),
        (lambda text: text.replace("loader: ", "# "), "facts.yaml: missing loader"),
        (lambda text: "- a\n", "facts.yaml: expected a mapping"),
        (lambda text: text + "packages: torch\n", "packages"),
    ],
)
def test_a_bad_description_is_named(change, message, tmp_path, monkeypatch):
    text = find(f"{FOLDER}/facts.yaml").read_text("utf-8")
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "facts.yaml").write_text(change(text))
    monkeypatch.setattr("eigenhub.hub.resources.resource_root", lambda: tmp_path)
    with pytest.raises(SchemaError, match=message):
        get_dataset("facts")
