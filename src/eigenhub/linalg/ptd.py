# SPDX-License-Identifier: Apache-2.0
r"""Perturb, then diagonalise: $A + E = V \Lambda V^{-1}$ of HiPPO-LegS with a well-conditioned V and a small E."""

import math
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from eigenhub.linalg.legs import check_order, hippo_legs
from eigenhub.linalg.ptd_optimizer import default_gamma, optimize_perturbation
from eigenhub.linalg.ptd_result import PTDResult, diagonalize
from eigenhub.linalg.ptd_solutions import PACKAGED, PTDProblem, load_solution, save_solutions
from eigenhub.linalg.transfer import check_tau


PTD_METHODS = ("optimized", "lowrank", "gaussian", "given")

# Real part of an eigenvalue that lay on the imaginary axis after reflection.
LEAST_DECAY = 1e-4


def ptd_diagonalize(
    n: int,
    method: str = "optimized",
    *,
    gamma: float | None = None,
    tau: float = 0.1,
    steps: int = 500,
    seed: int = 0,
    delta: float = 1e-3,
    complex_noise: bool = False,
    perturbation: Tensor | None = None,
    cache_dir: str | Path | None = None,
) -> PTDResult:
    r"""Diagonalise a slightly perturbed HiPPO-LegS matrix, $A + E = V \Lambda V^{-1}$.

    | method | E |
    | --- | --- |
    | `"optimized"` | real minimiser of $\log \kappa_2(V) + \gamma \lVert E \rVert_F/\lVert A \rVert_F$ |
    | `"lowrank"` | $\tau P P^\top$: stable for every $\tau$, and the gain over HiPPO is at most $1/(1-\tau)$ at every frequency and order |
    | `"gaussian"` | Gaussian noise with $\lVert E \rVert_2 = \delta \lVert A \rVert_2$; unstable eigenvalues are reflected and E becomes what then separates the matrix from A |
    | `"given"` | `perturbation` |

    Solutions for n = 8, 16, 32, 64 and 128 with the default settings come with the package; others are found in seconds and
    kept for the life of the process, and on disk if `cache_dir` is given. Everything is float64 on the CPU, whatever the
    default device, and can be called under `no_grad`.

    Args:
        n (`int`): order, at least 1.
        method (`str`, *optional*, defaults to `"optimized"`): one of the above.
        gamma (`float`, *optional*): weight of the size of E for `"optimized"`: more gives a smaller E and a larger condition
            number. By default [`default_gamma`].
        tau (`float`, *optional*, defaults to 0.1): size of the perturbation of `"lowrank"`, above 0 and at most 1, and start
            of the search of `"optimized"`.
        steps (`int`, *optional*, defaults to 500): largest number of iterations in each stage of `"optimized"`.
        seed (`int`, *optional*, defaults to 0): seed of `"gaussian"` and of the restarts of `"optimized"`.
        delta (`float`, *optional*, defaults to 1e-3): relative size of `"gaussian"`.
        complex_noise (`bool`, *optional*, defaults to `False`): complex instead of real `"gaussian"`.
        perturbation (`Tensor` of shape `(n, n)`, *optional*): E of `"given"`, real or complex.
        cache_dir (`str` or `Path`, *optional*): folder in which solutions of `"optimized"` are kept and looked for.

    Returns:
        [`PTDResult`] with fields `lambda_`, `V`, `Vinv`, `E`, `info`.

    Raises:
        ValueError: an argument out of range, or a perturbation that leaves an eigenvalue with a real part that is not
            negative, or eigenvectors that are not invertible in float64.

    Example:

    ```python
    >>> from eigenhub.linalg.hippo import ptd_diagonalize
    >>> result = ptd_diagonalize(64)
    >>> result.info["kappa"] < 8 and result.info["rel_frobenius"] < 0.03
    True
    ```

    Reference: Yu et al., "Robustifying State-space Models for Long Sequences via Approximate Diagonalization" (arXiv
    2310.01698), section 4.2. The paper minimises $\kappa + \gamma\lVert E\rVert$ from a random start; `"lowrank"` is ours.
    """
    check_order(n)
    _check_settings(method, gamma, tau, steps, delta, perturbation)
    with torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
        if method == "optimized":
            problem = PTDProblem(n, float(default_gamma(n) if gamma is None else gamma), float(tau), steps, seed)
            result = _optimized(problem, None if cache_dir is None else Path(cache_dir))
        elif method == "given":
            result = diagonalize(n, _given(n, perturbation))
        elif method == "lowrank":
            result = _lowrank(n, tau)
        else:
            result = diagonalize(n, _gaussian(n, delta, seed, complex_noise))
    lambda_, v, vinv, e, info = result
    return PTDResult(lambda_.clone(), v.clone(), vinv.clone(), e.clone(), dict(info))


