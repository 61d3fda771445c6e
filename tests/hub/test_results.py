# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml

from eigenhub.hub import results as results_module
from eigenhub.hub.results import ResultsError, load_results, parse_results, save_results


@pytest.fixture
def data(results_text):
    return yaml.safe_load(results_text)


def test_a_file_survives_loading_and_saving(results_text, tmp_path):
    (tmp_path / "a.yaml").write_text(results_text)
    results = load_results(tmp_path / "a.yaml")
    save_results(results, tmp_path / "b.yaml")
    assert load_results(tmp_path / "b.yaml") == results
    assert results.measured[0].date == "2026-01-31"
    assert results.measured[1].spread is None


def test_the_example_of_the_docstring_is_valid():
    example = results_module.__doc__.split("```yaml\n")[1].split("```")[0]
    assert parse_results(yaml.safe_load(example)).measured[0].value == 0.963


def test_rows_put_published_figures_beside_measured_ones(data):
    rows = parse_results(data).rows()
    assert [(m.value if m else None, p.value if p else None) for _, m, p in rows] == [
        (0.75, 0.875),
        (0.5, None),
        (None, 0.25),
    ]
    assert [figure.id for figure, _, _ in rows] == ["digits", "digits-peer", "letters"]


def set_in(data, path, value):
    *parents, last = path
    for key in parents:
        data = data[key]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["measured", 0, "value"], "high", r"measured\[0\]: .*'value'.*got str"),
        (["measured", 0, "value"], float("nan"), r"measured\[0\]: .*`value` must be finite, got nan"),
        (["measured", 0, "value"], True, r"measured\[0\]: .*'value'.*got bool"),
        (["measured", 0, "seeds"], [], r"measured\[0\]: .*at least one seed"),
        (["measured", 0, "seeds"], [1], r"measured\[0\]: .*`spread` goes with two or more seeds; got spread 0.5"),
        (["measured", 1, "seeds"], [1, 2], r"measured\[1\]: .*`spread` goes with two or more seeds; got spread None"),
        (["measured", 0, "spread"], -1.0, r"measured\[0\]: .*not negative, got -1"),
        (["measured", 0, "date"], "soon", r"measured\[0\]: .*soon"),
        (["measured", 0, "versions"], {}, r"measured\[0\]: .*at least one package"),
        (["measured", 0, "versions"], {"torch": 2.13}, r"measured\[0\]: .*'versions'"),
        (["measured", 0, "speed"], 1, r"measured\[0\]: unknown \['speed'\]; allowed: id, method"),
        (["measured", 0, "dataset"], "digits", r"measured\[0\].dataset: expected a mapping, got 'digits'"),
        (["measured", 0, "dataset", "size"], 3, r"measured\[0\].dataset: unknown \['size'\]"),
        (["measured", 0], "fast", r"measured\[0\]: expected a mapping"),
        (["measured"], {"a": 1}, r"'measured'.*expected a list"),
        (["published", 0, "source"], {"name": "x"}, r"published\[0\].source: missing url"),
        (["published", 0, "metric"], "f1", "id 'digits' names .*accuracy.* in `measured`, .*f1"),
        (["published", 1, "id"], "digits", "id 'digits' stands twice in `published`"),
        (["extra"], 1, r"unknown \['extra'\]; allowed: method, measured, published, findings"),
    ],
)
def test_bad_entries_are_named_with_their_place(data, path, value, message):
    set_in(data, path, value)
    with pytest.raises(ResultsError, match=message):
        parse_results(data)


@pytest.mark.parametrize("field", ["id", "command", "hardware", "date", "versions", "seeds", "setting", "value"])
def test_missing_fields_are_named(data, field):
    del data["measured"][0][field]
    with pytest.raises(ResultsError, match=rf"measured\[0\]: missing {field}"):
        parse_results(data)


@pytest.mark.parametrize(("text", "message"), [("[", "bad.yaml.* not YAML"), ("- 1", "bad.yaml: expected a mapping")])
def test_errors_name_the_file(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ResultsError, match=message):
        load_results(tmp_path / "bad.yaml")
