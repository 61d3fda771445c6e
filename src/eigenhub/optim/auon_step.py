# SPDX-License-Identifier: Apache-2.0
"""One step of AuON on a list of parameters: a few passes over the entries, one number per matrix in between."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from eigenhub.linalg.newton_schulz import newton_schulz
from eigenhub.optim.adamw import compute_dtype_of
from eigenhub.optim.brake import SERIES, log_rms_cosh, series_terms
from eigenhub.optim.sharding import (
    aligned_part,
    gathered,
    is_sharded,
    local_part,
    reduce_scalars,
    scalar_dtype,
    scattered,
)


if TYPE_CHECKING:
    from eigenhub.optim.base import MatrixOptimizer

RHO_EPS = 1e-8
DEFAULT_GAMMA = {"normalized": 1.0, "package": 1.5, "rms": 0.5}


class AuonStep:
    """See [`AuON`] for the algorithm.

    A unit is what gets a number of its own: a parameter, or with `per_matrix` one matrix of a stack.

    Args:
        optimizer (`MatrixOptimizer`): holds the state and takes the statistics.
        group (`dict`): options.
        parameters (`list[Tensor]`): with gradients and momentum buffers.
        lr (`float`): step size.
    """

    def __init__(
        self, optimizer: "MatrixOptimizer", group: dict[str, Any], parameters: list[Tensor], lr: float
    ) -> None:
        self.optimizer, self.group, self.parameters, self.lr = optimizer, group, parameters, lr
        variant = group["variant"]
        self.gamma = DEFAULT_GAMMA[variant] if group["gamma"] is None else group["gamma"]
        self.hybrid = group["ns_steps"] > 0
        self.divides = variant != "package" and not self.hybrid

    def run(self) -> None:
        """Update state and parameters."""
        own = [local_part(parameter) for parameter in self.parameters]
        directions = self._mixed()
        if self.hybrid:
            directions = self._orthogonalised(directions)
        counts = [d.shape[0] if self.group["per_matrix"] and d.ndim == 3 else 1 for d in directions]
        self.owners = [p for p, count in zip(self.parameters, counts, strict=True) for _ in range(count)]
        self.units = self._split(directions)
        coefficients = torch.zeros(0)
        if self.units:  # a process may hold no matrix of a stack
            coefficients = self._coefficients(self._across(_squares(self.units), self.owners).sqrt())
        if self.group["weight_decay"]:
            torch._foreach_mul_(own, 1 - self.lr * self.group["weight_decay"])
        for target, unit, coefficient in zip(self._split(own), self.units, coefficients, strict=True):
            torch.addcmul(target, unit, coefficient, value=-self.lr, out=target)

    def _mixed(self) -> list[Tensor]:
        """The directions; the buffers are updated on the way."""
        keep = self.group["momentum"]
        buffers = [local_part(self.optimizer.state[p]["momentum_buffer"]) for p in self.parameters]
        grads = [aligned_part(cast(Tensor, p.grad), p).to(compute_dtype_of(p)) for p in self.parameters]
        if self.group["maximize"]:
            grads = list(torch._foreach_neg(grads))
        work = [b.to(g.dtype) for b, g in zip(buffers, grads, strict=True)]
        torch._foreach_lerp_(work, grads, 1 - keep)
        if any(w is not b for w, b in zip(work, buffers, strict=True)):
            torch._foreach_copy_(buffers, work)
        return list(torch._foreach_lerp(grads, work, keep)) if self.group["nesterov"] else work

    def _orthogonalised(self, directions: Sequence[Tensor]) -> list[Tensor]:
        """What Newton-Schulz makes of the directions: equal ones as one stack on accelerators; split ones are gathered."""
        results = list(directions)
        stacks: dict[Any, list[int]] = {}
        for i, (direction, parameter) in enumerate(zip(directions, self.parameters, strict=True)):
            if direction.ndim < 2:
                continue
            if is_sharded(parameter):
                results[i] = scattered(self._iterated(gathered(direction, parameter)), parameter)
            else:
                alike = (direction.shape, direction.dtype) if self._stacks(direction.device) else i
                stacks.setdefault(alike, []).append(i)
        for members in stacks.values():
            polar = self._iterated(torch.stack([directions[i] for i in members]))
            for i, part in zip(members, polar.unbind(0), strict=True):
                results[i] = part
        return results

    def _stacks(self, device: torch.device) -> bool:
        wanted: bool | None = self.group["foreach"]
        return device.type != "cpu" if wanted is None else wanted

    def _iterated(self, direction: Tensor) -> Tensor:
        dtype = getattr(torch, self.group["ns_dtype"]) if self.group["ns_dtype"] else None
        return newton_schulz(direction, self.group["ns_steps"], dtype=dtype)

    def _split(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        single = self.group["per_matrix"]
        return [unit for t in tensors for unit in (t.unbind(0) if single and t.ndim == 3 else [t])]

    def _coefficients(self, norms: Tensor) -> Tensor:
        """The factor of every unit, without the step size, as one vector: no number travels to the host."""
        entries = [self._entries(owner) for owner in self.owners]
        sizes = torch.tensor(entries, dtype=norms.dtype).to(norms.device)
        if self.group["variant"] == "rms" and not self.hybrid:
            rho = self._rms_brake(norms, sizes)
        else:
            rho = self._brake(norms, sizes, entries)
        shapes = [self._shape_factor(owner) for owner in self.owners]
        factors = torch.tensor(shapes, dtype=norms.dtype).to(norms.device) / (rho + RHO_EPS)
        if self.divides:
            factors = factors / (norms + self.group["norm_eps"])
        # No direction, no step; and a norm that is not finite must not pass as a tiny step of the finite entries.
        factors = torch.where(norms == 0, 0.0, torch.where(norms.isfinite(), factors, torch.nan))
        if self.optimizer.collect_statistics:
            rms = self.lr * factors * norms / sizes.sqrt()
            for owner, value in zip(self.owners, rms, strict=True):
                self.optimizer.record(owner, {"update_rms": value})
        return factors

    def _brake(self, norms: Tensor, sizes: Tensor, entries: list[int]) -> Tensor:
        r"""$\rho$ of every unit; large ones need a few terms of the series of $\sinh^2$, not a $\sinh$ of every entry."""
        scale = self.gamma / (norms + self.group["norm_eps"])
        excess = (scale * norms).square()  # the first term: sum of (gamma x)^2
        terms = [series_terms(count, self.gamma) for count in entries]
        for count in sorted(set(terms) - {1}):
            members = [i for i, own in enumerate(terms) if own == count]
            sums = _sinh_squares([self.units[i] * scale[i] for i in members], count)
            sums = self._across(sums, [self.owners[i] for i in members])
            where = torch.tensor(members, device=sums.device)
            excess = excess.index_add(0, where, sums) if count else excess.index_copy(0, where, sums)
        return (1 + excess / sizes).sqrt()

    def _rms_brake(self, norms: Tensor, sizes: Tensor) -> Tensor:
        r"""$\rho(d / \mathrm{rms}(d)) / \sqrt{(1 + e^{2\gamma^2}) / 2}$ of every unit, in the log domain."""
        expected = 0.5 * (math.log1p(math.exp(-2 * self.gamma**2)) + 2 * self.gamma**2 - math.log(2))
        scale = sizes.sqrt() / torch.where(norms > 0, norms, 1.0)
        logs = [norms.new_tensor(-math.inf)] * len(self.units)  # an uneven split may leave nothing here
        for i, unit in enumerate(self.units):
            if unit.numel():
                mean = 2 * log_rms_cosh((unit * scale[i]).flatten(), self.gamma).to(norms.dtype)
                logs[i] = mean + math.log(unit.numel())
        local = torch.stack(logs)  # log of the sum of cosh^2 over the entries on this process
        top = self._across(local, self.owners, largest=True)
        total = self._across((local - top).exp(), self.owners).log() + top
        return (0.5 * (total - sizes.log()) - expected).exp()

    def _across(self, values: Tensor, owners: Sequence[Tensor], largest: bool = False) -> Tensor:
        return reduce_scalars(values, owners, whole=not self.group["per_matrix"], largest=largest)

    def _entries(self, owner: Tensor) -> int:
        single = self.group["per_matrix"] and owner.ndim == 3
        return owner.shape[1:].numel() if single else owner.shape.numel()

    def _shape_factor(self, owner: Tensor) -> float:
        rule = self.group["adjust_lr"]
        if rule is None:
            rule = "original" if self.divides else "none"
        if rule == "none" or owner.ndim < 2:
            return 1.0
        rows, columns = reversed(owner.shape[-2:]) if self.group["transposed"] else owner.shape[-2:]
        if rule == "original":
            return math.sqrt(max(1.0, rows / columns))
        # A matrix of norm one has a root mean square of 1 / sqrt(N), an orthogonal one of 1 / sqrt(max(R, C)).
        return 0.2 * math.sqrt(max(rows, columns) if self.hybrid else self._entries(owner))


def _squares(units: list[Tensor]) -> Tensor:
    """Squared norm of the part of every unit on this process."""
    norms = torch.stack(torch._foreach_norm(units))
    return norms.to(scalar_dtype(norms.device)).square()


def _sinh_squares(units: list[Tensor], terms: int) -> Tensor:
    r"""Sums of $\sinh(y)^2$ over the entries of every unit, or, for a series of `terms`, of all terms but the first."""
    if terms == 0:
        return _squares(list(torch._foreach_sinh(units)))
    powers = units
    sums = []
    for factor in SERIES[1:terms]:
        powers = list(torch._foreach_mul(powers, units))
        sums.append(factor * _squares(powers))
    return torch.stack(sums).sum(0)
