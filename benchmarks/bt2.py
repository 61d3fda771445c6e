# SPDX-License-Identifier: Apache-2.0
"""The orthogonal transform of BT2 against torch's own parametrisation: time and error of a training step, and of inference.

python benchmarks/bt2.py            # five minutes, most of them torch's matrix exponential at d = 2048
python benchmarks/bt2.py --short    # up to d = 512; saves nothing
"""

from collections.abc import Callable

import torch
from support.arguments import arguments
from support.report import row, save
from support.timing import interleaved, ratio
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from eigenhub.linalg import gram_defect
from eigenhub.nn import BasisTransformationHead, FoldedHead, OrthogonalTransform


BATCH = 64
#: Largest share of the time of torch's default that the project allows itself.
BOUNDS = {512: 1 / 20, 2048: 1 / 30}
ROUNDS = {128: 20, 384: 10, 512: 8, 1024: 3, 2048: 2}
OURS, DEFAULT = "Cayley on activations", "torch default"
PEERS = ("torch cayley", "plain linear layer")


def linear(d: int) -> nn.Linear:
    return nn.Linear(d, d, bias=False)


def contenders(d: int) -> dict[str, nn.Module]:
    """Ours and torch's, each at a generator of moderate size."""
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {
        OURS: OrthogonalTransform(d),
        "low-rank Cayley, r=16": OrthogonalTransform(d, rank=16),
        "low-rank Cayley, r=64": OrthogonalTransform(d, rank=min(64, d // 2)),
        "torch cayley": orthogonal(linear(d), orthogonal_map="cayley"),
        DEFAULT: orthogonal(linear(d)),
        "plain linear layer": linear(d),
    }
    with torch.no_grad():
        for name, model in made.items():
            if name != "plain linear layer":
                for parameter in model.parameters():
                    parameter.add_(torch.randn(parameter.shape) / d**0.5)
    return made


def forward_backward(model: nn.Module, d: int) -> Callable[[], object]:
    x = torch.randn(BATCH, d, requires_grad=True)
    upstream = torch.randn(BATCH, d)

    def call() -> None:
        model.zero_grad(set_to_none=True)
        model(x).backward(upstream)

    return call


def step_time(d: int) -> list[dict]:
    """Forward and backward of every contender over torch's default."""
    models = contenders(d)
    calls = {name: forward_backward(model, d) for name, model in models.items()}
    seconds = interleaved(calls, ROUNDS[d], f"step, d={d}")
    setting = f"forward + backward, d={d}, batch {BATCH}, float32"
    rows = []
    for name in models:
        if name != DEFAULT:
            found = ratio(seconds, name, DEFAULT)
            bound = BOUNDS.get(d) if name == OURS else None
            milliseconds = 1e3 * sorted(seconds[name])[len(seconds[name]) // 2]
            kind = "peers" if name in PEERS else "ratio"
            rows.append(row(f"{name} / {DEFAULT}", setting, found.pop("ratio"), bound, kind, ms=milliseconds, **found))
    return rows


def errors(d: int) -> list[dict]:
    """Largest Gram entry beside the identity, by map."""
    rows = []
    for name, model in contenders(d).items():
        if name == "plain linear layer":
            continue
        with torch.no_grad():
            matrix = model.matrix() if isinstance(model, OrthogonalTransform) else model.weight
            defect = gram_defect(matrix.double()).abs().max().item()
        bound = 1e-5 if isinstance(model, OrthogonalTransform) else None
        rows.append(row(f"orthogonality error: {name}", f"d={d}, float32", defect, bound, "error"))
    return rows


def inference(n: int, m: int, k: int) -> list[dict]:
    """A folded head against the product that it consists of, and against the head as it was trained."""
    head = BasisTransformationHead(n, n, m, k, added="linear", new_proj=False).eval()
    folded, product = FoldedHead(head).eval(), nn.Linear(n, n + k, bias=False)
    x = torch.randn(256, n)
    calls = {"folded": folded, "trained form": head, "one product": product}
    with torch.no_grad():
        seconds = interleaved({name: lambda f=model: f(x) for name, model in calls.items()}, 50, f"inference, n={n}")
    rows = []
    for name, peer in (("folded", "one product"), ("folded", "trained form")):
        found = ratio(seconds, name, peer)
        micro = 1e6 * sorted(seconds[name])[len(seconds[name]) // 2] / len(x)
        setting = f"{n} -> {n + k}, batch 256, linear added part; {micro:.2g} us a vector"
        rows.append(row(f"{name} head / {peer}", setting, found.pop("ratio"), us_per_vector=micro, **found))
    return rows


def main() -> None:
    short = not arguments(__doc__, "full", "small sizes; prints only").parse_args().full
    torch.set_num_threads(1)
    sizes = [d for d in ROUNDS if not short or d <= 512]
    rows = [line for d in sizes for line in step_time(d)]
    rows += [line for d in (128, 512) for line in errors(d)]
    rows += [line for shape in ((384, 384, 32), (768, 768, 32)) for line in inference(*shape)]
    save("bt2", "BT2: the orthogonal transform", rows, ["eigenhub"], keep=not short)


if __name__ == "__main__":
    main()
