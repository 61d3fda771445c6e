# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.house.floors import floor_violations, import_circle
from tests.house.sources import ROOT


def write(root, files):
    for name, text in files.items():
        path = root / "eigenhub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_house_keeps_its_floors():
    assert floor_violations(ROOT / "src") == []


def test_the_house_has_no_import_circle():
    assert import_circle(ROOT / "src") == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("linalg/a.py", "from eigenhub.nn import b"),
        ("linalg/a.py", "def f():\n    from ..tuners import b"),
        ("linalg/a.py", "import transformers"),
        ("metrics/a.py", "from datasets import Dataset"),
        ("nn/a.py", "from eigenhub import SorsaConfig"),
        ("tuners/sorsa/a.py", "import eigenhub.training.callbacks"),
        ("models/a.py", "def f():\n    import peft"),
        ("hub/a.py", "import eigenhub.cli"),
        ("newkind/a.py", "import torch"),
    ],
)
def test_a_forbidden_import_is_named(tmp_path, name, text):
    write(tmp_path, {name: text})
    (problem,) = floor_violations(tmp_path)
    assert problem.startswith(f"eigenhub/{name}:")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tuners/a.py", "import peft\nfrom eigenhub.linalg.lowrank import b\nfrom . import c"),
        ("training/a.py", "from eigenhub.metrics import b\nimport transformers"),
        ("optim/a.py", "def f():\n    import accelerate"),
        ("optim/b.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from transformers import Trainer"),
        ("hub/a.py", "from eigenhub import __version__\nfrom eigenhub.methods import METHODS"),
    ],
)
def test_an_allowed_import_is_not(tmp_path, name, text):
    write(tmp_path, {name: text})
    assert floor_violations(tmp_path) == []


def test_a_circle_is_named(tmp_path):
    files = {"nn/a.py": "from eigenhub.nn.b import x", "nn/b.py": "from . import c", "nn/c.py": "import eigenhub.nn.a"}
    write(tmp_path, {**files, "nn/d.py": "from eigenhub.nn.a import y"})
    assert {"eigenhub.nn.a", "eigenhub.nn.b", "eigenhub.nn.c"} == set(import_circle(tmp_path))


def test_an_import_inside_a_function_makes_no_circle(tmp_path):
    write(tmp_path, {"nn/a.py": "import eigenhub.nn.b", "nn/b.py": "def f():\n    import eigenhub.nn.a"})
    assert import_circle(tmp_path) == []
