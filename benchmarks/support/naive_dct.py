# SPDX-License-Identifier: Apache-2.0
"""DCT-AdamW as its formulas read: a loop over matrices, a product with the cosine matrix each, a dense change of basis."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from eigenhub.linalg import dct_matrix, top_columns


class NaiveDctAdamW(Optimizer):
    """The same steps as [`DCTAdamW`] with its defaults, without anything that makes them fast; 2-D parameters only."""

    def __init__(self, params, lr: float, rank: int, update_proj_gap: int = 1) -> None:
        defaults = {"rank": rank, "update_proj_gap": update_proj_gap, "betas": (0.9, 0.999), "eps": 1e-8}
        super().__init__(params, {"lr": lr, **defaults})
        self.bases: dict[int, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict) -> Tensor:
        flip = parameter.shape[0] < parameter.shape[1]
        gradient = parameter.grad.mT if flip else parameter.grad
        width = gradient.shape[1]
        if width not in self.bases:
            self.bases[width] = dct_matrix(width, gradient.dtype).mT.contiguous()
        state, basis = self.state[parameter], self.bases[width]
        state["step"] = t = state.get("step", 0) + 1
        if t == 1 or t % group["update_proj_gap"] == 0:
            self._choose(state, gradient, basis, group["rank"])
        inside = gradient @ state["vectors"]
        beta1, beta2 = group["betas"]
        state["m"] = beta1 * state["m"] + (1 - beta1) * inside
        state["v"] = beta2 * state["v"] + (1 - beta2) * inside.square()
        direction = state["m"] / (1 - beta1**t) / ((state["v"] / (1 - beta2**t)).sqrt() + group["eps"])
        update = direction @ state["vectors"].mT
        return update.mT if flip else update

    def _choose(self, state: dict, gradient: Tensor, basis: Tensor, rank: int) -> None:
        vectors = basis[:, top_columns((gradient @ basis).abs().sum(0), rank)]
        if "vectors" in state:
            turn = state["vectors"].mT @ vectors
            state["m"], state["v"] = state["m"] @ turn, (state["v"] @ turn).abs()
        else:
            state["m"], state["v"] = torch.zeros(2, len(gradient), rank, dtype=gradient.dtype).unbind()
        state["vectors"] = vectors
