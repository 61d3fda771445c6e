# SPDX-License-Identifier: Apache-2.0
"""Rules about files that no linter checks."""

import ast
import re
import statistics
import subprocess
import sys
import tomllib

import pytest

from tests.house.sources import CODE_FOLDERS, ROOT, dotted_name, imports_of, python_files


HEADER = "# SPDX-License-Identifier: Apache-2.0"
HARD_LIMIT = 500
MEDIAN_LIMIT = 200
STRICT_FILES = re.compile(r"(configuration_\w+|modeling_\w+|config)\.py")
FROM_THE_HUB = {"spaces"}  # only ZeroGPU machines have it, and bring it
IMPORT_NAMES = {"scikit-learn": "sklearn", "pyyaml": "yaml"}

FILES = python_files(*CODE_FOLDERS)


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_file_has_the_licence_header():
    assert names(path for path in FILES if not path.read_text(encoding="utf-8").startswith(HEADER)) == []


def test_no_file_is_over_the_hard_limit():
    assert names(path for path in FILES if lines(path) > HARD_LIMIT) == []


def test_the_median_file_is_small():
    assert statistics.median(lines(path) for path in python_files("src")) < MEDIAN_LIMIT


def has_future_annotations(path):
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def test_strict_files_keep_real_annotations():
    """String annotations silently switch off the field checks of `@strict` and break `config_class`."""
    strict = [path for path in FILES if STRICT_FILES.fullmatch(path.name)]
    assert strict
    assert names(path for path in strict if has_future_annotations(path)) == []


def test_no_file_name_starts_with_an_underscore():
    """`Trainer.push_to_hub` leaves such files out, so a vendored module would be missing on the Hub."""
    hidden = [path for path in python_files("src", "scripts", "spaces") if path.name.startswith("_")]
    assert names(path for path in hidden if path.name not in ("__init__.py", "__main__.py")) == []


def declared_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = [*project["dependencies"], *(e for extra in project["optional-dependencies"].values() for e in extra)]
    distributions = {re.split(r"[\[<>=!~ ;]", entry)[0] for entry in entries}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in distributions}


def test_every_import_is_a_declared_dependency():
    known = declared_packages() | set(sys.stdlib_module_names) | {"eigenhub"} | FROM_THE_HUB
    used = {
        entry.module.split(".")[0]
        for path in python_files("src")
        for entry in imports_of(path, dotted_name(path, ROOT / "src"))
    }
    assert used - known == set()


def test_every_dependency_is_pinned_for_make_and_ci():
    pinned = constraint_lines() + constraint_lines("constraints-flower.txt")
    pins = {line.split("==")[0].lower().replace("_", "-") for line in pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = [*project["dependencies"], *(e for extra in project["optional-dependencies"].values() for e in extra)]
    wanted = {re.split(r"[\[<>=!~ ;]", entry)[0].lower().replace("_", "-") for entry in entries} - {"eigenhub"}
    assert wanted - pins == set()
    assert constraint_lines()[0] == constraint_lines("constraints-flower.txt")[0]
    assert constraint_lines()[0].startswith("torch==")


def constraint_lines(name="constraints.txt"):
    text = (ROOT / "requirements" / name).read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("module", ["eigenhub", "eigenhub.methods"])
def test_import_is_light(module):
    """No heavy library, and few modules of any kind above a bare interpreter."""
    code = (
        f"import sys\nbefore = set(sys.modules)\nimport {module}\nnew = set(sys.modules) - before\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'peft', 'huggingface_hub'} & new), len(new))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy, count = out.rsplit(maxsplit=1)
    assert heavy == "[]" and int(count) < 100
