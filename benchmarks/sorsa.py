# SPDX-License-Identifier: Apache-2.0
"""SORSA against the adapters of the installed PEFT at equal rank: layer time, penalty, initialisation, memory.

python benchmarks/sorsa.py            # everything, about a quarter of an hour on two cores
python benchmarks/sorsa.py --short    # smaller decompositions and fewer rounds, for a quick look; saves nothing
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from support.arguments import arguments
from support.report import row, save
from support.timing import interleaved, ratio
from torch import nn

from eigenhub.linalg import subspace_angles, truncated_svd
from eigenhub.tuners.sorsa import SorsaConfig, apply_regularizer, sorsa_param_groups


WIDTH, TOKENS = 2048, 256
LAYER_BOUNDS = {32: 1.15, 128: 1.25}
PENALTY_BOUND = 0.03
INIT_BOUNDS = {"gram": 0.35, "randomized": 0.1}


class OneLayer(nn.Module):
    """A single linear layer, as small a base model as PEFT accepts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)


def adapted(name: str, rank: int) -> PeftModel:
    """One layer under each method. PiSSA's training cost does not depend on its driver, so the quick one will do."""
    torch.manual_seed(0)
    common: dict[str, Any] = {"r": rank, "target_modules": ["proj"]}
    configs = {
        "SORSA": lambda: SorsaConfig(**common, svd_driver="randomized", svd_niter=1),
        "LoRA": lambda: LoraConfig(**common),
        "PiSSA": lambda: LoraConfig(**common, init_lora_weights="pissa_niter_4"),
        "DoRA": lambda: LoraConfig(**common, use_dora=True),
        "AdaLoRA": lambda: AdaLoraConfig(init_r=rank, target_modules=["proj"], total_step=1000),
    }
    return get_peft_model(OneLayer(WIDTH), configs[name]()).train()


def forward_backward(model: nn.Module) -> Callable[[], object]:
    x = torch.randn(1, TOKENS, WIDTH, requires_grad=True)
    upstream = torch.randn(1, TOKENS, WIDTH)

    def call() -> None:
        model.zero_grad(set_to_none=True)
        x.grad = None
        model(x).backward(upstream)

    return call


def layer_time(rank: int, rounds: int) -> list[dict]:
    names = ["SORSA", "LoRA", "PiSSA", "DoRA", "AdaLoRA"]
    seconds = interleaved({name: forward_backward(adapted(name, rank)) for name in names}, rounds, f"layer, r={rank}")
    setting = f"forward + backward, d={WIDTH}, T={TOKENS}, r={rank}, float32"
    rows = []
    for name in names:
        if name != "LoRA":
            found = ratio(seconds, name, "LoRA")
            bound = LAYER_BOUNDS[rank] if name == "SORSA" else None
            kind = "ratio" if name == "SORSA" else "peers"
            rows.append(row(f"{name} layer / LoRA layer", setting, found.pop("ratio"), bound, kind, **found))
    return rows


def penalty_share(rank: int, rounds: int, sequences: int = 16) -> dict:
    """Time of the penalty over time of a whole training step with AdamW; the batch has 4096 tokens, as 16 x 256."""
    model = adapted("SORSA", rank)
    optimizer = torch.optim.AdamW(sorsa_param_groups(model, lr=1e-4))
    x = torch.randn(sequences, TOKENS, WIDTH, requires_grad=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        model(x).square().mean().backward()
        optimizer.step()

    step()
    contenders = {"penalty": lambda: apply_regularizer(model), "step": step}
    found = ratio(interleaved(contenders, rounds, f"penalty, r={rank}"), "penalty", "step")
    setting = f"d={WIDTH}, {sequences * TOKENS} tokens a step, r={rank}, float32"
    return row("penalty / rest of a training step", setting, found.pop("ratio"), PENALTY_BOUND, **found)


def decaying_weight(m: int, n: int, decay: float = 1.0008) -> torch.Tensor:
    """A weight with sigma_i / sigma_{i+1} = 1.0008, the gap that pretrained projections have around rank 128."""
    generator = torch.Generator().manual_seed(0)
    k = min(m, n)
    u = torch.linalg.qr(torch.randn(m, k, generator=generator)).Q
    v = torch.linalg.qr(torch.randn(n, k, generator=generator)).Q
    return (u * decay ** -torch.arange(k).float()) @ v.mT


def initialisation(m: int, n: int, rank: int, bounds: dict[str, float]) -> list[dict]:
    """Each driver, and PiSSA's two, against LAPACK; the error is that of the rank-r block in the Frobenius norm."""
    weight = decaying_weight(m, n)
    drivers: dict[str, Callable[[], tuple]] = {
        "gram": lambda: truncated_svd(weight, rank, "gram"),
        "randomized": lambda: truncated_svd(weight, rank, "randomized", generator=torch.Generator().manual_seed(0)),
        "svd_lowrank, niter 4 (PiSSA)": lambda: _lowrank(weight, rank, 4),
        "svd_lowrank, niter 16 (PiSSA)": lambda: _lowrank(weight, rank, 16),
    }
    start = time.perf_counter()
    u0, s0, v0 = torch.linalg.svd(weight, full_matrices=False)
    full = time.perf_counter() - start
    block = (u0[:, :rank] * s0[:rank]) @ v0[:rank]
    rows = []
    for name, call in drivers.items():
        start = time.perf_counter()
        u, s, v = call()
        share = (time.perf_counter() - start) / full
        error = (torch.linalg.norm((u * s) @ v - block) / torch.linalg.norm(block)).item()
        angle = subspace_angles(u.double(), u0[:, :rank].double())[0].item()
        what = f"SVD by {name} / torch.linalg.svd"
        setting = f"{m}x{n}, r={rank}; block error {error:.1e}, largest angle {angle:.1e} rad"
        kind = "peers" if "PiSSA" in name else "ratio"
        rows.append(row(what, setting, share, bounds.get(name), kind, block_error=error, largest_angle=angle))
        print(rows[-1]["what"], setting, f"{share:.3f}", flush=True)
    return rows


def _lowrank(weight: torch.Tensor, rank: int, niter: int) -> tuple:
    u, s, v = torch.svd_lowrank(weight, q=rank, niter=niter)
    return u, s, v.mT


def memory(rank: int) -> dict:
    """Bytes of parameters beside LoRA's; the bound is one frozen copy of the trained factors."""

    def adapter_bytes(model: nn.Module) -> int:
        named = model.named_parameters()
        return sum(p.numel() * p.element_size() for name, p in named if "sorsa_" in name or "lora_" in name)

    sorsa, lora = adapter_bytes(adapted("SORSA", rank)), adapter_bytes(adapted("LoRA", rank))
    copy = 4 * (2 * WIDTH * rank + rank)
    extra = sorsa - lora - 4 * rank  # S, the r values that LoRA has not
    what = "adapter bytes above LoRA / one copy of the factors"
    return row(what, f"d={WIDTH}, r={rank}", extra / copy, 1.0, "size")


def main() -> None:
    short = not arguments(__doc__, "full", "smaller decompositions and fewer rounds; prints only").parse_args().full
    rounds = 5 if short else 40
    rows = [entry for rank in LAYER_BOUNDS for entry in layer_time(rank, rounds)]
    rows += [penalty_share(rank, max(3, rounds // 4)) for rank in LAYER_BOUNDS]
    rows += initialisation(512, 1376, 64, {}) if short else initialisation(4096, 11008, 128, INIT_BOUNDS)
    rows.append(memory(32))
    save("sorsa", "SORSA", rows, ["peft", "eigenhub"], keep=not short)


if __name__ == "__main__":
    main()
