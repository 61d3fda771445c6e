# SPDX-License-Identifier: Apache-2.0
"""Figures that are legible on both themes, and cost an import nothing."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from eigenhub.hub.space_figures import INK, PALETTE, legend_below, log_scale, new_figure, power_of_ten
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


def log_figure(seed):
    figure, axes = new_figure("what", "r")
    axes.plot([1e-4, 1e3], [2.0, 3e5 + seed])
    log_scale(axes, "x", "y")
    figure.savefig(drawn := BytesIO(), format="png")
    return [text.get_text() for axis in (axes.xaxis, axes.yaxis) for text in axis.get_ticklabels(which="both")], drawn


def test_figures_with_logarithmic_axes_are_drawn_in_threads():
    """The ticks that matplotlib labels by itself are formulas, and parsing those in two threads at once fails."""
    with ThreadPoolExecutor(8) as pool:
        labels = [text for texts, _ in pool.map(log_figure, range(12)) for text in texts]
    assert {"10⁻³", "10⁰", "10²"} <= set(labels) and not any("$" in text for text in labels)
    assert (power_of_ten(-10), power_of_ten(2.0)) == ("10⁻¹⁰", "10²")


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
