# SPDX-License-Identifier: Apache-2.0
"""What holds for the card of every method: metadata that the Hub takes, one source of figures, commands that exist."""

from copy import deepcopy
from functools import cache

import pytest
import yaml
from huggingface_hub import ModelCard, eval_result_entries_to_yaml, parse_eval_result_entries

from eigenhub.hub.cards import render_card
from eigenhub.hub.datasets import dataset_slugs, get_dataset
from eigenhub.hub.eval_results import own_figures, to_entries
from eigenhub.hub.resources import find
from eigenhub.hub.results import Results, load_results, save_results
from eigenhub.methods import METHODS, get_method
from tests.hub_cards.hub_metadata import ELSEWHERE, LIBRARIES, LICENSES, PUBLIC, TASKS
from tests.hub_cards.shell import shell_problems


every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.slug)


@cache
def figures_of(slug: str) -> Results:
    """The results file of a method, not to be written to."""
    return load_results(find(get_method(slug).results))


@cache
def card_of(slug: str) -> str:
    return str(render_card(slug))


def indexed(card: str) -> list[tuple[str, str, float]]:
    """Figures as the Hub's parser reads them from a card."""
    return [(r.dataset_type, r.metric_name, r.metric_value) for r in ModelCard(card).data.eval_results or []]


def listed(results: Results) -> list[tuple[str, str, float]]:
    """Figures as the Hub's parser reads them from `.eval_results` files, as if every dataset had a leaderboard."""
    results = deepcopy(results)
    for figure in results.measured:
        figure.dataset.task_id = "any"
    files = {stem: yaml.safe_dump(eval_result_entries_to_yaml(found)) for stem, found in to_entries(results).items()}
    entries = [entry for text in files.values() for entry in parse_eval_result_entries(yaml.safe_load(text))]
    return [(entry.dataset_id, entry.notes, entry.value) for entry in entries]


@every_method
def test_both_forms_say_what_the_results_file_says(method):
    own = own_figures(figures_of(method.slug))
    assert own, "a card without a figure of its own"
    assert indexed(card_of(method.slug)) == [(m.dataset.id, f"{m.metric} ({m.setting})", m.value) for m in own]
    entries = [(m.dataset.id, f"{m.metric}; {m.setting}; {m.command}", m.value) for m in own]
    assert sorted(listed(figures_of(method.slug))) == sorted(entries)


@every_method
def test_a_figure_has_no_second_source(method, tmp_path, monkeypatch):
    results = deepcopy(figures_of(method.slug))
    own_figures(results)[0].value = 123.25
    path = tmp_path / method.results
    path.parent.mkdir(parents=True)
    save_results(results, path)
    (tmp_path / method.card).write_text(find(method.card).read_text("utf-8"))
    before = indexed(card_of(method.slug)), listed(figures_of(method.slug))
    monkeypatch.setattr("eigenhub.hub.resources.resource_root", lambda: tmp_path)
    after = indexed(str(render_card(method))), listed(load_results(path))
    for old, new in zip(before, after, strict=True):
        (changed,) = [b for a, b in zip(old, new, strict=True) if a != b]
        assert changed[-1] == 123.25


@every_method
def test_metadata_is_known_to_the_hub(method):
    data = ModelCard(card_of(method.slug)).data
    assert data.license in LICENSES and data.library_name in LIBRARIES
    assert data.pipeline_tag is None or data.pipeline_tag in TASKS
    assert {"eigenhub", method.slug} & set(data.tags) and len(set(data.tags)) == len(data.tags)
    assert {result.task_type for result in data.eval_results} <= TASKS


@every_method
def test_every_dataset_has_a_card_or_is_public(method):
    ours = {name for slug in dataset_slugs() for name in get_dataset(slug).ids}
    results = figures_of(method.slug)
    assert {figure.dataset.id for figure in results.measured} <= ours | PUBLIC
    assert {figure.dataset.id for figure in results.published} <= ours | PUBLIC | set(ELSEWHERE)


def test_no_dataset_is_listed_in_vain():
    used = {
        figure.dataset.id
        for method in METHODS
        for results in [figures_of(method.slug)]
        for figure in [*results.measured, *results.published]
    }
    assert PUBLIC | set(ELSEWHERE) | {name for slug in dataset_slugs() for name in get_dataset(slug).ids} <= used


@every_method
def test_commands_of_the_card_exist(method):
    assert shell_problems(card_of(method.slug)) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("eigenhub fly sorsa", "there is no command 'fly'"),
        ("eigenhub householder fly", "there is no command 'fly'"),
        ("eigenhub card sorsa --fly", "there is no flag --fly"),
        ("pip install 'eigenhub[search,fly]'", "eigenhub has no extra fly"),
        ("python benchmarks/fly.py", "benchmarks/fly.py does not exist"),
        ("fly --now", "fly is no program that a reader has"),
    ],
)
def test_a_command_that_does_not_exist_is_named(line, problem):
    (found,) = shell_problems(f"```bash\n{line}\n```\n")
    assert problem in found


def test_a_command_over_two_lines_is_one():
    assert shell_problems("```bash\neigenhub train --num_processes 8 \\\n    sorsa --lr 1  # why\n```\n") == []
