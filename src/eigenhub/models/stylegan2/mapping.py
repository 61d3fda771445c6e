# SPDX-License-Identifier: Apache-2.0
"""From latents and conditions to style latents."""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from eigenhub.models.stylegan2.equalized import EqualizedLinear


class MappingNetwork(nn.Module):
    r"""$w = f([\bar z, \overline{E c}])$ with unit second moments $\bar x = x / \sqrt{\operatorname{mean} x^2 + 10^{-8}}$.

    Args:
        z_dim (`int`): length of the latent; 0 maps conditions alone.
        c_dim (`int`): length of a condition; 0 for none.
        w_dim (`int`): length of the result.
        num_ws (`int`, *optional*): number of copies of the result; without it there is one, and no running mean.
        num_layers (`int`, *optional*, defaults to 8): depth.
        lr_multiplier (`float`, *optional*, defaults to 0.01): scale of the step size.
        w_avg_beta (`float`, *optional*, defaults to 0.995): decay of the running mean.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        if c_dim:
            self.embed = EqualizedLinear(c_dim, w_dim)
        features = [z_dim + (w_dim if c_dim else 0)] + [w_dim] * num_layers
        for i in range(num_layers):
            self.add_module(f"fc{i}", EqualizedLinear(features[i], features[i + 1], lr_multiplier, activate=True))
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def reset_parameters(self) -> None:
        """Forgets the running mean."""
        if self.num_ws is not None:
            init.zeros_(self.w_avg)

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = False,
    ) -> Tensor:
        """Style latents.

        Args:
            z (`Tensor` of shape `(batch, z_dim)`): latents.
            c (`Tensor` of shape `(batch, c_dim)`, *optional*): conditions, for a conditional model.
            truncation_psi (`float`, *optional*, defaults to 1.0): see [`truncate`].
            truncation_cutoff (`int`, *optional*): see [`truncate`].
            update_w_avg (`bool`, *optional*, defaults to `False`): move the running mean, once per step of training.

        Returns:
            `Tensor` of shape `(batch, num_ws, w_dim)`, or `(batch, w_dim)` without `num_ws`.
        """
        w = self._input(z, c)
        for i in range(self.num_layers):
            w = self.get_submodule(f"fc{i}")(w)
        if self.num_ws is None:
            return w
        if update_w_avg:
            with torch.no_grad():
                mean = w.detach().mean(0).to(self.w_avg.dtype)
                self.w_avg.copy_(mean.lerp(self.w_avg, self.w_avg_beta))
        return self.truncate(w[:, None].repeat(1, self.num_ws, 1), truncation_psi, truncation_cutoff)

    def truncate(self, ws: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        r"""$\bar w + \psi (w - \bar w)$: less variety, better images.

        Args:
            ws (`Tensor` of shape `(batch, num_ws, w_dim)`): style latents.
            psi (`float`, *optional*, defaults to 1.0): $\psi$; 1 changes nothing.
            cutoff (`int`, *optional*): truncate this many of the first entries only.
        """
        if psi == 1:
            return ws
        near = self.w_avg.to(ws.dtype).lerp(ws[:, :cutoff], psi)
        return near if cutoff is None else torch.cat([near, ws[:, cutoff:]], dim=1)

    def _input(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = []
        if self.z_dim:
            if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
                raise ValueError(f"`z` must have shape (batch, {self.z_dim}), got {_shape(z)}")
            parts.append(normalized(z))
        if self.c_dim:
            if c is None or c.ndim != 2 or c.shape[1] != self.c_dim or (parts and len(c) != len(parts[0])):
                batch = len(parts[0]) if parts else "batch"
                raise ValueError(f"`c` must have shape ({batch}, {self.c_dim}), got {_shape(c)}")
            parts.append(normalized(self.embed(c)))
        elif c is not None and c.shape[-1]:
            raise ValueError(f"`c` was given to a model without conditions: shape {_shape(c)}")
        return torch.cat(parts, dim=1)


def normalized(x: Tensor) -> Tensor:
    """Rows of unit second moment, in float32 or better.

    Args:
        x (`Tensor` of shape `(batch, features)`): rows.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def _shape(x: Tensor | None) -> tuple[int, ...] | None:
    return None if x is None else tuple(x.shape)
