# SPDX-License-Identifier: Apache-2.0
"""Where scripts, Spaces and cards lie: in the checkout, or inside the installed wheel."""

from pathlib import Path


PACKAGE_DIR = Path(__file__).resolve().parents[1]
#: The Space that lists and opens those of all methods.
GALLERY = "spaces/gallery"


def resource_root(package_dir: Path = PACKAGE_DIR) -> Path:
    """Folder that holds `scripts/`, `spaces/` and `hub_cards/`.

    Args:
        package_dir (`Path`, *optional*, defaults to the folder of this package): folder of the installed package.

    Returns:
        `Path`: the root of the checkout for an editable install, else `resources/` inside the package.
    """
    checkout = package_dir.parents[1]
    is_checkout = package_dir.parent.name == "src" and (checkout / "pyproject.toml").is_file()
    return checkout if is_checkout else package_dir / "resources"


def find(relative: str) -> Path:
    """Absolute path of a shipped file or folder.

    Args:
        relative (`str`): path below the resource root, for example `"scripts/sorsa/train_sorsa.py"`.

    Returns:
        `Path`: the existing path.
    """
    path = resource_root() / relative
    if not path.exists():
        raise FileNotFoundError(f"{relative} is not part of this installation (looked in {resource_root()})")
    return path
