# SPDX-License-Identifier: Apache-2.0
"""The `eigenhub` command beside its interpreter, from a folder with nothing in it."""

import subprocess
import sys
from pathlib import Path


EIGENHUB = Path(sys.executable).parent / "eigenhub"


def output(*command: str | Path) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def eigenhub(*args: str) -> str:
    """What `eigenhub ARGS` prints."""
    return output(EIGENHUB, *args)


def main() -> None:
    from eigenhub import METHODS, __version__

    assert eigenhub("--version").strip() == __version__
    shown = eigenhub("--help")
    assert all(command in shown for command in ("list", "info", "demo", "train", "card", "export", "space")), shown
    assert [line.split()[0] for line in eigenhub("list").splitlines()] == [method.slug for method in METHODS]
    for method in METHODS:
        rows = {
            line.split()[0]: line.split()[-1] for line in eigenhub("info", method.slug).splitlines() if line.strip()
        }
        for part in ("script_path", "space", "card", "results"):
            path = Path(rows[part])
            assert path.exists() and path.is_relative_to(sys.prefix), f"{method.slug}: {part} is {path}"
        assert "model-index" in eigenhub("card", method.slug)
        assert method.script in output(sys.executable, rows["script_path"], "--help")
        if method.commands:
            assert "Usage" in eigenhub(method.slug, "--help")
    assert "train_sorsa.py" in eigenhub("train", "sorsa", "--help")
    assert list(Path().iterdir()) == [], "commands that only show something left files behind"
    print(f"list, info, card and --help of {len(METHODS)} methods")


if __name__ == "__main__":
    main()
