# SPDX-License-Identifier: Apache-2.0
"""What programs get, and what they are told."""

import json

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from tests.spaces.checks import check_endpoints_are_described
from tests.spaces.tiny_gan import LAYER, LAYERS, RANGE, RANK


def test_endpoints_agree_with_one_another(space, choice):
    found = space.api.directions(basis="jacobian", layer=LAYER, edit="style")
    json.dumps(found)
    assert found["layers"] == LAYERS and len(found["vectors"]) == RANK
    assert found["effects"] == sorted(found["effects"], reverse=True)
    assert set(found["factors"][0]) == set(space.names.FACTORS)
    frames, film = space.api.traverse(layer=LAYER, basis="jacobian", edit="style", number=3, frames=5)
    assert [step for _, step in frames] == ["−3", "−1.5", "0", "+1.5", "+3"]
    (image, number), *_ = space.api.sample(first=3, count=2)
    assert number == "3" and np.array_equal(np.array(image), np.array(frames[2][0]))
    with Image.open(film) as gif:
        assert gif.n_frames == 8 and gif.info["loop"] == 0
    assert found["ranges"] == [RANGE, "+".join(LAYERS)]
    frames, _ = space.api.traverse(layer=RANGE, frames=3)
    assert [step for _, step in frames] == ["−4.5", "0", "+4.5"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda api: api.sample(model=" "), "Name a generator"),
        (lambda api: api.sample(psi=3), "truncation must be between 0 and 1.5"),
        (lambda api: api.sample(count=100), "between 1 and 32"),
        (lambda api: api.sample(first=-1), "number of the sample"),
        (lambda api: api.sample(noise="loud"), "noise must be one of"),
        (lambda api: api.traverse(layer="b7.conv0"), "must be one of b4.conv1"),
        (lambda api: api.traverse(direction=RANK), "direction must be between 0 and 2"),
        (lambda api: api.traverse(direction=99), "direction must be between 0 and 15"),
        (lambda api: api.traverse(frames=1), "frames must be between"),
        (lambda api: api.traverse(reach=-1), "reach must be between"),
        (lambda api: api.traverse(edit="both"), "edit must be one of"),
        (lambda api: api.directions(basis="pca"), "basis must be one of"),
        (lambda api: api.directions(basis="saved"), "no directions of b4.conv1 have been loaded"),
        (lambda api: api.directions(basis="aligned"), "has the bases parameter, jacobian, sefa"),
    ],
)
def test_what_cannot_be_drawn_is_said(space, call, said):
    with pytest.raises(gr.Error, match=said):
        call(space.api)


def test_every_public_endpoint_is_described(space):
    check_endpoints_are_described(space.app.demo, ("sample", "traverse", "directions", "convert"))
