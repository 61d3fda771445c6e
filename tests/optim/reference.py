# SPDX-License-Identifier: Apache-2.0
"""The algorithms again, dense and in float64, written from their formulas and sharing no code with the package."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft


FIXED = (3.4445, -4.7750, 2.0315)


def basis(kind: str, n: int) -> np.ndarray:
    """Columns are the basis vectors; the random one is the package's own matrix, handed in by the caller."""
    c = scipy.fft.dct(np.eye(n), type=2, norm="ortho", axis=0)  # row i is cosine i
    return {"dct2": c.T, "dct3": c, "identity": np.eye(n)}[kind]


def width_of(count: int, fraction: float | int) -> int:
    return min(max(1, round(fraction * count) if isinstance(fraction, float) else fraction), count)


def best(scores: np.ndarray, rank: int) -> np.ndarray:
    return np.sort(np.argsort(-scores, kind="stable")[:rank])


@dataclass
class AdamWReference:
    value: np.ndarray
    options: dict[str, Any]

    def __post_init__(self) -> None:
        self.m = self.v = np.zeros_like(self.value)
        self.t = 0

    def step(self, gradient: np.ndarray) -> None:
        o = self.options
        (b1, b2), lr = o["betas"], o["lr"]
        self.t += 1
        g = -gradient if o["maximize"] else gradient
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        u = (self.m / (1 - b1**self.t)) / (np.sqrt(self.v / (1 - b2**self.t)) + o["eps"])
        self.value = (1 - lr * o["weight_decay"]) * self.value - lr * u


class DCTAdamWReference:
    """One matrix; a wide one is trained through its transpose."""

    def __init__(self, value: np.ndarray, options: dict[str, Any]) -> None:
        side = options["project"]
        self.flip = side == "left" or (side == "auto" and value.shape[0] < value.shape[1])
        self.theta = value.T.copy() if self.flip else value.copy()
        self.options = options
        rows, n = self.theta.shape
        self.rank = width_of(n, options["rank"])
        self.basis = basis(options["basis"], n)
        self.m = self.v = np.zeros((rows, self.rank))
        self.ef = np.zeros_like(self.theta)
        self.slots = np.zeros(self.rank)
        self.t, self.nu, self.index = 0, None, None

    @property
    def value(self) -> np.ndarray:
        return self.theta.T if self.flip else self.theta

    def step(self, gradient: np.ndarray) -> None:
        o = self.options
        (b1, b2), lr, eps = o["betas"], o["lr"], o["eps"]
        self.t += 1
        g = (-1 if o["maximize"] else 1) * (gradient.T if self.flip else gradient)
        a_full = g + self.ef
        if self.t == 1 or self.t % o["update_proj_gap"] == 0:
            new = best((np.abs(a_full @ self.basis) ** o["score_norm"]).sum(0), self.rank)
            if self.t > 1 and o["rotate"]:
                self.change(new)
            self.index = new
        vectors = self.basis[:, self.index]
        a = a_full @ vectors
        rest = a_full - a @ vectors.T
        if o["error_feedback"] is not None:
            self.ef = rest
        self.slots = self.slots + 1
        self.m = b1 * self.m + (1 - b1) * a
        self.v = b2 * self.v + (1 - b2) * a * a
        t = self.slots if o["per_slot_bias_correction"] else self.t
        self.theta = (1 - lr * o["weight_decay"]) * self.theta
        if o["residual"] is None:
            u = (self.m / (1 - b1**t)) / (np.sqrt(self.v / (1 - b2**t)) + eps)
            self.theta = self.theta - lr * u @ vectors.T
        else:
            u = self.m / (np.sqrt(self.v) + eps * math.sqrt(1 - b2**t))
            size = lr * math.sqrt(1 - b2**t) / (1 - b1**t)
            self.theta = self.theta - size * (u @ vectors.T + self.limited(u, a, rest))

    def change(self, new: np.ndarray) -> None:
        """The dense change of basis, rounded to the 0/1 matrix that it is."""
        r = np.round(self.basis[:, self.index].T @ self.basis[:, new])
        self.m, self.v, self.slots = self.m @ r, np.abs(self.v @ r), self.slots @ r

    def limited(self, u: np.ndarray, a: np.ndarray, rest: np.ndarray) -> np.ndarray:
        phi = np.linalg.norm(u, axis=1) / (np.linalg.norm(a, axis=1) + 1e-8)
        d = phi[:, None] * rest
        if self.nu is not None:
            d = d / (max(np.linalg.norm(d) / (self.nu + 1e-8), 1.01) / 1.01)
        self.nu = np.linalg.norm(d)
        return d


