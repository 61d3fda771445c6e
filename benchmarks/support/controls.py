# SPDX-License-Identifier: Apache-2.0
"""Small reference optimizers that the DCT methods are measured against: plain loops over 2-D parameters, no options."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer


class SvdAdamW(Optimizer):
    """DCT-AdamW with the leading singular vectors of the gradient in place of chosen cosines; weight decay is left out.

    The moments are carried along when the subspace changes: m <- m R and v <- v (R * R) with R = B_old' B_new, which for
    two sets of columns of one basis is the gather that DCT-AdamW does.
    """

    def __init__(self, params, lr: float, rank: int, update_proj_gap: int, error_feedback: bool = False) -> None:
        defaults = {"rank": rank, "update_proj_gap": update_proj_gap, "error_feedback": error_feedback}
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.95), "eps": 1e-8, **defaults})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict) -> Tensor:
        flip = parameter.shape[0] < parameter.shape[1]
        state = self.state[parameter]
        gradient = parameter.grad.mT if flip else parameter.grad
        gradient = gradient + state.get("error", 0.0)
        state["step"] = t = state.get("step", 0) + 1
        if t == 1 or t % group["update_proj_gap"] == 0:
            self._refresh(state, gradient, group["rank"])
        basis, (beta1, beta2) = state["basis"], group["betas"]
        inside = gradient @ basis
        if group["error_feedback"]:
            state["error"] = gradient - inside @ basis.mT
        state["m"].lerp_(inside, 1 - beta1)
        state["v"].lerp_(inside.square(), 1 - beta2)
        direction = state["m"] / (1 - beta1**t) / ((state["v"] / (1 - beta2**t)).sqrt() + group["eps"])
        update = direction @ basis.mT
        return update.mT if flip else update

    def _refresh(self, state: dict, gradient: Tensor, rank: int) -> None:
        new = torch.linalg.svd(gradient, full_matrices=False).Vh[:rank].mT
        if "basis" in state:
            turn = state["basis"].mT @ new
            state["m"], state["v"] = state["m"] @ turn, state["v"] @ turn.square()
        else:
            state["m"], state["v"] = torch.zeros(2, len(gradient), new.shape[1]).unbind()
        state["basis"] = new


class Dion(Optimizer):
    """Trion's ancestor: one power iteration and a QR in place of chosen cosines and Newton-Schulz (arXiv 2504.05295)."""

    def __init__(self, params, lr: float, rank: int, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "rank": rank, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                rows, columns = parameter.shape
                scale = max(1.0, rows / columns) ** 0.5  # as in Trion, so that only the subspace differs
                parameter -= group["lr"] * scale * self._direction(parameter, group)

    def _direction(self, parameter: Tensor, group: dict) -> Tensor:
        state = self.state[parameter]
        if not state:
            generator = torch.Generator().manual_seed(0)
            start = torch.randn(parameter.shape[1], group["rank"], generator=generator)
            state["momentum"], state["right"] = torch.zeros_like(parameter), torch.linalg.qr(start).Q
        buffer = state["momentum"] + parameter.grad
        left = torch.linalg.qr(buffer @ state["right"]).Q
        weights = buffer.mT @ left
        state["momentum"] = buffer - (1 - group["momentum"]) * left @ weights.mT
        state["right"] = weights / (weights.norm(dim=0) + 1e-8)
        return left @ state["right"].mT
