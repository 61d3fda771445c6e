# SPDX-License-Identifier: Apache-2.0
"""The scan of S5 and the kernel of S4D against their peers: time of a layer, memory, growth with length, one step.

python benchmarks/s5_ptd.py --jax-python ~/jax/bin/python   # everything, under five minutes on an idle core
python benchmarks/s5_ptd.py --short                         # short and few, for a quick look; saves nothing

Every contender runs forward and backward to all parameters and the input, on one thread, in turn with the others; what
counts is the processor time of its fastest call, which on one thread is the time on an idle machine. `--jax-python`
names an interpreter with jax, which may live in an environment of its own; s5-pytorch is used if it is installed. A
peer that is absent is named and left out.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from support import ssm_peers
from support.arguments import arguments
from support.jax_peer import JaxPeer
from support.report import row, save
from support.timing import halves
from tqdm import tqdm

from eigenhub.linalg.scan import diagonal_ssm, ssm_step


BATCH, FEATURES, STATES = 8, 128, 64
SHAPE = f"B={BATCH}, H={FEATURES}, P={STATES}"
ROUNDS = {1024: 10, 4096: 6, 16384: 3}
S5_BOUNDS, JAX_BOUNDS = {4096: 1 / 3, 16384: 1 / 2}, {4096: 1 / 2.5, 16384: 1 / 2}
MEMORY_BOUND, KERNEL_BOUND, GROWTH_BOUND, STEP_BOUND = 0.55, 1 / 30, 1.25, 1.2
LAYERS: dict[str, Callable[[], tuple]] = {
    "fused": lambda: ssm_peers.eigenhub_layer(FEATURES, STATES),
    "products alone": lambda: ssm_peers.products_only(FEATURES, STATES),
    "s5-pytorch": lambda: ssm_peers.s5_pytorch_layer(FEATURES, STATES),
    "associative_scan": lambda: ssm_peers.eigenhub_layer(FEATURES, STATES, "associative"),
    "naive S4D": lambda: ssm_peers.naive_s4d_layer(FEATURES, STATES // 2),
}
NOTE = "Ratios of the processor time of the fastest calls on one thread; of peak resident memory, where a row says so."
#: Longest sequences of contenders whose memory or time goes out of hand.
LONGEST = {"naive S4D": 4096}
SAME_LAYER = ("s5-pytorch", "associative_scan")


def available() -> dict[str, Callable[[], tuple]]:
    """The contenders that can run here."""
    if importlib.util.find_spec("s5") is not None:
        return LAYERS
    print("s5-pytorch is not installed and left out: pip install s5-pytorch==0.2.1", flush=True)
    return {name: make for name, make in LAYERS.items() if name != "s5-pytorch"}


def calls_at(length: int, jax: JaxPeer | None) -> dict[str, Callable[[], Any]]:
    """A forward and backward pass of every contender over one input, after a check that they compute the same."""
    u, upstream = ssm_peers.inputs(BATCH, length, FEATURES)
    calls: dict[str, Callable[[], Any]] = {}
    for name, make in available().items():
        if length <= LONGEST.get(name, length):
            layer, leaves = make()
            calls[name] = ssm_peers.step_of(layer, leaves, u, upstream)
    results = {name: calls[name]() for name in SAME_LAYER if name in calls}
    if jax is not None:
        results["JAX"], calls["JAX"] = jax.load(u, upstream), jax
    for name, found in results.items():
        for one, other in zip(found, calls["fused"](), strict=True):
            if (one - other).abs().max() > 1e-3 * other.abs().max():
                raise RuntimeError(f"{name} computes something else at L={length}")
    return calls


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int, label: str) -> dict[str, list[float]]:
    """Processor seconds of one call of each per round; a call that returns a number has measured itself."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in tqdm(range(rounds), desc=label):
        for name, call in calls.items():
            start = time.process_time()
            result = call()
            seconds[name].append(result if isinstance(result, float) else time.process_time() - start)
    return seconds


def fastest(seconds: dict[str, list[float]], name: str, peer: str) -> tuple[float, dict[str, Any]]:
    """Shortest call of `name` over shortest call of `peer`, both in milliseconds, and the spread."""
    one, other = min(seconds[name]), min(seconds[peer])
    times = {"milliseconds": 1e3 * one, "milliseconds_peer": 1e3 * other}
    return one / other, {**times, **halves(seconds, name, peer)}


def layer_time(length: int, rounds: int, jax: JaxPeer | None) -> list[dict]:
    seconds = in_turn(calls_at(length, jax), rounds, f"layer, L={length}")
    bounds = {"s5-pytorch": S5_BOUNDS, "JAX": JAX_BOUNDS}
    rows = []
    for peer in seconds:
        if peer != "fused":
            value, details = fastest(seconds, "fused", peer)
            times = f"{details['milliseconds']:.0f} ms against {details['milliseconds_peer']:.0f} ms"
            setting = f"forward + backward, {SHAPE}, L={length}, float32; {times}"
            shown = f"JAX {jax.version}, jitted" if jax is not None and peer == "JAX" else peer
            rows.append(row(f"fused scan / {shown}", setting, value, bounds.get(peer, {}).get(length), **details))
    return rows


