# SPDX-License-Identifier: Apache-2.0
"""Perturbations on disk: those that come with the package, and those that a user keeps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from eigenhub.files import open_tensors, write_tensors


#: Made by `scripts/s5_ptd/solve_ptd.py`. Where this file is missing (in a model exported with its code) they are solved again.
PACKAGED = Path(__file__).with_name("ptd_solutions.safetensors")


class PTDProblem(NamedTuple):
    """All that an optimised perturbation depends on.

    Args:
        n (`int`): order.
        gamma (`float`): weight of the size of E.
        tau (`float`): start of the search.
        steps (`int`): largest number of iterations.
        seed (`int`): seed of the restarts.
    """

    n: int
    gamma: float
    tau: float
    steps: int
    seed: int

    @property
    def key(self) -> str:
        """Name of the solution in a file, for example `n64_gamma26.8_tau0.1_steps500_seed0`."""
        return f"n{self.n}_gamma{self.gamma}_tau{self.tau}_steps{self.steps}_seed{self.seed}"


def load_solution(path: Path, problem: PTDProblem) -> Tensor | None:
    """The perturbation `(n, n)` of a problem in float64, or `None` if the file does not exist or does not have it.

    Args:
        path (`Path`): file written by [`save_solutions`].
        problem (`PTDProblem`): which one.
    """
    if not path.is_file():
        return None
    with open_tensors(path) as file:
        e = file.get_tensor(problem.key).double() if problem.key in file.keys() else None
    if e is not None and not (e.shape == (problem.n, problem.n) and e.isfinite().all()):
        raise ValueError(f"{path} must hold a finite matrix of order {problem.n}, got one of shape {tuple(e.shape)}")
    return e


def save_solutions(path: Path, solutions: Mapping[PTDProblem, tuple[Tensor, Mapping[str, float]]]) -> None:
    """Write perturbations in float32 (they are rounded to it when they are found), with what is known of them as metadata.

    Args:
        path (`Path`): file to write; a reader never sees half of it.
        solutions (`Mapping`): perturbation and figures of every problem.
    """
    tensors = {problem.key: e.float() for problem, (e, _) in solutions.items()}
    metadata = {problem.key: json.dumps(dict(info)) for problem, (_, info) in solutions.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, metadata)
