# SPDX-License-Identifier: Apache-2.0
"""Imports in an environment with nothing but the core: lazy, quick, complete, and clear about what an extra is for."""

import subprocess
import sys
import time
from importlib import import_module, metadata
from pathlib import Path


HEAVY = {"torch", "numpy", "transformers", "peft", "accelerate", "datasets", "huggingface_hub", "yaml", "typer"}
LAZY = """
import sys
import eigenhub
from eigenhub.methods import METHODS
dir(eigenhub)
print(",".join(sorted({module.split(".")[0] for module in sys.modules})))
"""

started = time.perf_counter()
loaded = subprocess.run([sys.executable, "-c", LAZY], check=True, capture_output=True, text=True).stdout
seconds = time.perf_counter() - started
assert not HEAVY & set(loaded.strip().split(",")), f"`import eigenhub` loads {HEAVY & set(loaded.split(','))}"

import eigenhub  # noqa: E402


place = Path(eigenhub.__file__).resolve()
assert place.is_relative_to(Path(sys.prefix).resolve()), f"not the installed package: {place}"
assert metadata.version("eigenhub") == eigenhub.__version__
assert (place.parent / "py.typed").is_file()

import eigenhub.auto  # noqa: E402


missing = []
places = [(eigenhub, name) for name in eigenhub.__all__]
places += [(import_module(method.package), name) for method in eigenhub.METHODS for name in method.public_names]
for package, name in places:
    try:
        getattr(package, name)
    except ImportError as error:
        assert "pip install 'eigenhub[" in str(error), f"{package.__name__}.{name}: {error}"
        missing.append(name)

print(
    f"`import eigenhub` {seconds * 1e3:.0f} ms with Python's start; {len(places)} names, {len(missing)} wait for an extra"
)