def memory(length: int) -> list[dict]:
    """Highest resident memory above that of the process before, inputs and gradients included."""
    peaks = {name: peak_of(name, length) for name in available() if name in ("fused", "products alone", *SAME_LAYER)}
    rows = []
    for peer in peaks:
        if peer != "fused":
            bound = MEMORY_BOUND if peer == "s5-pytorch" else None
            setting = f"forward + backward, {SHAPE}, L={length}; {peaks['fused']:.0f} MB against {peaks[peer]:.0f} MB"
            value = peaks["fused"] / peaks[peer]
            rows.append(row(f"peak memory, fused scan / {peer}", setting, value, bound, "size"))
    return rows


def peak_of(name: str, length: int) -> float:
    """Megabytes, measured in a fresh process."""
    command = [sys.executable, __file__, "--peak", name, str(length)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    return float(done.stdout.splitlines()[-1])


def print_peak(name: str, length: int) -> None:
    """What the fresh process does; a tiny pass beforehand loads everything that is loaded late."""
    layer, leaves = LAYERS[name]()
    ssm_peers.step_of(layer, leaves, *ssm_peers.inputs(1, 8, FEATURES))()
    before = resident("VmRSS")
    call = ssm_peers.step_of(layer, leaves, *ssm_peers.inputs(BATCH, length, FEATURES))
    for _ in range(2):
        call()
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    """Resident memory now (`VmRSS`) or at its highest (`VmHWM`), in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def kernel_time(length: int, rounds: int) -> dict:
    """The kernel of S4D at H channels and N/2 states each."""
    calls = {
        name: ssm_peers.s4d_kernel_call(FEATURES, STATES // 2, length, naive=name == "naive")
        for name in ("two-level", "naive")
    }
    seconds = in_turn(calls, rounds, f"kernel, L={length}")
    value, details = fastest(seconds, "two-level", "naive")
    setting = f"forward + backward, H={FEATURES}, N/2={STATES // 2}, L={length}, float32"
    return row("S4D kernel, two-level / whole Vandermonde matrix", setting, value, KERNEL_BOUND, **details)


def growth(short: int, long: int, rounds: int) -> dict:
    """Time per step of a long sequence over that of a short one."""
    calls = {}
    for length in (short, long):
        layer, leaves = ssm_peers.eigenhub_layer(FEATURES, STATES)
        calls[str(length)] = ssm_peers.step_of(layer, leaves, *ssm_peers.inputs(1, length, FEATURES))
    value, details = fastest(in_turn(calls, rounds, "growth"), str(long), str(short))
    setting = f"fused, forward + backward, B=1, H={FEATURES}, P={STATES}, float32"
    if "range" in details:
        details["range"] = [end * short / long for end in details["range"]]
    return row(f"time per step at L={long} / L={short}", setting, value * short / long, GROWTH_BOUND, **details)


def step_time(short: int, long: int, rounds: int) -> dict:
    """One recurrent step after a long past over one after a short past."""
    p = ssm_peers.parameters(FEATURES, STATES)
    angle = p["eigenvalues"][:, 1] * p["log_step"].exp()
    lbar = 0.99 * torch.stack([angle.cos(), angle.sin()], -1)
    maps = lbar, p["b"], p["c"], p["d"]
    calls = {}
    for length in (short, long):
        state = diagonal_ssm(torch.randn(1, length, FEATURES), *maps)[1]
        calls[str(length)] = lambda state=state: ssm_step(torch.ones(1, FEATURES), state, *maps)
    value, details = fastest(in_turn(calls, rounds, "recurrent step"), str(long), str(short))
    setting = f"B=1, H={FEATURES}, P={STATES}, float32"
    return row(f"recurrent step after {long} steps / after {short}", setting, value, STEP_BOUND, **details)


def run(jax: JaxPeer | None, short: bool) -> list[dict]:
    rounds = {256: 3, 1024: 2} if short else ROUNDS
    rows = [entry for length, count in rounds.items() for entry in layer_time(length, count, jax)]
    for length in (1024,) if short else (4096, 16384):
        rows += memory(length)
    for length, count in {1024: 2}.items() if short else {1024: 40, 4096: 12, 16384: 3}.items():
        rows.append(kernel_time(length, count))
    with torch.no_grad():
        rows.append(step_time(256, 4096 if short else 65536, 50 if short else 2000))
    return [*rows, growth(1024, 4096, 2) if short else growth(4096, 131072, 4)]


def main() -> None:
    parser = arguments(__doc__, "full", "short sequences and few rounds; prints only")
    parser.add_argument("--jax-python", default=os.environ.get("EIGENHUB_JAX_PYTHON"), help="interpreter that has jax")
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "LENGTH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        return print_peak(args.peak[0], int(args.peak[1]))
    if args.jax_python is None:
        print("no --jax-python given: JAX is left out", flush=True)
    jax = JaxPeer(args.jax_python, FEATURES, STATES) if args.jax_python else None
    rows = run(jax, not args.full)
    if jax is not None:
        jax.close()
    packages = ["eigenhub", *(["s5-pytorch"] if importlib.util.find_spec("s5") else [])]
    save("s5_ptd", "S5-PTD: the scan", rows, packages, keep=args.full, note=NOTE)


if __name__ == "__main__":
    main()
