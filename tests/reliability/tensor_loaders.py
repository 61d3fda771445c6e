# SPDX-License-Identifier: Apache-2.0
"""Loaders of safetensors, of other people's checkpoints, and of an index."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from eigenhub.federated.server import STATE_FILE
from eigenhub.files import read_tensors, write_tensors
from eigenhub.linalg.ptd_solutions import PTDProblem, load_solution, save_solutions
from eigenhub.models.bt2.index import CompatibleIndex
from eigenhub.models.bt2.index_log import Kind, VectorLog
from eigenhub.models.bt2.index_stamp import STAMP_FILE
from eigenhub.models.bt2.item_vectors import ItemVectors
from eigenhub.models.stylegan2 import StyleGAN2Networks, load_checkpoint, load_nvidia
from eigenhub.models.stylegan2.direction_files import (
    VECTORS_NAME,
    LabelledDirections,
    load_directions,
    save_directions,
)
from eigenhub.models.stylegan2.directions import Directions
from eigenhub.models.stylegan2.nvidia_format import save_nvidia
from eigenhub.models.stylegan2.rosinality_format import save_rosinality
from eigenhub.training.send.config import SenDConfig
from eigenhub.training.send.state_files import STATE_NAME, read_state, write_state
from eigenhub.tuners.sorsa import SorsaConfig
from eigenhub.tuners.sorsa.export import WEIGHTS_NAME, export_checkpoint
from eigenhub.tuners.sorsa.factors import fingerprint
from eigenhub.tuners.sorsa.svd_cache import FORMAT, cached_factors
from tests.federated.test_server import make, play
from tests.models.bt2.index_cases import Gallery
from tests.models.stylegan2.nvidia_files import nvidia_pickle
from tests.models.stylegan2.tiny import generator
from tests.reliability.loader import Loader


PROBLEM = PTDProblem(3, 1.0, 0.1, 5, 0)
WEIGHT = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def a_server(folder: Path) -> Path:
    """Two rounds of a server without a model."""
    play(make(), 2).save(folder)
    return folder


def some_directions(folder: Path) -> Path:
    """Three directions of one layer, one of them with a name."""
    directions = Directions(torch.randn(5, 3), torch.rand(3))
    save_directions(folder, {"b8.conv0": LabelledDirections(directions, labels={1: "smile"})})
    return folder


def a_solution(folder: Path) -> Path:
    save_solutions(folder / "ptd.safetensors", {PROBLEM: (torch.eye(3), {"kappa": 1.0})})
    return folder / "ptd.safetensors"


def the_solution(path: Path) -> Any:
    if (found := load_solution(path, PROBLEM)) is None:
        raise ValueError(f"{path} has no solution of this problem: it is solved anew")
    return found


def some_vectors(folder: Path) -> Path:
    ItemVectors(("a", "b"), torch.eye(2), "a model").save(folder / "items.safetensors")
    return folder / "items.safetensors"


def a_send_state(folder: Path) -> Path:
    tensors = {"checkpoints": torch.tensor(3), "dropped": torch.tensor([0, 2])}
    write_state(folder, SenDConfig(), tensors, dropped=[0, 2], refreshes=[3])
    return folder / STATE_NAME


def an_svd_cache(folder: Path) -> Path:
    u, s, v = torch.linalg.svd(WEIGHT, full_matrices=False)
    metadata = {"format": FORMAT, "driver": "full", "fingerprints": json.dumps({"q": fingerprint(WEIGHT)})}
    write_tensors(folder / "svd.safetensors", {"q.U": u, "q.S": s, "q.V": v}, metadata)
    return folder / "svd.safetensors"


def a_sorsa_adapter(folder: Path) -> Path:
    SorsaConfig(r=2, target_modules=["q"]).save_pretrained(str(folder))
    factors = {"sorsa_U": (4, 2), "sorsa_S": (2,), "sorsa_V": (2, 5)}
    tensors = {
        f"base_model.model.q.{name}{end}": torch.rand(shape) for name, shape in factors.items() for end in ("", "0")
    }
    write_tensors(folder / WEIGHTS_NAME, tensors, {"format": "pt"})
    return folder / WEIGHTS_NAME


def a_generator() -> Any:
    return generator(img_resolution=8, channel_max=2, z_dim=4, w_dim=4)


def a_nvidia_pickle(folder: Path) -> Path:
    (folder / "network.pkl").write_bytes(nvidia_pickle({"G_ema": a_generator()}))
    return folder / "network.pkl"


def a_nvidia_file(folder: Path) -> Path:
    save_nvidia(StyleGAN2Networks(generator_ema=a_generator()), folder / "network.pt")
    return folder / "network.pt"


def a_rosinality_file(folder: Path) -> Path:
    save_rosinality(
        StyleGAN2Networks(
            generator_ema=generator(img_resolution=8, channel_max=2, z_dim=4, w_dim=4, mapping_lr_multiplier=0.01)
        ),
        folder / "model.pt",
    )
    return folder / "model.pt"


def a_log(folder: Path) -> Path:
    log = VectorLog(folder / "vectors-0.log")
    for begin in (0, 2, 4):
        log.append(Kind.PUT, torch.arange(begin, begin + 2).numpy(), torch.rand(2, 3).numpy())
    log.close()
    return folder / "vectors-0.log"


def an_index(folder: Path) -> Path:
    Gallery(20).index(folder=folder).close()
    return folder / STAMP_FILE


def a_lance_table(folder: Path) -> Path:
    Gallery(20).index(folder=folder, backend="lancedb").close()
    (path,) = folder.glob("tables/*.lance/data/*.lance")
    return path


def searched(path: Path) -> Any:
    """Every vector of the index that a table lies in."""
    gallery = Gallery(20)
    index = CompatibleIndex.open(path.parents[3])
    try:
        return index.search(gallery.queries, k=len(gallery.ids))
    finally:
        index.close()


def records_of(path: Path) -> int:
    log = VectorLog(path, read_only=True)
    try:
        return sum(1 for _ in log.replay())
    finally:
        log.close()


TENSOR_LOADERS = [
    Loader(
        "read_tensors",
        "safetensors",
        lambda folder: write_tensors(folder / "a.safetensors", {"x": torch.ones(2)}) or folder / "a.safetensors",
        read_tensors,
        ("x",),
        shapes=False,
    ),
    Loader("perturbations", "safetensors", a_solution, the_solution),
    Loader("ItemVectors", "safetensors", some_vectors, ItemVectors.load),
    Loader(
        "SenD state",
        "safetensors",
        a_send_state,
        lambda path: read_state(path.parent, SenDConfig()),
        shapes=False,
    ),
    Loader(
        "FederatedServer state",
        "safetensors",
        lambda folder: a_server(folder) / STATE_FILE,
        lambda path: make().load(path.parent),
    ),
    Loader(
        "directions",
        "safetensors",
        lambda folder: some_directions(folder) / VECTORS_NAME,
        lambda path: load_directions(path.parent),
    ),
    Loader(
        "SVD cache",
        "safetensors",
        an_svd_cache,
        lambda path: cached_factors(SorsaConfig(r=2, svd_cache=str(path)), "q", 2, WEIGHT),
    ),
    Loader(
        "SORSA adapter to export",
        "safetensors",
        a_sorsa_adapter,
        lambda path: export_checkpoint(str(path.parent), path.parent / "lora"),
    ),
    Loader("NVIDIA pickle", "pickle", a_nvidia_pickle, load_nvidia),
    Loader("NVIDIA tensors", "torch", a_nvidia_file, load_nvidia),
    Loader("load_checkpoint", "torch", a_rosinality_file, load_checkpoint),
    Loader("vector log", "log", a_log, records_of, cuts=False),
]
if find_spec("faiss"):
    TENSOR_LOADERS.append(
        Loader("index stamp", "json", an_index, lambda path: CompatibleIndex.open(path.parent).close())
    )
if find_spec("lancedb"):
    TENSOR_LOADERS.append(
        Loader("LanceDB table", "log", a_lance_table, searched, errors=(Exception,), names_file=False, slow=True)
    )
