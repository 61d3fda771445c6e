# SPDX-License-Identifier: Apache-2.0
"""Extra `search`: an index on FAISS and on LanceDB, and the names that need sentence-transformers."""

from importlib import import_module

import numpy as np

from eigenhub import get_method
from eigenhub.models.bt2 import CompatibleIndex, EncoderIdentity


for name in get_method("bt2").public_names:
    getattr(import_module("eigenhub.models.bt2"), name)

vectors = np.random.RandomState(0).randn(50, 8).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
identity = EncoderIdentity("smoke/old", dim=8)
for backend in ("faiss", "lancedb"):
    folder = f"index-{backend}"
    index = CompatibleIndex.from_old(vectors, np.arange(50), identity, folder=folder, backend=backend)
    found = index.search(vectors[:5], k=1, identity=identity).ids[:, 0]
    assert found.tolist() == list(range(5)), f"{backend}: {found}"
    index.close()
print("search on FAISS and LanceDB; every name of bt2")
