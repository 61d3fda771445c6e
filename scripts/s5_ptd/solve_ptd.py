# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub"]
# ///
r"""Find the perturbations that `ptd_diagonalize` ships with, and write them with their figures into one file.

    python scripts/s5_ptd/solve_ptd.py
    python scripts/s5_ptd/solve_ptd.py --orders 48 96 --gamma 20 --output perturbations.safetensors

Every solution is solved afresh, whatever files there are. The file holds E in float32 under the name of its problem; the
metadata under the same name is a JSON object with the problem, the condition number of the eigenvectors, the size of E relative to
A in both norms, the largest real part of an eigenvalue, the backward error and the largest gain over HiPPO.
"""

import argparse
import time
from pathlib import Path


ORDERS = (8, 16, 32, 64, 128)
COLUMNS = ("kappa", "rel_spectral", "rel_frobenius", "max_re", "max_gain", "backward_error")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, nargs="+", default=ORDERS, help="default: %(default)s")
    parser.add_argument("--gamma", type=float, help="weight of the size of E; default: that of each order")
    parser.add_argument("--tau", type=float, default=0.1, help="start of the search; default: %(default)s")
    parser.add_argument("--steps", type=int, default=500, help="iterations of each stage; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the restarts; default: %(default)s")
    parser.add_argument("--output", type=Path, help="default: the file inside the package")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from eigenhub.linalg.ptd import ptd_diagonalize
    from eigenhub.linalg.ptd_optimizer import default_gamma, optimize_perturbation
    from eigenhub.linalg.ptd_solutions import PACKAGED, PTDProblem, save_solutions

    solutions = {}
    print(f"{'n':>4} {'gamma':>7} {'seconds':>8}", *(f"{name:>14}" for name in COLUMNS))
    for n in args.orders:
        gamma = default_gamma(n) if args.gamma is None else args.gamma
        problem = PTDProblem(n, gamma, args.tau, args.steps, args.seed)
        started = time.perf_counter()
        e = optimize_perturbation(*problem)
        info = ptd_diagonalize(n, "given", perturbation=e).info
        solutions[problem] = (e, {**problem._asdict(), **info})
        seconds = time.perf_counter() - started
        print(f"{n:>4} {gamma:>7.4g} {seconds:>8.1f}", *(f"{info[name]:>14.5g}" for name in COLUMNS), flush=True)
    output = args.output or PACKAGED
    save_solutions(output, solutions)
    print(f"{len(solutions)} solutions in {output} ({output.stat().st_size / 1024:.0f} KiB)")


if __name__ == "__main__":
    main()
