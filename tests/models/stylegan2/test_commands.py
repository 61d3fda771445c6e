# SPDX-License-Identifier: Apache-2.0
"""`eigenhub householder convert` and `export`, on files as a user has them."""

import pytest
import torch
from typer.testing import CliRunner

from eigenhub.models.stylegan2 import StyleGAN2Generator, StyleGAN2Networks, load_checkpoint
from eigenhub.models.stylegan2.commands import app
from tests.common.model_case import assert_equal_tensors
from tests.models.stylegan2.nvidia_files import nvidia_pickle
from tests.models.stylegan2.test_rosinality_format import RGB32, checkpoint, official
from tests.models.stylegan2.tiny import discriminator, gaussian, generator


def invoke(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("source", ["auto", "nvidia"])
def test_a_pickle_goes_to_a_folder_and_to_both_layouts(source, tmp_path):
    models = {"G": generator(0, **RGB32), "G_ema": generator(1, **RGB32), "D": discriminator(2, **RGB32)}
    (tmp_path / "network.pkl").write_bytes(nvidia_pickle(models))
    said = invoke("convert", tmp_path / "network.pkl", tmp_path / "out", "--from", source)
    assert "generator_ema, generator, discriminator at 32 px" in said
    networks = StyleGAN2Networks.from_pretrained(tmp_path / "out")
    assert_equal_tensors(networks.generator_ema, models["G_ema"])
    for layout in ("nvidia", "rosinality"):
        assert "wrote" in invoke("export", tmp_path / "out", tmp_path / f"{layout}.pt", "--to", layout)
        again = load_checkpoint(tmp_path / f"{layout}.pt")
        assert_equal_tensors(again.discriminator, models["D"])
        assert torch.equal(again.generator(gaussian(1, 8)).images, models["G"](gaussian(1, 8)).images)


def test_official_projectors_go_to_a_folder(tmp_path):
    path = checkpoint(tmp_path, g_ema=official(generator(**RGB32), 2))
    said = invoke("convert", path, tmp_path / "out", "--rank", 2)
    assert "projectors of rank 2 in b8.conv0, b16.conv0, b32.conv0" in said
    assert StyleGAN2Generator.from_pretrained(tmp_path / "out").directions("b8.conv0").vectors.shape == (8, 2)


def test_errors_are_one_message(tmp_path):
    (tmp_path / "text.pkl").write_text("no pickle")
    assert "is no pickle that can be read" in invoke("convert", tmp_path / "text.pkl", tmp_path / "out", code=2)
    assert "No such file" in invoke("convert", tmp_path / "none.pkl", tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()
    generator(c_dim=2).save_pretrained(tmp_path / "conditional")
    assert "needs `c_dim` = 0, got 2" in invoke("export", tmp_path / "conditional", tmp_path / "x.pt", code=2)
