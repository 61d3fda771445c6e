# SPDX-License-Identifier: Apache-2.0
"""A saved dataset loads again equal to the rows that were made, and its card says what it is."""

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from eigenhub.hub.cards import CardError
from eigenhub.hub.dataset_cards import TEMPLATE, save_dataset, size_category
from eigenhub.hub.datasets import dataset_slugs, get_dataset
from eigenhub.hub.resources import find
from tests.hub.tiny_datasets import tiny
from tests.hub_cards.hub_metadata import LICENSES, TASKS


QUICK = ("arithmetic", "facts")


def same_rows(found, made):
    assert {name: rows.features for name, rows in found.items()} == {
        name: rows.features for name, rows in made.items()
    }
    for split, rows in made.items():
        assert found[split].with_format("arrow")[:].equals(rows.with_format("arrow")[:]), split


@pytest.mark.parametrize(
    "slug", [slug if slug in QUICK else pytest.param(slug, marks=pytest.mark.slow) for slug in dataset_slugs()]
)
def test_a_folder_gives_the_rows_back(slug, tmp_path):
    dataset = tiny(slug)
    folder = save_dataset(dataset, tmp_path / "data")
    data = DatasetCard.load(folder / "README.md").data
    infos = data["dataset_info"] if isinstance(data["dataset_info"], list) else [data["dataset_info"]]
    sizes = {info.get("config_name", "default"): info for info in infos}
    for config in dataset.configs:
        made = dataset.load(config)
        same_rows(load_dataset(str(folder), config, cache_dir=tmp_path / "cache"), made)
        assert {tuple(columns) for columns in made.column_names.values()} == {tuple(dataset.fields)}
        assert {split["name"]: split["num_examples"] for split in sizes[config]["splits"]} == made.num_rows
    on_disk = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    assert sum(info["download_size"] for info in infos) == on_disk
    assert data.pretty_name == dataset.title and data.license == dataset.license
    configs = [config["config_name"] for config in data["configs"]]
    default = [config["config_name"] for config in data["configs"] if config.get("default")]
    assert sorted(configs) == sorted(dataset.configs)
    assert default == ([] if configs == ["default"] else [next(iter(dataset.configs))])


@pytest.mark.parametrize("slug", dataset_slugs())
def test_tasks_and_licence_are_those_of_the_hub(slug):
    dataset = get_dataset(slug)
    assert set(dataset.tasks) <= TASKS and dataset.license in LICENSES


def test_the_first_configuration_is_read_unless_told_otherwise(tmp_path):
    dataset = tiny("arithmetic")
    folder = save_dataset(dataset, tmp_path / "data", repo_id="me/sums")
    same_rows(load_dataset(str(folder), cache_dir=tmp_path / "cache"), dataset.load("add"))
    assert 'load_dataset("me/sums", "add")' in (folder / "README.md").read_text()
    assert "synthetic" in DatasetCard.load(folder / "README.md").data.tags


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="`folder` must be a folder that does not exist yet or is empty, got"):
        save_dataset("facts", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_template_that_asks_for_too_much_is_refused(tmp_path, monkeypatch):
    text = find(TEMPLATE).read_text("utf-8")
    (tmp_path / "card.jinja").write_text(text + "{{ nobody_gives }}")
    monkeypatch.setattr("eigenhub.hub.dataset_cards.find", lambda _: tmp_path / "card.jinja")
    with pytest.raises(CardError, match="'nobody_gives' is undefined"):
        save_dataset(tiny("pendulum"), tmp_path / "data")


def test_sizes_have_the_names_of_the_hub():
    assert [size_category(n) for n in (1, 999, 1_000, 50_000, 999_999)] == [
        "n<1K",
        "n<1K",
        "1K<n<10K",
        "10K<n<100K",
        "100K<n<1M",
    ]