def newton_schulz(x: np.ndarray, steps: int) -> np.ndarray:
    x = x / (np.linalg.norm(x) + 1e-7)
    if x.shape[0] > x.shape[1]:
        return iterate(x.T, steps).T
    return iterate(x, steps)


def iterate(x: np.ndarray, steps: int) -> np.ndarray:
    a, b, c = FIXED
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class TrionReference:
    def __init__(self, value: np.ndarray, options: dict[str, Any]) -> None:
        side = options["project"]
        self.flip = side == "left" or (side == "auto" and value.shape[0] < value.shape[1])
        self.theta = value.T.copy() if self.flip else value.copy()
        self.options = options
        self.momentum = np.zeros_like(self.theta)
        self.rank = width_of(self.theta.shape[1], options["rank"])
        self.basis = basis(options["basis"], self.theta.shape[1])

    @property
    def value(self) -> np.ndarray:
        return self.theta.T if self.flip else self.theta

    def step(self, gradient: np.ndarray) -> None:
        o, lr = self.options, self.options["lr"]
        g = (-1 if o["maximize"] else 1) * (gradient.T if self.flip else gradient)
        total = self.momentum + g
        index = best((np.abs(total @ self.basis) ** o["score_norm"]).sum(0), self.rank)
        vectors = self.basis[:, index]
        b = total @ vectors
        kept = b @ vectors.T
        self.momentum = o["momentum"] * kept + (total - kept)
        rows, columns = self.value.shape[::-1] if o["transposed"] else self.value.shape
        scales = {
            "spectral": math.sqrt(max(1, rows / columns)),
            "none": 1.0,
            "match_rms_adamw": 0.2 * math.sqrt(max(rows, columns)),
            "dion": math.sqrt(rows / columns),
        }
        scale = scales[o["scale"]]
        if o["rank_rms_correction"]:
            scale /= math.sqrt(self.rank / min(rows, columns))
        update = newton_schulz(b, o["ns_steps"]) @ vectors.T
        self.theta = (1 - lr * o["weight_decay"]) * self.theta - lr * scale * update


class AuONReference:
    """Any shape; a stack is normalised as a whole and orthogonalised matrix by matrix."""

    def __init__(self, value: np.ndarray, options: dict[str, Any]) -> None:
        self.value, self.options = value.copy(), options
        self.buffer = np.zeros_like(value)

    def step(self, gradient: np.ndarray) -> None:
        o, lr, mu = self.options, self.options["lr"], self.options["momentum"]
        g = -gradient if o["maximize"] else gradient
        self.buffer = mu * self.buffer + (1 - mu) * g
        d = (1 - mu) * g + mu * self.buffer if o["nesterov"] else self.buffer
        hybrid = o["ns_steps"] > 0
        if hybrid and d.ndim >= 2:
            matrices = [newton_schulz(m, o["ns_steps"]) for m in d.reshape(-1, *d.shape[-2:])]
            d = np.stack(matrices).reshape(d.shape)
        x = d / (np.linalg.norm(d) + 1e-7)
        gamma = o["gamma"] if o["gamma"] is not None else {"normalized": 1.0, "package": 1.5, "rms": 0.5}[o["variant"]]
        rho = math.sqrt((np.cosh(gamma * x) ** 2).mean())
        if hybrid or o["variant"] == "package":
            u = d / (rho + 1e-8)
        elif o["variant"] == "normalized":
            u = x / (rho + 1e-8) * (math.sqrt(max(1, d.shape[-2] / d.shape[-1])) if d.ndim >= 2 else 1)
        else:
            z = d / math.sqrt((d * d).mean())
            rho = math.sqrt((np.cosh(gamma * z) ** 2).mean())
            u = x * math.sqrt((1 + math.exp(2 * gamma**2)) / 2) / rho
            u = u * (math.sqrt(max(1, d.shape[-2] / d.shape[-1])) if d.ndim >= 2 else 1)
        self.value = (1 - lr * o["weight_decay"]) * self.value - lr * u
