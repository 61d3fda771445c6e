# SPDX-License-Identifier: Apache-2.0
"""Figures that are legible on both themes, and cost an import nothing."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from eigenhub.hub.space_figures import INK, PALETTE, legend_below, new_figure
from tests.support.processes import run_python


def test_a_figure_has_a_transparent_ground_and_its_own_size():
    figure, axes = new_figure("what", "r", size=(2.0, 1.5))
    axes.plot([0, 1], [0, 1], label="line", color=PALETTE[0])
    legend_below(axes, columns=1)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    pixels = np.array(Image.open(drawn))
    assert pixels.shape == (300, 400, 4) and (pixels[..., 3] == 0).mean() > 0.5
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("what", "r")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["line"]


@pytest.mark.parametrize("ground", [(255, 255, 255), (11, 15, 25)])
def test_ink_stands_out_from_the_ground_of_each_theme(ground):
    """Contrast of at least 3, which large text and lines need."""

    def luminance(color):
        parts = [c / 255 for c in color]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ink = luminance(tuple(bytes.fromhex(INK[1:])))
    light, dark = sorted([ink, luminance(ground)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 3


def test_the_module_alone_imports_no_matplotlib(tmp_path):
    code = "import sys, eigenhub.hub.space_figures\nprint(int('matplotlib' in sys.modules))"
    assert run_python(code, folder=tmp_path).result == 0