def _check_settings(
    method: str, gamma: float | None, tau: float, steps: int, delta: float, perturbation: Tensor | None
) -> None:
    if method not in PTD_METHODS:
        raise ValueError(f"`method` must be one of {', '.join(PTD_METHODS)}, got {method!r}")
    if method == "given" and perturbation is None:
        raise ValueError("`perturbation` must be an (n, n) tensor for method 'given', got None")
    if method != "given" and perturbation is not None:
        raise ValueError(f"`perturbation` is for method 'given' only, got method {method!r}")
    check_tau(tau)
    if tau == 0:
        raise ValueError("`tau` must be above 0: HiPPO itself cannot be diagonalised in floating point, got 0")
    if gamma is not None and not 0 < gamma < math.inf:
        raise ValueError(f"`gamma` must be positive and finite, got {gamma!r}")
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1, got {steps!r}")
    if not 0 < delta < math.inf:
        raise ValueError(f"`delta` must be positive and finite, got {delta!r}")


@lru_cache(maxsize=64)
def _optimized(problem: PTDProblem, folder: Path | None) -> PTDResult:
    e = load_solution(PACKAGED, problem)
    kept = None if folder is None else folder / f"ptd_{problem.key}.safetensors"
    if e is None and kept is not None:
        e = load_solution(kept, problem)
    if e is not None:
        return diagonalize(problem.n, e)
    with torch.enable_grad():
        e = optimize_perturbation(*problem)
    result = diagonalize(problem.n, e)
    if kept is not None:
        save_solutions(kept, {problem: (e, result.info)})
    return result


@lru_cache(maxsize=64)
def _lowrank(n: int, tau: float) -> PTDResult:
    _, _, p = hippo_legs(n)
    return diagonalize(n, tau * torch.outer(p, p), 1 - tau / 2)


def _gaussian(n: int, delta: float, seed: int, complex_noise: bool) -> Tensor:
    a, _, _ = hippo_legs(n)
    dtype = torch.complex128 if complex_noise else torch.float64
    noise = torch.randn(n, n, dtype=dtype, device="cpu", generator=torch.Generator("cpu").manual_seed(seed))
    e = noise * (delta * torch.linalg.matrix_norm(a, 2) / torch.linalg.matrix_norm(noise, 2))
    values, v = torch.linalg.eig(a + e)
    if values.real.max() < 0:
        return e
    values = torch.complex(-values.real.abs().clamp(min=LEAST_DECAY), values.imag)
    reflected = torch.linalg.solve(v, v * values, left=False) - a
    return reflected if complex_noise else reflected.real


def _given(n: int, perturbation: Tensor | None) -> Tensor:
    assert perturbation is not None
    if perturbation.shape != (n, n):
        raise ValueError(f"`perturbation` must have shape ({n}, {n}), got {tuple(perturbation.shape)}")
    if not torch.isfinite(perturbation).all():
        raise ValueError("`perturbation` has entries that are NaN or infinite")
    dtype = torch.complex128 if perturbation.is_complex() else torch.float64
    return perturbation.detach().to(device="cpu", dtype=dtype)
