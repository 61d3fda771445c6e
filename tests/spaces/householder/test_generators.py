# SPDX-License-Identifier: Apache-2.0
"""Generators by name, the embedded one, and checkpoints that become generators."""

import json
import pickle
import zipfile

import gradio as gr
import pytest
import torch
from torch.testing import assert_close

from eigenhub.embedded import shape_generator
from eigenhub.embedded.shape_factors import measure_shapes
from eigenhub.models.stylegan2 import StyleGAN2Generator
from tests.models.stylegan2.nvidia_files import nvidia_pickle
from tests.models.stylegan2.tiny import discriminator, generator
from tests.spaces.tiny_gan import RANK, values_of
from tests.support.models import tiny_vit


def test_the_embedded_generators_are_those_of_the_command(space, monkeypatch):
    """Nothing is trained here: what comes with the Space must carry the recipe that its command would use."""
    monkeypatch.setattr(shape_generator, "cached_folder", lambda _, recipe, build: recipe)
    recipes = [
        space.embedded_shapes.trained(),
        json.loads((space.embedded_shapes.SHAPES_FOLDER / "recipe.json").read_text()),
    ]
    for recipe in recipes:
        del recipe["config"]["transformers_version"]
    assert recipes[0] == recipes[1]


def test_the_embedded_generators_draw_what_their_latents_say(space):
    shapes = space.embedded_shapes
    for folder, rank in (shapes.SHAPES_FOLDER, 6), (shapes.UNPROJECTED_SHAPES_FOLDER, None):
        model = space.generators.read(folder)
        assert (model.config.projector_rank if model.config.projected_names else None) == rank
        z = model.latents(64, 0)
        wanted = shape_generator.latent_factors(z)
        found = measure_shapes(model.synthesis(model.mapping(z), "const"))
        unexplained = (found - wanted).square().mean(0) / wanted.var(0)
        assert (unexplained[:5] < 0.02).all() and unexplained[5] < 0.6, unexplained  # corners are the hardest to draw


def test_other_generators_are_named_or_refused(space, folder, tmp_path):
    load = space.generators.load_generator
    assert load(str(folder)).config.projector_rank == RANK
    tiny_vit().save_pretrained(tmp_path / "vit")
    discriminator().save_pretrained(tmp_path / "judge")
    for name, said in {
        str(tmp_path / "vit"): "it is a vit model, not a stylegan2 one",
        str(tmp_path / "judge"): "holds a StyleGAN2Discriminator, not a StyleGAN2Generator",
        str(tmp_path / "none"): "Cannot load",
        "ffhq.pkl": "a .pkl file can run code.*eigenhub householder convert FILE FOLDER",
        "/models/ffhq.PT": "a .PT file can run code",
    }.items():
        with pytest.raises(gr.Error, match=said):
            load(name)


def test_pickled_weights_of_a_folder_are_not_opened(space, folder, tmp_path):
    model = StyleGAN2Generator.from_pretrained(folder)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(gr.Error, match="Cannot load"):
        space.generators.load_generator(str(tmp_path))


def test_a_generator_that_is_too_large_is_refused(space, folder, tmp_path, monkeypatch):
    StyleGAN2Generator.from_pretrained(folder).save_pretrained(tmp_path)
    monkeypatch.setattr(space.generators, "MAX_PARAMETERS", 100)
    with pytest.raises(gr.Error, match="this page takes up to 100"):
        space.generators.load_generator(str(tmp_path))


def test_the_unprojected_generator_must_be_of_its_kind(space, tmp_path):
    generator(w_dim=10).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="its w_dim is 10, not 8"):
        space.generators.unprojected(space.names.SHAPES, str(tmp_path))
    default = space.generators.default_other
    shapes, before = space.names.SHAPES, space.names.SHAPES_BEFORE
    assert default(shapes, "") == before and default(before, before) == ""
    assert default("somebody/cats", before) == "" and default("somebody/cats", "somebody/old") == "somebody/old"


def test_classes(space, tmp_path):
    model = generator(c_dim=3)
    one, two = (space.generators.start(model, [0], 1.0, label) for label in (0, 2))
    assert not one.equal(two)
    with pytest.raises(ValueError, match="class must be between 0 and 2, got 3"):
        space.generators.start(model, [0], 1.0, 3)


def test_a_checkpoint_becomes_a_folder_that_the_page_opens(space, choice, visit, tmp_path):
    model = generator(1)
    (tmp_path / "cats.pkl").write_bytes(nvidia_pickle({"G": generator(), "G_ema": model, "D": discriminator()}))
    archive, report = space.api.convert(str(tmp_path / "cats.pkl"))
    assert report["networks"] == ["generator_ema", "generator", "discriminator"] and report["resolution"] == 16
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path / "out")
    loaded = space.generators.load_generator(str(tmp_path / "out" / "cats"))
    assert_close(loaded.sample(2), model.sample(2))
    html, file, button, folder = space.convert_tab.show(str(tmp_path / "cats.pkl"), 10)
    assert "16 px" in html and file.visible and button.visible
    shown = space.convert_tab.open_folder(folder, "sliders", *values_of(choice), visit, 0)
    assert shown[1] == folder and "none: its singular vectors" in shown[2]


def test_files_that_are_not_converted(space, tmp_path):
    refusal = space.convert_tab.show_refusal()
    assert "posix.system" in refusal[0] and "Nothing in the file has been run" in refusal[0] and refusal[3] == ""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"weights": 1}))
    (tmp_path / "b.onnx").write_bytes(b"")
    for name, said in {"a.pkl": "must hold one of G_ema", "b.onnx": "must end in one of"}.items():
        with pytest.raises(gr.Error, match=said):
            space.api.convert(str(tmp_path / name))
    with pytest.raises(gr.Error, match="Upload a checkpoint first"):
        space.api.convert(None)
    with pytest.raises(gr.Error, match="rank must be between"):
        space.api.convert(str(tmp_path / "a.pkl"), 0)
