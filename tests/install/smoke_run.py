# SPDX-License-Identifier: Apache-2.0
"""One smoke program in one environment: an empty folder, an empty home, no network; and what it left behind."""

import tempfile
from pathlib import Path

from tests.install.environment import CHILD, Environment, clean_environment
from tests.support.processes import run


PROGRAMS = Path(__file__).resolve().parent / "smoke"
#: Packages that write into their own folder when they are first used: gradio keeps stubs of components and a seed there.
WRITES_INTO_ITSELF = ("/site-packages/gradio/",)
#: Places below the home folder that the documentation names, and those where libraries keep fonts and keys of their own.
OUR_CACHES = (".cache/huggingface", ".cache/eigenhub")
CACHES = (*OUR_CACHES, ".cache/matplotlib", ".config/matplotlib", ".cache/torch", ".flwr", ".config/Ultralytics")


def smoke(environment: Environment, name: str, timeout: float = 900) -> str:
    """Run `smoke/<name>.py`.

    Args:
        environment (`Environment`): has the package.
        name (`str`): the program.
        timeout (`float`, *optional*, defaults to 900): seconds until it is killed.

    Returns:
        `str`: what it printed. Anything but a clean end, and files in places that nobody told, are an `AssertionError`.
    """
    with tempfile.TemporaryDirectory(prefix="eigenhub-smoke-") as place:
        folders = {part: Path(place) / part for part in ("home", "tmp", "empty")}
        for folder in folders.values():
            folder.mkdir()
        before = files_of(environment.folder)
        settings = clean_environment() | {
            "HOME": str(folders["home"]),
            "TMPDIR": str(folders["tmp"]),
            "PATH": f"{environment.folder / 'bin'}:/usr/bin:/bin",
            "PYTHONPATH": str(CHILD),
            "TEST_OUTSIDE_LOG": str(Path(place) / "outside.log"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        program = [str(environment.python), str(PROGRAMS / f"{name}.py")]
        done = run(program, settings, folders["empty"], timeout=timeout)
        new = sorted(files_of(environment.folder) - before)
        strays = [f"installation: {path}" for path in new if not any(part in path for part in WRITES_INTO_ITSELF)]
        strays += [f"home: {path}" for path in sorted(files_of(folders["home"])) if not path.startswith(CACHES)]
    if strays or done.outside:
        raise AssertionError("\n".join(["left behind, or reached for:", *strays, *done.outside, str(done)]))
    return done.stdout


def files_of(folder: Path) -> set[str]:
    """Relative paths of all files but byte code."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}
