# SPDX-License-Identifier: Apache-2.0
"""EigenScore's exact form against the published ones, and against estimates where there are many answers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenhub.linalg.spectrum import gram_operator, rademacher, stochastic_lanczos_quadrature
from eigenhub.metrics import ees, eigenscore
from eigenhub.metrics.conventions import centred, get_convention
from eigenhub.metrics.ees_official import ees_official, official_coefficients
from support.report import row
from support.send_data import KINDS, clustered
from support.send_timing import fastest


ALPHA = 1e-3
MOMENTS, PROBES = 20, 20  # of the published form in training
FEATURES = 2048
ERROR_BOUND = 0.01


def centring_matrix(d: int) -> Tensor:
    return torch.eye(d, dtype=torch.float64) - torch.full((d, d), 1 / d, dtype=torch.float64)


def dense_score(x: Tensor, centring: Tensor | None = None) -> Tensor:
    """The formula as printed: X J Xᵀ with a d x d matrix J, made in every call as in the SenD code, or given."""
    centring = centring_matrix(x.shape[1]) if centring is None else centring
    gram = x @ centring @ x.mT
    return torch.linalg.eigvalsh(gram + ALPHA * torch.eye(len(x), dtype=torch.float64)).log().mean()


def released(x: np.ndarray, coefficients: np.ndarray, seed: int = 0) -> float:
    """EES line by line as its authors released it: numpy, a power method, one probe at a time."""
    rng = np.random.default_rng(seed)
    e = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    e = e.T  # [d, K]
    vector = rng.random(e.shape[1])
    for _ in range(500):
        image = e.T @ (e @ vector)
        image /= np.linalg.norm(image)
        if np.linalg.norm(image - vector) < 1:
            break
        vector = image
    e = e / np.linalg.norm(e @ image)
    total = 0.0
    for _ in range(PROBES):
        z = rng.standard_normal(e.shape[1])
        before, current = z, e.T @ (e @ z)
        for coefficient in coefficients:
            total += coefficient * (z @ current) / (len(z) * PROBES)
            before, current = current, 2 * e.T @ (e @ current) - before
    return total


def few_answers(d: int) -> list[dict[str, Any]]:
    """Ten answers: the exact form against the published ones, and 64 prompts at once.

    Args:
        d (`int`): features.
    """
    batch = torch.stack([clustered(10, d, seed) for seed in range(64)])
    x, given = batch[0], centring_matrix(d)
    score = eigenscore(x, "inside_paper")
    for other in (dense_score(x), dense_score(x, given)):
        torch.testing.assert_close(score, other, rtol=1e-9, atol=1e-9)
    array, coefficients = x.numpy(), official_coefficients(MOMENTS).numpy()
    ours = fastest(lambda: eigenscore(x, "inside_paper"), 10)
    peers = (
        (f"EES as released, M={MOMENTS}, N_z={PROBES}", lambda: released(array, coefficients), 1 / 50),
        (f"`ees_official`, M={MOMENTS}, N_z={PROBES}, probes at once", lambda: ees_official(x), 1 / 50),
        ("dense centring matrix, as in the SenD code", lambda: dense_score(x), 1 / 100),
        ("dense centring matrix, kept, as in lm-polygraph", lambda: dense_score(x, given), 1 / 50),
    )
    setting = f"K=10, d={d}; {1e3 * ours:.3g} ms"
    rows = []
    for name, call, bound in peers:
        seconds = fastest(call)
        rows.append(
            row(f"exact EigenScore / {name}", f"{setting} against {1e3 * seconds:.3g} ms", ours / seconds, bound)
        )
    together = fastest(lambda: eigenscore(batch, "inside_paper"))
    loops: tuple[tuple[str, Callable[[], object], float | None], ...] = (
        ("a loop of the dense form, its matrix kept", lambda: [dense_score(item, given) for item in batch], 1 / 10),
        ("a loop of the exact form", lambda: [eigenscore(item, "inside_paper") for item in batch], None),
    )
    for name, call, bound in loops:
        seconds = fastest(call)
        where = f"K=10, d={d}; {1e3 * together:.3g} ms against {1e3 * seconds:.3g} ms"
        rows.append(row(f"64 prompts at once / {name}", where, together / seconds, bound))
    return rows


def many_answers(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Exact on the smaller side, EES and SLQ as the answers grow in number.

    Args:
        sizes (`tuple[int, ...]`): K.
    """
    rows = []
    for k in sizes:
        x, generator = clustered(k, FEATURES), torch.Generator().manual_seed(0)
        exact = fastest(lambda x=x: eigenscore(x, method="exact"), 2)
        for name, call, bound in (
            ("SLQ", lambda x=x, g=generator: eigenscore(x, method="slq", generator=g), 1.0 if k >= 2000 else None),
            (f"EES, M={MOMENTS}, N_z={PROBES}", lambda x=x, g=generator: ees(x, generator=g), None),
        ):
            seconds = fastest(call, 2)
            setting = f"K={k}, d={FEATURES}, clustered; {1e3 * seconds:.3g} ms against {1e3 * exact:.3g} ms"
            rows.append(row(f"{name} / exact", setting, seconds / exact, bound))
    return rows


def errors(k: int, draws: int) -> list[dict[str, Any]]:
    """What SLQ is off by, and what it would be with Gauss quadrature alone, from the same probes.

    Args:
        k (`int`): answers.
        draws (`int`): sets of probes.
    """
    rows = []
    for kind, make in KINDS.items():
        x = make(k, FEATURES)
        exact = eigenscore(x, method="exact")
        found = torch.stack(
            [eigenscore(x, method="slq", generator=torch.Generator().manual_seed(seed)) for seed in range(draws)]
        )
        plain = torch.stack([gauss_alone(x, seed) for seed in range(draws)])
        for name, values, bound in (("SLQ", found, ERROR_BOUND), ("SLQ, Gauss quadrature alone", plain, None)):
            off = values - exact
            setting = (
                f"K={k}, d={FEATURES}, {kind}, {draws} draws of 20 probes; exact {exact:.3f}, "
                f"mean error {off.mean():+.4f} with standard error {off.std() / draws**0.5:.4f}"
            )
            rows.append(
                row(
                    f"{name}: mean size of the error of the mean logarithm",
                    setting,
                    float(off.abs().mean()),
                    bound,
                    "error",
                )
            )
    return rows


def gauss_alone(x: Tensor, seed: int) -> Tensor:
    """Twenty steps without the second quadrature and the known trace."""
    rows, divisor = centred(x, get_convention("inside"), None)
    rows = rows / divisor**0.5
    probes = rademacher(rows, 20, torch.Generator().manual_seed(seed))
    return stochastic_lanczos_quadrature(gram_operator(rows, shift=ALPHA), probes).value
