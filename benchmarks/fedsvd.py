# SPDX-License-Identifier: Apache-2.0
"""What FedSVD's server step, its rounds, its bytes, its privacy ledger and its thousand clients cost.

python benchmarks/fedsvd.py            # four minutes on one thread
python benchmarks/fedsvd.py --short    # a dense 1024 x 1024, fewer rounds; saves nothing

The engine is timed against a loop by hand that trains the same steps on the same rows, in turn, after a check that both end
at the same B. Times are processor times of one thread.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from support.arguments import arguments
from support.fedsvd_engine import engines, seconds_of
from support.report import row, save
from torch import Tensor

from eigenhub.federated import (
    DPConfig,
    FederatedServer,
    FedSVDConfig,
    PrivacyLedger,
    refactor_lora,
    refactor_state_dict,
)
from eigenhub.federated.accounting import find_noise_multiplier
from eigenhub.federated.downlink import num_bytes


LARGE_LAYERS, LARGE, LARGE_RANK = 48, 1024, 8  # query and value of 24 layers
NOTE = (
    "Ratios of processor times of the fastest calls on one thread, the dense decomposition once; seconds, bytes and errors where a "
    "row says so."
)


def factors(m: int, n: int, rank: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """B and A after some training: all singular values of the product well apart from zero."""
    generator = torch.Generator().manual_seed(0)
    b, a = torch.randn(m, rank, generator=generator), torch.randn(rank, n, generator=generator) / n**0.5
    return b.to(dtype), a.to(dtype)


def dense_svd(b: Tensor, a: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The released form: the whole product, its whole decomposition, the first triplets."""
    u, s, vh = torch.linalg.svd(b @ a, full_matrices=False)
    return u[:, :rank] * s[:rank], vh[:rank]


