# SPDX-License-Identifier: Apache-2.0
"""The Space with a tiny pair in place of the embedded generators."""

import pytest

from eigenhub.embedded.shape_generator import UNPROJECTED_FOLDER
from tests.spaces.conftest import modules_of
from tests.spaces.tiny_gan import LAYER, save_pair


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="package")
def space(folder):
    with modules_of("householder") as modules, pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules.generators, "SHAPES_FOLDER", folder)
        patch.setattr(modules.generators, "UNPROJECTED_SHAPES_FOLDER", folder / UNPROJECTED_FOLDER)
        yield modules


@pytest.fixture
def choice(space):
    names = space.names
    return space.visits.Choice.of(names.SHAPES, 3, 0.7, "const", 0, LAYER, "parameter", "ws", names.SHAPES_BEFORE)


@pytest.fixture
def visit(space):
    return space.visits.Visit()
