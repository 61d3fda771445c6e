# SPDX-License-Identifier: Apache-2.0
"""Extra `all`: everything imports in one process."""

from importlib import import_module, metadata
from re import split

import eigenhub
import eigenhub.auto


NAMES = {
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "faiss-cpu": "faiss",
    "pytest-xdist": "xdist",
    "griffelib": "griffe",
}
required = [split(r"[\[<>=!~; ]", line)[0] for line in metadata.requires("eigenhub") if "extra == 'all'" in line]
for name in required:
    import_module(NAMES.get(name.lower(), name.replace("-", "_")))
for method in eigenhub.METHODS:
    package = import_module(method.package)
    for name in method.public_names:
        getattr(package, name)
print(f"{len(required)} distributions of the extras import together, and every public name")