def truncated(b: Tensor, a: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """torch's randomised decomposition of the whole product."""
    u, s, v = torch.svd_lowrank(b @ a, q=rank)
    return u * s, v.mT


def product_error(b: Tensor, a: Tensor, other_b: Tensor, other_a: Tensor) -> float:
    exact = b.double() @ a.double()
    return float((exact - other_b.double() @ other_a.double()).norm() / exact.norm())


def refactorisation(size: int, rank: int, repeats: int) -> list[dict]:
    """Time and error of the three ways on one layer."""
    b, a = factors(size, size, rank)
    found: dict[str, Any] = {}
    ours = refactor_lora(b, a)
    times = [seconds_of(lambda: refactor_lora(b, a)) for _ in range(repeats)]
    quick = [seconds_of(lambda: truncated(b, a, rank)) for _ in range(3)]
    dense = seconds_of(lambda: found.update(dense=dense_svd(b, a, rank)))
    setting = f"{size} x {size}, r={rank}, float32; {1e3 * min(times):.2g} ms against"
    rows = [
        row("refactorisation / dense SVD", f"{setting} {dense:.3g} s, once", min(times) / dense, 1e-4),
        row(
            "refactorisation / svd_lowrank of the product",
            f"{setting} {1e3 * min(quick):.3g} ms",
            min(times) / min(quick),
        ),
    ]
    rows[0]["bound"] = 1e-4 if size >= 4096 else None  # the ratio grows with the size
    where = f"{size} x {size}, r={rank}, relative to the norm of B A"
    exact = refactor_lora(b.double(), a.double())
    errors = {
        "ours, float64": (b.double(), a.double(), exact.B, exact.A),
        "ours, float32 factors": (b, a, ours.B, ours.A),
        "dense SVD, float32": (b, a, *found["dense"]),
        "svd_lowrank, float32": (b, a, *truncated(b, a, rank)),
    }
    for name, given in errors.items():
        bound = 1e-6 if "ours" in name else None
        rows.append(row(f"product error: {name}", where, product_error(*given), bound, "error"))
    defect = (ours.A.double() @ ours.A.double().mT - torch.eye(rank)).abs().max().item()
    return [*rows, row("orthonormality of A, float32 factors", f"{size} x {size}, r={rank}", defect, 1e-6, "error")]


def large_state() -> dict[str, Tensor]:
    """The adapters of a RoBERTa-large, 48 layers of 1024 x 1024."""
    b, a = factors(LARGE, LARGE, LARGE_RANK)
    state = {}
    for number in range(LARGE_LAYERS):
        state[f"layer{number}.lora_A.weight"] = a.roll(number, 1).clone()
        state[f"layer{number}.lora_B.weight"] = b.roll(number, 0).clone()
    return state


def whole_model() -> dict:
    state = large_state()
    times = [seconds_of(lambda: refactor_state_dict(state)) for _ in range(20)]
    setting = f"{LARGE_LAYERS} layers of {LARGE} x {LARGE}, r={LARGE_RANK}, float32; seconds, fastest of 20"
    return row("refactorisation of all adapters of a RoBERTa-large, seconds", setting, min(times), 0.2, "time")


def bytes_sent() -> list[dict]:
    """What a client of a RoBERTa-large sends and receives, as the server asks for it."""
    state = large_state()
    scalings = {key.removesuffix(".lora_A.weight"): 1.0 for key in state if "lora_A" in key}

    def sent(method: str, downlink: str = "full") -> tuple[int, int]:
        server = FederatedServer(FedSVDConfig(method=method, downlink=downlink), state, scalings)
        return num_bytes({key: state[key] for key in server.upload_keys}), num_bytes(server.broadcast())

    (up, down), (both_up, _), (_, rotation) = sent("fedsvd"), sent("fedavg"), sent("fedsvd", "rotation")
    where = f"RoBERTa-large, r={LARGE_RANK}, float32"
    return [
        row(
            "upload, FedSVD / LoRA averaging",
            f"{where}; {up / 1e6:.2f} MB against {both_up / 1e6:.2f} MB",
            up / both_up,
            0.5,
            "size",
        ),
        row(
            "download, rotation / whole",
            f"{where}; {rotation / 1e6:.2f} MB against {down / 1e6:.2f} MB",
            rotation / down,
            kind="size",
        ),
    ]


def ledger() -> list[dict]:
    """First and later look-ups of the noise and of epsilon, for a client of SST-2 divided by six."""
    find_noise_multiplier.cache_clear()
    book = PrivacyLedger(DPConfig(6.0, 1e-5))
    rows = []

    def enrol() -> None:
        book.enroll("first", 11_225, 10, 128, 50)
        book.noise_multiplier("first")

    def again() -> None:
        for number in range(100):
            book.enroll(f"client{number}", 11_225, 10, 128, 50)
            book.noise_multiplier(f"client{number}")

    for what, once, later in (
        ("noise of a client", enrol, again),
        ("epsilon of a client", lambda: book.epsilon("first"), lambda: [book.epsilon("first") for _ in range(100)]),
    ):
        if what.startswith("epsilon"):
            book.record("first", 1, 10)
        first, after = seconds_of(once), seconds_of(later) / 100
        setting = f"PRV accountant, 500 steps planned; {first:.3g} s, then {1e6 * after:.3g} us"
        rows.append(row(f"{what}: later look-up / first", setting, after / first, 0.01))
    return rows


def memory(rounds: int) -> list[dict]:
    """Peak of 1,000 clients over that of 50, and growth over the rounds, each in a process of its own."""
    script = Path(__file__).parent / "support" / "fedsvd_memory.py"

    def measured(clients: int) -> dict[str, Any]:
        command = [sys.executable, str(script), str(clients), "50", str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    few, many = measured(50), measured(1000)
    peaks = f"50 of them in each of {rounds} rounds; {many['peak']:.0f} MB against {few['peak']:.0f} MB"
    growth = many["rounds"][-1] / many["rounds"][0]
    ends = f"after round {rounds} over after round 1; {many['rounds'][-1]:.0f} MB"
    return [
        row("peak memory, 1,000 clients / 50 clients", peaks, many["peak"] / few["peak"], 1.05, "size"),
        row("resident memory with 1,000 clients over the rounds", ends, growth, 1.05, "size"),
    ]


def main() -> None:
    short = not arguments(__doc__, "full", "a smaller matrix and fewer rounds; prints only").parse_args().full
    torch.set_num_threads(1)
    rows = refactorisation(*((1024, 8, 10) if short else (4096, 16, 30)))
    rows += [whole_model(), *bytes_sent()]
    rows += engines(*((3, 1) if short else (10, 5)))
    rows += [*ledger(), *memory(2 if short else 6)]
    packages = ["transformers", "peft", "accelerate", "opacus", "eigenhub"]
    save("fedsvd", "FedSVD: what it costs", rows, packages, keep=not short, note=NOTE)


if __name__ == "__main__":
    main()
