# SPDX-License-Identifier: Apache-2.0
"""What is pushed comes back the same: for readers with the package, without it, by tag, and without the Hub."""

import pytest
import yaml
from huggingface_hub import EvalResultEntry, ModelCard
from huggingface_hub import parse_eval_result_entries as parse

from eigenhub.methods import METHODS, get_method
from tests.house.sources import ROOT
from tests.hub_cards.shell import shell_problems
from tests.hub_users.cases import CASES


pytestmark = [pytest.mark.hub, pytest.mark.slow, pytest.mark.timeout(3600)]


def test_every_method_has_users():
    assert set(CASES) == {method.slug for method in METHODS}


def test_the_package_loads_what_was_pushed(slug, published, readers):
    before = published.answers[slug]
    assert readers["member"].online["answers"][slug] == {"main": before["main"], "v1": before["v1"]}
    assert before["main"] != before["v1"]


def test_it_loads_without_the_package(slug, published, readers):
    before = published.answers[slug]
    answer = readers["stranger"].online["answers"][slug]
    assert answer == before.get("plain", before["main"])
    assert answer == pytest.approx(before["main"], abs=1e-5)


def test_it_loads_without_the_hub(slug, readers):
    for reader in readers.values():
        assert reader.offline["answers"][slug] == reader.online["answers"][slug]


def test_files_arrive_as_they_were(slug, published):
    case, server = CASES[slug], published.server
    pushed = {"main": (case.repo, "main"), "v1": (case.repo, "v1")}
    pushed |= {"plain": (case.plain_repo, "main")} if case.exported else {}
    for folder, (repo, revision) in pushed.items():
        for path in (published.folder / slug / folder).rglob("*"):
            if path.is_file():
                name = path.relative_to(published.folder / slug / folder).as_posix()
                assert server.read(repo, name, revision=revision) == path.read_bytes(), name


def test_card_and_figures_are_those_of_the_results_file(slug, published):
    case, server = CASES[slug], published.server
    card = ModelCard(server.read(case.repo, "README.md").decode())
    (entry,) = card.data.eval_results
    files = [name for name in server.files(case.repo) if name.startswith(".eval_results/")]
    (listed,) = parse(yaml.safe_load(server.read(case.repo, files[0])))
    results = yaml.safe_load(server.read(case.repo, "results.yaml"))
    assert isinstance(listed, EvalResultEntry) and files == [".eval_results/board.yaml"]
    assert entry.metric_value == listed.value == results["measured"][0]["value"]
    assert card.data.model_name == case.repo and case.repo in card.text
    assert shell_problems(card.text) == []


def test_the_space_arrives_whole(slug, published):
    repo, folder = f"{CASES[slug].repo}-space", ROOT / get_method(slug).space
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {name for name in names if "__pycache__" not in name and not name.startswith(".gradio/")}
    assert set(published.server.files(repo, kind="space")) == expected | {".gitattributes"}
    for name in expected:
        assert published.server.read(repo, name, kind="space") == (folder / name).read_bytes()


def test_the_code_of_the_card_runs(slug, readers):
    """As pasted: with the package, that of an exported model without it, and both once more without the Hub."""
    for reader in readers.values():
        for found in (reader.online, reader.offline):
            assert found["cards"].get(slug, {"error": None})["error"] is None


def test_exported_models_have_cards(readers):
    assert set(readers["stranger"].online["cards"]) == {"s5_ptd", "bt2", "householder"}


def test_a_private_repository_is_refused_clearly_without_a_token(published):
    assert "private repository" in published.refusal and "token" in published.refusal
