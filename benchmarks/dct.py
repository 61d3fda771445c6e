# SPDX-License-Identifier: Apache-2.0
"""DCT-AdamW, Trion and AuON against other optimizers in one run: transforms, steps on one Llama layer, bytes of state.

python benchmarks/dct.py            # everything on one thread, three to four minutes
python benchmarks/dct.py --short    # a smaller layer and fewer rounds, for a quick look; saves nothing

Peers that are not installed are named and left out: `pip install 'eigenhub[bench,quant]'` brings them.
"""

import torch
from support.arguments import arguments
from support.contenders import SLOW, available, layer_shapes, layer_weights, state_bytes
from support.report import row, save
from support.timing import halves, interleaved
from torch.optim import Optimizer

from eigenhub.linalg import dct, dct_matrix
from eigenhub.optim import state_numbers


MODEL, RANK = "llama_350m", 256
SMALL, SMALL_RANK = "llama_60m", 128
GALORE_GAP = 200  # galore-torch's default
GAPS = (1, 5, 10, GALORE_GAP)
#: Largest ratios of the transform to a product and to an SVD, by size.
TRANSFORM_BOUNDS = {2048: (0.2, 0.01)}
#: First and second contender, and the largest ratio that is accepted.
STEPS = (
    ("DCT-AdamW", "GaLore between SVDs", 1.0),
    ("DCT-AdamW between choices", "GaLore between SVDs", 1.0),
    ("DCT-AdamW", "pytorch_optimizer GaLore between SVDs", None),
    ("DCT-AdamW", "APOLLO between draws", None),
    ("DCT-AdamW", "naive DCT-AdamW", 1.0),
    ("DCT-AdamW", "AdamW foreach", None),
    ("DCT-AdamW", "AdamW fused", None),
    ("DCT-AdamW, fira", "pytorch_optimizer Fira between SVDs", None),
    ("DCT-AdamW, int8 feedback", "DCT-AdamW", None),
    ("Trion", "Dion", 1.0),
    ("Trion", "torch Muon", None),
    ("Trion", "pytorch_optimizer Muon", None),
    ("AuON", "SGD foreach", 1.5),
    ("AuON package", "SGD foreach", 1.5),
    ("AuON", "torch Muon", None),
    ("Hybrid AuON, 5 iterations", "torch Muon", None),
)
#: Which formula of `state_numbers` a contender's state follows.
FORMULAS = {
    "DCT-AdamW": "dct_adamw",
    "Trion": "trion",
    "AuON": "auon",
    "AdamW fused": "adamw",
    "torch Muon": "muon",
    "GaLore between SVDs": "galore",
    "APOLLO between draws": "apollo",
    "Dion": "dion",
}
OURS = ("DCT-AdamW", "Trion", "AuON")
NOTE = "Ratios of the best of several calls in turn, on one thread; then bytes of state. A step counts the weights of one layer."
Seconds = dict[str, list[float]]


def quickest(seconds: Seconds, name: str, peer: str) -> float:
    """Ratio of the best times: on a busy machine the only ones that say what a step costs by itself."""
    return min(seconds[name]) / min(seconds[peer])


def transform_times(n: int, rounds: int, with_svd: bool) -> list[dict]:
    """The projection of an n x n gradient onto all cosines."""
    gradient = torch.randn(n, n, generator=torch.Generator().manual_seed(0))
    vectors = dct_matrix(n, torch.float32).mT.contiguous()
    contenders = {"FFT": lambda: dct(gradient, "fft"), "product": lambda: gradient @ vectors}
    if with_svd:
        contenders["SVD"] = lambda: torch.linalg.svd(gradient, full_matrices=False)
    seconds = interleaved(contenders, rounds, f"transforms, n={n}", {"SVD": 2})
    bounds = dict(zip(("product", "SVD"), TRANSFORM_BOUNDS.get(n, (None, None)), strict=True))
    setting = f"{n} x {n}, float32"
    return [
        row(
            f"DCT by FFT / {peer}",
            setting,
            quickest(seconds, "FFT", peer),
            bounds[peer],
            **halves(seconds, "FFT", peer),
        )
        for peer in contenders
        if peer != "FFT"
    ]


def step_times(optimizers: dict[str, Optimizer], rounds: int) -> Seconds:
    limits = {name: min(rounds, 2) for name in SLOW}
    return interleaved({name: o.step for name, o in optimizers.items()}, rounds, "steps", limits)


def step_row(seconds: Seconds, setting: str, name: str, peer: str, bound: float | None = None) -> dict:
    details = {"rounds": len(seconds[peer]), **halves(seconds, name, peer)}
    return row(f"{name} / {peer}", setting, quickest(seconds, name, peer), bound, **details)


