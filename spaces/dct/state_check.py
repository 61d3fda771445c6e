# SPDX-License-Identifier: Apache-2.0
"""The formulas beside the bytes that real optimizers hold after a real step."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from architectures import new_model, read_architecture
from state_sizes import ENTRIES, Entry, Shapes, matrix_bytes, other_bytes, shapes_of, split
from torch import Tensor
from torch.optim import AdamW, Optimizer
from tqdm.auto import tqdm

from eigenhub.embedded.byte_llama import new_byte_llama
from eigenhub.optim import AuON, DCTAdamW, Trion, memory_report
from eigenhub.optim.layout import MatrixLayout


#: A larger model is not built here; the embedded one stands in for it.
MAX_PARAMETERS = 30_000_000
STAND_IN_WIDTH = 128


def check(source: str, rank: int | float, dtype: str) -> tuple[str, list[dict]]:
    """
    Builds a model, lets every optimizer take a step on random gradients, and compares.

    Args:
        source (`str`): as for `read_architecture`.
        rank (`int` or `float`): columns, or share of the width.
        dtype (`str`): of weights and state.

    Returns:
        What was built, and per optimizer a record: optimizer, formula_bytes, measured_bytes, equal.
    """
    precision = getattr(torch, dtype)
    if shapes_of(source).parameters <= MAX_PARAMETERS:
        model = new_model(read_architecture(source), precision, "cpu")
        built = f"this {model.config.model_type} model"
    else:
        model = new_byte_llama().to(precision)
        rank = same_share(rank, shapes_of(source))
        built = f"the embedded Llama with rank {rank}, in place of a model too large to be built here"
    shapes = split(model)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(precision)
    rows = [row(entry, shapes, rank, build) for entry, build in tqdm(list(builders(shapes)), desc="optimizers")]
    return f"{built}; {shapes.parameters:,} parameters", rows


def same_share(rank: int | float, shapes: Shapes) -> int | float:
    """A rank that is to the width of the embedded Llama as it was to the widest matrix of a larger model."""
    widest = max(MatrixLayout(matrix).width for matrix in shapes.matrices)
    return rank if isinstance(rank, float) else max(1, min(rank, widest) * STAND_IN_WIDTH // widest)


def row(entry: Entry, shapes: Shapes, rank: int | float, build: Callable[..., list[Optimizer]]) -> dict[str, Any]:
    itemsize = shapes.matrices[0].dtype.itemsize
    formula = matrix_bytes(entry, shapes.matrices, rank, itemsize) + other_bytes(entry, shapes.others, itemsize)
    optimizers = build(entry, list(shapes.matrices), list(shapes.others), rank)
    for optimizer in optimizers:
        optimizer.step()
    measured = sum(memory_report(optimizer).total + projector_bytes(optimizer) for optimizer in optimizers)
    return {
        "optimizer": entry.label,
        "formula_bytes": formula,
        "measured_bytes": measured,
        "equal": formula == measured,
    }


def builders(shapes: Shapes) -> Iterator[tuple[Entry, Callable[..., list[Optimizer]]]]:
    """The lines whose optimizer is installed and takes these parameters, with what makes it."""
    flat = all(matrix.ndim == 2 for matrix in shapes.matrices)
    for entry in ENTRIES:
        build = BUILDERS.get(entry.optimizer)
        takes_stacks = entry.optimizer in ("dct_adamw", "trion", "auon", "adamw")
        installed = entry.optimizer != "galore" or find_spec("galore_torch") is not None
        available = entry.optimizer != "muon" or hasattr(torch.optim, "Muon")
        if build is not None and installed and available and (takes_stacks or flat):
            yield entry, build


def adamw(entry: Entry, matrices: list[Tensor], others: list[Tensor], rank: int | float) -> list[Optimizer]:
    return [AdamW([*matrices, *others], lr=1e-3)]


def muon(entry: Entry, matrices: list[Tensor], others: list[Tensor], rank: int | float) -> list[Optimizer]:
    return [torch.optim.Muon(matrices, lr=1e-3), AdamW(others, lr=1e-3)]


def galore(entry: Entry, matrices: list[Tensor], others: list[Tensor], rank: int | float) -> list[Optimizer]:
    from galore_torch import GaLoreAdamW

    options = {"update_proj_gap": 200, "scale": 0.25, "proj_type": "std"}
    groups = [{"params": [m], "rank": MatrixLayout(m).rank(rank), **options} for m in matrices]
    return [GaLoreAdamW([*groups, {"params": others}], lr=1e-3, no_deprecation_warning=True)]


def dct_adamw(entry: Entry, matrices: list[Tensor], others: list[Tensor], rank: int | float) -> list[Optimizer]:
    rest = {"params": others, "algorithm": "adamw"}
    return [DCTAdamW([{"params": matrices}, rest], lr=1e-3, rank=rank, error_feedback=entry.error_feedback)]


def trion(entry: Entry, matrices: list[Tensor], others: list[Tensor], rank: int | float) -> list[Optimizer]:
    return [Trion([{"params": matrices}, {"params": others, "algorithm": "adamw"}], lr=1e-3, rank=rank)]


def auon(entry: Entry, matrices: list[Tensor], others: list[Tensor], rank: int | float) -> list[Optimizer]:
    return [AuON([{"params": matrices}, {"params": others, "algorithm": "adamw"}], lr=1e-3)]


BUILDERS = {"adamw": adamw, "muon": muon, "galore": galore, "dct_adamw": dct_adamw, "trion": trion, "auon": auon}


def projector_bytes(optimizer: Optimizer) -> int:
    """GaLore's projectors, which lie in objects where a count of the state does not see them."""
    projectors = [state["projector"] for state in optimizer.state.values() if "projector" in state]
    tensors = [value for projector in projectors for value in vars(projector).values() if torch.is_tensor(value)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
