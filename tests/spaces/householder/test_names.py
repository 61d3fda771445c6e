# SPDX-License-Identifier: Apache-2.0
"""Names of directions: there and back in archives, in menus and on the tab."""

import zipfile
from dataclasses import replace

import gradio as gr
import pytest
import torch
from torch.testing import assert_close

from eigenhub.models.stylegan2 import load_directions
from tests.models.stylegan2.tiny import generator
from tests.spaces.tiny_gan import LAYER, path_of, values_of


def test_names_travel_with_their_vectors(space, choice, visit):
    named = visit.named(choice.place, 1, "  left \n to right ").named(choice.place, 0, "hue")
    other = replace(choice, layer="b8.conv1", basis="jacobian")
    named = named.named(other.place, 2, "x" * 100)
    assert visit.names == {} and named.name_of(choice.place, 1) == "left to right"
    path, layers = space.labels.write_archive(choice, named)
    assert set(layers) == {LAYER, "b8.conv1"}
    read = space.labels.read_archive(path)
    assert read[LAYER].labels == {0: "hue", 1: "left to right"} and read[LAYER].basis == "parameter"
    assert read["b8.conv1"].labels == {2: "x" * space.names.MAX_NAME} and read["b8.conv1"].basis == "jacobian"
    assert_close(read[LAYER].directions.vectors, space.finding.find(choice, visit).directions.vectors)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path + ".folder")
    assert load_directions(path + ".folder/directions")[LAYER].labels == read[LAYER].labels
    assert space.labels.load_names(path + ".folder")[LAYER].labels == read[LAYER].labels
    taken = space.labels.taken(choice, visit, read)
    saved = replace(choice, basis="saved")
    assert taken.name_of(saved.place, 1) == "left to right"
    assert_close(space.finding.find(saved, taken).effects, space.finding.find(choice, visit).effects)
    again, _ = space.labels.write_archive(saved, taken)
    assert space.labels.read_archive(again)[LAYER].basis == "parameter"


def test_names_stand_in_menus_and_disappear(space, choice, visit):
    named = visit.named(choice.place, 1, "hue").named(replace(choice, basis="sefa").place, 0, "size")
    model = space.generators.generator(choice.model)
    menu = {name: label for label, name in space.reports.layer_choices(model, choice.model, named)}
    assert menu[LAYER] == f"8 px, {LAYER}: hue, size" and menu["b8.conv1"] == "8 px, b8.conv1"
    assert f"<td>hue</td><td>{LAYER}</td>" in space.reports.names_table(choice.model, named)
    assert named.named(choice.place, 1, " ").names_in(choice.model, LAYER) == ["size"]
    assert "has a name yet" in space.reports.names_table("somebody/cats", named)
    found = space.finding.find(choice, visit)
    assert "direction 2, <b>hue</b>." in space.sections.sentence(choice, named, found, 1)
    with pytest.raises(ValueError, match="no direction of this generator has a name yet"):
        space.labels.write_archive(choice, visit)


def test_what_strangers_write_is_text(space, choice, visit):
    named = visit.named(choice.place, 0, "<img src=x>")
    found = space.finding.find(choice, named)
    for html in (
        space.reports.names_table(choice.model, named),
        space.reports.effect_table(choice, named, found),
        space.reports.factor_table(choice, named, found),
        space.sections.sentence(choice, named, found, 0),
        space.convert_tab.refused("<script>")[0],
    ):
        assert "<img" not in html and "<script" not in html


def test_archives_that_cannot_be_used(space, choice, visit, tmp_path, monkeypatch):
    (tmp_path / "text.zip").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    for name, said in {"text.zip": "no ZIP archive", "empty.zip": "must hold one directions.safetensors"}.items():
        with pytest.raises(ValueError, match=said):
            space.labels.read_archive(str(tmp_path / name))
    path, _ = space.labels.write_archive(choice, visit.named(choice.place, 0, "hue"))
    given, model = space.labels.read_archive(path), generator(w_dim=10)
    with pytest.raises(ValueError, match="this generator reads 10 numbers"):
        space.labels.fitting(model, given)
    with pytest.raises(ValueError, match="has no layer b64.conv0"):
        space.labels.fitting(model, {"b64.conv0": given[LAYER]})
    given[LAYER].directions.vectors[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not all finite"):
        space.labels.fitting(generator(), given)
    monkeypatch.setattr(space.labels, "MAX_ARCHIVE", 10)
    with pytest.raises(ValueError, match="must hold one"):
        space.labels.read_archive(path)
    with pytest.raises(ValueError, match="there is no directions.safetensors with directions.json"):
        space.labels.load_names(str(tmp_path))


def test_names_by_known_factors(space, choice, visit):
    found = space.finding.find(choice, visit)
    clear = torch.tensor(
        [[0.0, 0.3, 0.0, 0.2, 0.0, 0.0], [0.3, 0.28, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.01, 0.0, 0.0]]
    )
    assert space.labels.suggested(replace(found, factors=clear)) == {0: "up and down"}
    assert space.labels.suggested(replace(found, factors=None)) == {}


def test_names_on_the_page(space, choice, visit):
    tab = space.names_tab
    empty, named, layers, basis, *parts = tab.give("names", *values_of(choice), visit, 1, "hue")
    assert (
        empty == "" and named.name_of(choice.place, 1) == "hue" and "hue" in dict(map(reversed, layers.choices))[LAYER]
    )
    assert parts[6].label.startswith("2 · hue") and "hue" in parts[-1]
    file = tab.save(*values_of(choice), named)
    assert file.visible
    fresh, layers, basis, *_ = tab.load_archive("names", *values_of(choice), visit, path_of(file))
    assert basis.value == "saved" and fresh.name_of(replace(choice, basis="saved").place, 1) == "hue"
    other = replace(choice, layer="b4.conv1", basis="jacobian")
    _, layers, basis, *_ = tab.load_archive("names", *values_of(other), visit, path_of(file))
    assert layers.value == LAYER and basis.value == "saved"
    with pytest.raises(gr.Error, match="Name a Hub id or a folder"):
        tab.load_named("names", *values_of(choice), visit, "")
