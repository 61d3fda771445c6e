# SPDX-License-Identifier: Apache-2.0
import ast
import sys
from pathlib import Path

import pytest

from eigenhub.hub.module_bundle import bundle_sources


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`eigenhub.boxes`, a package beside the real ones, made of the files that a test writes."""
    import eigenhub

    monkeypatch.setattr(eigenhub, "__path__", [*eigenhub.__path__, str(tmp_path)])

    def write(**files):
        for name, text in files.items():
            path = tmp_path / "boxes" / f"{name.replace('__', '/') if name != '__init__' else name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text)

    yield write
    for name in [name for name in sys.modules if name.startswith("eigenhub.boxes")]:
        del sys.modules[name]


def test_imports_are_followed_and_rewritten(package):
    package(
        modeling="import torch\nfrom eigenhub.boxes.lid import Lid\nfrom .hinge import Hinge as H\n",
        lid="def f():\n    from eigenhub.boxes.deep.screw import Screw\n    from eigenhub.boxes.modeling import torch\n",
        hinge="import math\n",
        deep__screw="from eigenhub.boxes.hinge import (\n    math,\n)\nname = 'from eigenhub.boxes.lid import x'\n",
    )
    files = bundle_sources(["eigenhub.boxes.modeling"])
    assert files == {
        "modeling.py": "import torch\nfrom .lid import Lid\nfrom .hinge import Hinge as H\n",
        "lid.py": "def f():\n    from .boxes_deep_screw import Screw\n    from .modeling import torch\n",
        "hinge.py": "import math\n",
        "boxes_deep_screw.py": "from .hinge import (\n    math,\n)\nname = 'from eigenhub.boxes.lid import x'\n",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import eigenhub.boxes.lid\n", "line 1: write `from eigenhub.x import name`"),
        ("\nfrom . import lid\n", "line 2: `from . import name` cannot travel"),
        ("from eigenhub.boxes.nothing import x\n", "eigenhub.boxes.nothing has no source file"),
        ("from eigenhub.boxes._hidden import x\n", "must not start with an underscore"),
    ],
)
def test_what_cannot_travel_is_named(package, text, message):
    package(modeling=text, lid="", _hidden="")
    with pytest.raises(ValueError, match=message):
        bundle_sources(["eigenhub.boxes.modeling"])


@pytest.mark.parametrize("module", ["eigenhub.models.s5_ptd.modeling_s5_ptd", "eigenhub.models.s4d.modeling_s4d"])
def test_the_models_of_this_package_travel_complete(module):
    files = bundle_sources([module])
    for name, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != "eigenhub", name
                assert not node.level or f"{node.module}.py" in files, name
            if isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != "eigenhub" for alias in node.names), name
    assert not any(Path(name).name.startswith("_") for name in files)
