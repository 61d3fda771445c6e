# SPDX-License-Identifier: Apache-2.0
"""The oldest versions that pyproject.toml allows: a part of the test suite on the installed package."""

from pathlib import Path

from tests.install.environment import Environment, clean_environment
from tests.install.project import ROOT
from tests.support.processes import run


#: Every kind of artefact, and where other libraries are touched most.
TESTS = (
    "tests/test_cli.py",
    "tests/hub",
    "tests/linalg",
    "tests/nn",
    "tests/optim",
    "tests/tuners",
    "tests/models/bt2",
    "tests/models/s5_ptd",
    "tests/models/stylegan2",
    "tests/federated/test_trainer.py",
    "tests/training/send",
    "tests/training/test_checkpoint.py",
    "tests/metrics/test_hallucination_scorer.py",
)
#: Says what only an editable installation does.
EDITABLE = "tests/hub/test_resources.py::test_an_editable_install_uses_the_checkout"
TOOLS = ("pytest>=8", "pytest-timeout", "pytest-xdist", "hypothesis", "psutil", "starlette", "uvicorn")


def run_tests(environment: Environment, wheel: Path, constraints: Path) -> str:
    """Install what tests need beside the wheel, and run the quick ones of `TESTS` from the checkout.

    Args:
        environment (`Environment`): has the package; gets more.
        wheel (`Path`): the wheel.
        constraints (`Path`): the oldest versions.

    Returns:
        `str`: pytest's last line.
    """
    environment.install(f"{wheel}[spaces,search,dp,track]", *TOOLS, constraints=constraints)
    settings = clean_environment() | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    options = ("-q", "-p", "no:cacheprovider", "--timeout", "600", "--deselect", EDITABLE)
    command = [str(environment.python), "-m", "pytest", *options, *TESTS]
    return run(command, settings, ROOT, timeout=3600).stdout.strip().splitlines()[-1]
