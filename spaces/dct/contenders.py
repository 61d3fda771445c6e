# SPDX-License-Identifier: Apache-2.0
"""From the settings of a race to contenders, each with optimizers for its own copy of the model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from names import ADAMW, AUON, CONTENDERS, DCT, FROZEN, HYBRID, LEFT_OVER, MUON, RACE_BASES, TRION
from torch.nn import Module
from torch.optim import AdamW, Optimizer

from eigenhub.optim import AuONFactory, DCTAdamWFactory, TrionFactory, build_param_groups


BETAS, EPS = (0.9, 0.95), 1e-8


@dataclass(frozen=True)
class Settings:
    """
    What a visitor chose.

    Args:
        names (`Sequence[str]`): members of `CONTENDERS`.
        bases (`Sequence[str]`): keys of `RACE_BASES`; DCT-AdamW and Trion start once with each.
        rank (`int`): directions of DCT-AdamW and Trion, of 128.
        gap (`int`): steps between two choices of directions in DCT-AdamW.
        left_over (`str`): key of `LEFT_OVER`, what DCT-AdamW does with the rest of the gradient.
        rates (`Mapping[str, float]`): peak rate of the matrices by contender.
        aux_rate (`float`): peak rate of everything else, the same for all.
    """

    names: Sequence[str]
    bases: Sequence[str]
    rank: int
    gap: int
    left_over: str
    rates: Mapping[str, float]
    aux_rate: float

    def check(self) -> None:
        """Raises in words for the visitor."""
        if not self.names:
            raise gr.Error("Choose at least one contender.")
        if unknown := [name for name in self.names if name not in CONTENDERS]:
            raise gr.Error(f"Contenders are {', '.join(CONTENDERS)}, not {unknown[0]!r}.")
        if {DCT, TRION} & set(self.names) and (not self.bases or not set(self.bases) <= set(RACE_BASES)):
            raise gr.Error(f"Choose one or more of the bases {', '.join(RACE_BASES)}.")
        if self.left_over not in LEFT_OVER:
            raise gr.Error(f"What the projection leaves out is one of {', '.join(LEFT_OVER)}, not {self.left_over!r}.")
        if MUON in self.names and not hasattr(torch.optim, "Muon"):
            raise gr.Error(f"Muon needs torch 2.9 or later, this is {torch.__version__}.")
        if min(self.rank, self.gap) < 1 or self.aux_rate < 0 or min(self.rates.values()) < 0:
            raise gr.Error("Rank and gap must be at least 1, and no learning rate may be negative.")


@dataclass(frozen=True)
class Contender:
    """One curve: who trains the matrices, in which basis, at which rate."""

    kind: str
    basis: str | None
    rate: float

    @property
    def label(self) -> str:
        return self.kind if self.basis is None else f"{self.kind}, {RACE_BASES[self.basis]}"


def contenders(settings: Settings) -> Iterator[Contender]:
    """In the order of `CONTENDERS`."""
    for kind in (name for name in CONTENDERS if name in settings.names):
        rate = settings.rates.get(kind, 0.0)
        for basis in RACE_BASES if kind in (DCT, TRION) else (None,):
            if basis is None or basis in settings.bases:
                yield Contender(kind, basis, rate)


def make_optimizers(contender: Contender, settings: Settings, model: Module) -> list[Optimizer]:
    """Optimizers for all parameters that are trained, without weight decay."""
    if contender.kind in (FROZEN, ADAMW, MUON):
        return _baseline(contender, settings, model)
    aux = {"betas": BETAS, "eps": EPS}
    shared = {"lr": contender.rate, "weight_decay": 0.0, "lr_aux": settings.aux_rate, "aux_options": aux}
    return [OURS[contender.kind](contender, settings, model, shared)]


def _baseline(contender: Contender, settings: Settings, model: Module) -> list[Optimizer]:
    groups = build_param_groups(model)
    matrices = [p for g in groups if g.get("algorithm") != "adamw" for p in g["params"]]
    others = [p for g in groups if g.get("algorithm") == "adamw" for p in g["params"]]
    own: list[Optimizer] = []
    if contender.kind == FROZEN:
        for matrix in matrices:
            matrix.requires_grad_(False)
    elif contender.kind == ADAMW:
        own = [AdamW(matrices, lr=contender.rate, betas=BETAS, eps=EPS, weight_decay=0.0)]
    else:
        own = [torch.optim.Muon(matrices, lr=contender.rate, weight_decay=0.0)]
    return [*own, AdamW(others, lr=settings.aux_rate, betas=BETAS, eps=EPS, weight_decay=0.0)]


def _dct(contender: Contender, settings: Settings, model: Module, shared: Mapping[str, Any]) -> Optimizer:
    extra = {"fira": {"residual": "fira"}, "dropped": {}}
    rest = extra.get(settings.left_over, {"error_feedback": settings.left_over})
    subspace = {"rank": settings.rank, "basis": contender.basis, "update_proj_gap": settings.gap}
    return DCTAdamWFactory()(model, **shared, **subspace, **rest, betas=BETAS, eps=EPS)


def _trion(contender: Contender, settings: Settings, model: Module, shared: Mapping[str, Any]) -> Optimizer:
    return TrionFactory()(model, **shared, rank=settings.rank, basis=contender.basis)


def _auon(contender: Contender, settings: Settings, model: Module, shared: Mapping[str, Any]) -> Optimizer:
    return AuONFactory()(model, **shared)


def _hybrid(contender: Contender, settings: Settings, model: Module, shared: Mapping[str, Any]) -> Optimizer:
    return AuONFactory()(model, **shared, variant="package", ns_steps=5)


OURS = {DCT: _dct, TRION: _trion, AUON: _auon, HYBRID: _hybrid}
