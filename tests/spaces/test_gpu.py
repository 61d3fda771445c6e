# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml

from tests.spaces.gpu_reach import lends, unlent
from tests.support.processes import ROOT


SPACES = sorted(path.parent for path in (ROOT / "spaces").glob("*/app.py"))

TO_DEVICE = "computing.compute > computing.place"
COMPUTING = """
def place(model):
    model.to("cuda")

def compute():
    place(None)

class Run:
    def __init__(self):
        compute()
"""


@pytest.mark.parametrize("folder", SPACES, ids=lambda folder: folder.name)
def test_whatever_computes_on_a_gpu_is_lent_one(folder):
    assert unlent(folder) == []


@pytest.mark.parametrize("folder", SPACES, ids=lambda folder: folder.name)
def test_a_lent_gpu_is_asked_for_where_the_hardware_has_one(folder):
    _, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["suggested_hardware"].startswith("zero") == lends(folder)


@pytest.mark.parametrize(
    ("app", "problems"),
    [
        ("button.click(run)\ndef run():\n    compute()", [f"app.run > {TO_DEVICE}"]),
        ("gr.on([load], run)\ndef run():\n    Run()", [f"app.run > computing.Run > {TO_DEVICE}"]),
        ("button.click(maker(run))\ndef run():\n    compute()", [f"app.run > {TO_DEVICE}"]),
        ("def run():\n    from computing import compute as c\n    c()\nbox.input(run)", [f"app.run > {TO_DEVICE}"]),
        ("import computing\nbutton.click(computing.compute)", [TO_DEVICE]),
        ("button.click(run)\n@on_gpu\ndef run():\n    compute()", []),
        ("button.click(on_gpu(run))\ndef run():\n    compute()", []),
        ("button.click(run)\ndef run():\n    compute(use_cpu=True)", []),
        ("button.click(run)\ndef run():\n    text.compute()", []),
    ],
)
def test_the_way_to_the_device_is_found(tmp_path, app, problems):
    (tmp_path / "computing.py").write_text(COMPUTING)
    (tmp_path / "app.py").write_text(f"from computing import Run, compute\n{app}")
    assert unlent(tmp_path) == problems
