# SPDX-License-Identifier: Apache-2.0
"""Optimizers that are timed on the matrices of one Llama layer: ours, torch's, other projects', and plain formulations."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Muon, Optimizer

from eigenhub.embedded.llama_sizes import LLAMA_SIZES
from eigenhub.optim import AuON, DCTAdamW, HybridAuON, Trion
from support.controls import Dion
from support.naive_dct import NaiveDctAdamW


LR, NEVER = 1e-3, 10**9
Make = Callable[[list[nn.Parameter], int], Optimizer]


def layer_shapes(model: str) -> list[tuple[int, int]]:
    """The weights of one layer: four projections of the attention, gate, up and down."""
    size = LLAMA_SIZES[model]
    return [(size.hidden, size.hidden)] * 4 + [(size.mlp, size.hidden)] * 2 + [(size.hidden, size.mlp)]


def layer_weights(shapes: list[tuple[int, int]]) -> list[nn.Parameter]:
    """Weights with gradients."""
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(0.02 * torch.randn(shape, generator=generator)) for shape in shapes]
    for weight in weights:
        weight.grad = 0.01 * torch.randn(weight.shape, generator=generator)
    return weights


def galore(gap: int) -> Make:
    def make(weights: list[nn.Parameter], rank: int) -> Optimizer:
        from galore_torch import GaLoreAdamW

        group = {"params": weights, "rank": rank, "update_proj_gap": gap, "scale": 0.25, "proj_type": "std"}
        return GaLoreAdamW([group], lr=LR, no_deprecation_warning=True)

    return make


def apollo(weights: list[nn.Parameter], rank: int) -> Optimizer:
    from apollo_torch import APOLLOAdamW

    kind = {"proj": "random", "scale_type": "channel", "proj_type": "std", "scale": 1.0, "update_proj_gap": NEVER}
    return APOLLOAdamW([{"params": weights, "rank": rank, **kind}], lr=LR)


def packaged(name: str, **options: Any) -> Make:
    """One of pytorch_optimizer's implementations."""

    def make(weights: list[nn.Parameter], rank: int) -> Optimizer:
        import pytorch_optimizer

        group = {"params": weights, **({"use_muon": True} if name == "Muon" else {"rank": rank, **options})}
        return getattr(pytorch_optimizer, name)([group], lr=LR)

    return make


BETWEEN = {"update_proj_gap": NEVER, "scale": 0.25, "projection_type": "std"}
#: By package, which may be absent, and name.
CONTENDERS: dict[str, dict[str, Make]] = {
    "torch": {
        "AdamW fused": lambda weights, rank: AdamW(weights, LR, fused=True),
        "AdamW foreach": lambda weights, rank: AdamW(weights, LR, foreach=True),
        "SGD foreach": lambda weights, rank: SGD(weights, LR, momentum=0.95, nesterov=True, foreach=True),
        "torch Muon": lambda weights, rank: Muon(weights, LR),
    },
    "eigenhub": {
        "DCT-AdamW": lambda weights, rank: DCTAdamW(weights, LR, rank=rank),
        "DCT-AdamW between choices": lambda weights, rank: DCTAdamW(weights, LR, rank=rank, update_proj_gap=NEVER),
        "DCT-AdamW, fira": lambda weights, rank: DCTAdamW(weights, LR, rank=rank, residual="fira"),
        "DCT-AdamW, int8 feedback": lambda weights, rank: DCTAdamW(weights, LR, rank=rank, error_feedback="int8"),
        "naive DCT-AdamW": lambda weights, rank: NaiveDctAdamW(weights, LR, rank),
        "Trion": lambda weights, rank: Trion(weights, LR, rank=rank),
        "Dion": lambda weights, rank: Dion(weights, LR, rank),
        "AuON": lambda weights, rank: AuON(weights, LR),
        "AuON package": lambda weights, rank: AuON(weights, LR, variant="package"),
        "Hybrid AuON, 5 iterations": lambda weights, rank: HybridAuON(weights, lr=LR, variant="package"),
    },
    "galore_torch": {"GaLore between SVDs": galore(NEVER), "GaLore with SVDs": galore(1)},
    "apollo_torch": {"APOLLO between draws": apollo},
    "pytorch_optimizer": {
        "pytorch_optimizer GaLore between SVDs": packaged("GaLore", **BETWEEN),
        "pytorch_optimizer Fira between SVDs": packaged("Fira", **BETWEEN),
        "pytorch_optimizer APOLLO between draws": packaged("APOLLO", **BETWEEN),
        "pytorch_optimizer Muon": packaged("Muon"),
    },
}
#: Those whose single step takes seconds.
SLOW = ("torch Muon", "GaLore with SVDs", "pytorch_optimizer Muon", "Hybrid AuON, 5 iterations")


def available() -> tuple[dict[str, Make], list[str]]:
    """The contenders whose packages are installed, and the names of the packages that are not."""
    present = {package: find_spec(package) is not None for package in CONTENDERS}
    makers = {name: make for package, named in CONTENDERS.items() if present[package] for name, make in named.items()}
    return makers, [package for package, found in present.items() if not found]


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of the tensors that an optimizer keeps per matrix, those inside of projector objects included; no step counts."""
    return sum(_bytes(value) for state in optimizer.state.values() for value in state.values())


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes if value.ndim else 0
    return sum(_bytes(part) for part in vars(value).values()) if hasattr(value, "__dict__") else 0
