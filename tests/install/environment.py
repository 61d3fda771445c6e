# SPDX-License-Identifier: Apache-2.0
"""Virtual environments outside the checkout, and programs that run in them with nothing of ours around."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Finished, run


CHILD = Path(__file__).resolve().parent / "child"
#: Settings of the caller that would reach into an installation.
FOREIGN = ("PYTHON", "VIRTUAL_ENV", "EIGENHUB_", "HF_", "XDG_", "TRANSFORMERS_", "ACCELERATE_", "MPLCONFIGDIR")


def clean_environment() -> dict[str, str]:
    """The environment of this process without what is Python's, a library's or ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Args:
        folder (`Path`): where it lies.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path, python: str = sys.executable) -> "Environment":
        """An empty one of the given interpreter."""
        subprocess.run([python, "-m", "venv", folder], check=True, env=clean_environment())
        return cls(folder)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def run(self, *command: str | Path, folder: Path | None = None, timeout: float = 1800) -> Finished:
        """Run a command to its end in a clean environment; anything but exit code 0 is an `AssertionError`."""
        return run([str(part) for part in command], clean_environment(), folder or self.folder, timeout=timeout)

    def install(self, *requirements: str | Path, constraints: Path | None = None) -> None:
        """`pip install`, then `pip check`."""
        limits = [] if constraints is None else ["--constraint", constraints]
        self.run(self.python, "-m", "pip", "install", "--quiet", *limits, *requirements)
        self.run(self.python, "-m", "pip", "check")

    def clone(self, folder: Path) -> "Environment":
        """The same environment at another place.

        Files are hard links: pip replaces files, it never writes into one. Programs name their interpreter in the first
        line and are written anew.
        """
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=os.link)
        old, new = os.fsencode(self.folder), os.fsencode(folder)
        for path in (folder / "bin").iterdir():
            if not path.is_symlink() and (text := path.read_bytes()).startswith(b"#!"):
                path.unlink()
                path.write_bytes(text.replace(old, new))
                path.chmod(0o755)
        return Environment(folder)

    def packages(self) -> dict[str, str]:
        """Names and versions of what is installed."""
        lines = self.run(self.python, "-m", "pip", "freeze", "--all").stdout.splitlines()
        return dict(line.replace(" @ ", "==").split("==", 1) for line in lines)

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*") if not path.is_dir())

    def delete(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder)
