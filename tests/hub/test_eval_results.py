# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml
from huggingface_hub import ModelCardData

from eigenhub.hub.eval_results import to_eval_results, write_eval_results
from eigenhub.hub.results import parse_results
from eigenhub.hub.tables import results_table


@pytest.fixture
def results(results_text):
    return parse_results(yaml.safe_load(results_text))


def test_model_index_holds_the_methods_own_figures_only(results):
    card_data = ModelCardData(model_name="toy", eval_results=to_eval_results(results))
    (model,) = yaml.safe_load(card_data.to_yaml())["model-index"]
    (figure,) = model["results"]
    assert figure["task"] == {"type": "image-classification"}
    assert figure["dataset"] == {"type": "org/digits", "name": "Digits", "split": "test"}
    (metric,) = figure["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 0.75)


def test_eval_results_files_hold_leaderboard_tasks_only(results, tmp_path):
    results.measured[0].dataset.revision = "abc"
    (path,) = write_eval_results(results, tmp_path)
    assert path == tmp_path / ".eval_results" / "digits.yaml"
    (entry,) = yaml.safe_load(path.read_text())
    assert entry["dataset"] == {"id": "org/digits", "task_id": "upright", "revision": "abc"}
    assert (entry["value"], str(entry["date"])) == (0.75, "2026-01-31")
    assert "eigenhub demo toy" in entry["notes"]


def test_no_file_is_written_without_a_leaderboard(results, tmp_path):
    results.measured[0].dataset.task_id = None
    assert write_eval_results(results, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_table_shows_published_beside_measured(results):
    _, _, own, peer, foreign = results_table(results).splitlines()
    assert "0.75 ± 0.5 (2 seeds) | 0.875 ([On toys](https://example.org/toys)) | read in table 1" in own
    assert "rank 2 \\| small" in own
    assert "| lora | 0.5 (1 seed) |  |  |" in peer
    assert "not run here | 0.25" in foreign