def step_rows(seconds: Seconds, setting: str) -> list[dict]:
    """Ratios of single steps at the size that the project asks something of."""
    return [step_row(seconds, setting, name, peer, bound) for name, peer, bound in STEPS if peer in seconds]


def small_rows(rounds: int) -> list[dict]:
    """The same ratios, without bounds, where matrices and ranks are small and products cost little."""
    pairs = [(name, peer) for name, peer, bound in STEPS if bound is not None]
    wanted = {name for pair in pairs for name in pair}
    weights = layer_shapes(SMALL)
    makers = {name: make for name, make in available()[0].items() if name in wanted}
    seconds = step_times({name: make(layer_weights(weights), SMALL_RANK) for name, make in makers.items()}, rounds)
    setting = f"step on one layer of {SMALL}, r={SMALL_RANK}, float32"
    return [step_row(seconds, setting, a, b) for a, b in pairs if b in seconds]


def averaged(choosing: list[float], between: list[float], gap: int) -> float:
    """Seconds of a step when one out of `gap` chooses its subspace anew."""
    return (min(choosing) + (gap - 1) * min(between)) / gap


def refresh_rows(seconds: Seconds, setting: str) -> list[dict]:
    """DCT-AdamW against GaLore with its SVDs spread over the steps between them.

    The project asks for a tenth. An SVD costs as much as some tens of the steps between two of them, so that a tenth is in
    reach where subspaces change often. At GaLore's own gap its SVDs are a small part of its time, and it is not.
    """
    if "GaLore with SVDs" not in seconds:
        return []
    ours = (seconds["DCT-AdamW"], seconds["DCT-AdamW between choices"])
    theirs = (seconds["GaLore with SVDs"], seconds["GaLore between SVDs"])
    rows = [
        row(f"DCT-AdamW / GaLore, both averaged over gap {g}", setting, averaged(*ours, g) / averaged(*theirs, g), 0.1)
        for g in GAPS
    ]
    own_gaps = min(ours[0]) / averaged(*theirs, GALORE_GAP)
    return [*rows, row(f"DCT-AdamW, gap 1 / GaLore, gap {GALORE_GAP}: the defaults", setting, own_gaps, 0.1)]


def byte_rows(optimizers: dict[str, Optimizer], shapes: list[tuple[int, int]], rank: int, setting: str) -> list[dict]:
    """Real bytes of state over those of the published formulas, in which indices count as 8 bytes and step counts as none."""
    rows = []
    for name, formula in FORMULAS.items():
        if name in optimizers:
            wide = 4 * rank * len(shapes) if formula in ("dct_adamw", "trion") else 0  # int64 is two words of float32
            expected = 4 * sum(state_numbers(formula, shape, rank) for shape in shapes) + wide
            real = state_bytes(optimizers[name])
            exact = {"bytes": real, "expected": expected, "digits": 6}
            what = f"state of {name} / formula"
            rows.append(row(what, setting, real / expected, 1.0 if name in OURS else None, "size", **exact))
    baseline = state_bytes(optimizers["AdamW fused"])
    for name in ("DCT-AdamW", "DCT-AdamW, int8 feedback", "Trion", "AuON"):
        rows.append(row(f"state of {name} / AdamW", setting, state_bytes(optimizers[name]) / baseline, kind="size"))
    return rows


def main() -> None:
    short = not arguments(__doc__, "full", "a smaller layer and fewer rounds; prints only").parse_args().full
    torch.set_num_threads(1)
    model, rank, rounds = (SMALL, SMALL_RANK, 4) if short else (MODEL, RANK, 20)
    makers, absent = available()
    if absent:
        print(f"not installed, left out: {', '.join(absent)}")

    rows = []
    for n in (512, 1024) if short else (1024, 2048, 4096):
        rows += transform_times(n, rounds=4 if short else 8, with_svd=n <= 2048)
    shapes = layer_shapes(model)
    optimizers = {name: make(layer_weights(shapes), rank) for name, make in makers.items()}
    seconds = step_times(optimizers, rounds)
    setting = f"step on one layer of {model}, r={rank}, float32"
    rows += step_rows(seconds, setting)
    rows += refresh_rows(seconds, setting)
    if not short:
        rows += small_rows(rounds)
    rows += byte_rows(optimizers, shapes, rank, f"one layer of {model}, r={rank}, float32")
    packages = [
        "eigenhub",
        *(name.replace("_", "-") for name in ("galore_torch", "apollo_torch") if name not in absent),
    ]
    if "pytorch_optimizer" not in absent:
        packages.append("pytorch_optimizer")
    note = NOTE + (f" Not installed and left out: {', '.join(absent)}." if absent else "")
    save("dct", "DCT-AdamW, Trion, AuON: speed and memory", rows, packages, keep=not short, note=note)


if __name__ == "__main__":
    main()
