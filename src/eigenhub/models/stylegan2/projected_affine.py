# SPDX-License-Identifier: Apache-2.0
"""The style affine of a projected layer: low-rank orthogonal, applied by two thin products."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import initialization as init

from eigenhub.linalg.autocast import without_autocast
from eigenhub.models.stylegan2.equalized import EqualizedLinear
from eigenhub.nn.householder_frame import HouseholderFrame
from eigenhub.nn.low_rank_orthogonal import LowRankOrthogonal, OrthogonalFactors


class StyleProjector(nn.Module):
    r"""The vectors of $A = g\,U \operatorname{diag}(s) V^\top$, with the map that reads them; stays in float32 in casts to half.

    Args:
        d_out (`int`): length of a style.
        d_in (`int`): length of a style latent.
        rank (`int`): number of directions.
        gain (`str` or `float`): see [`LowRankOrthogonal`].
        parameterization (`str`): `"thin"` or `"dense"`.
        singular_values (`str`): `"fixed"` or `"learned"`.
    """

    def __init__(
        self, d_out: int, d_in: int, rank: int, gain: str | float, parameterization: str, singular_values: str
    ) -> None:
        super().__init__()
        self.map = LowRankOrthogonal(d_out, d_in, rank, gain, singular_values, parameterization)
        # explicit dtypes: `from_pretrained` builds under a half-precision default
        self.left = nn.Parameter(torch.empty(self.map.left.vectors_shape, dtype=torch.float32))
        self.right = nn.Parameter(torch.empty(self.map.right.vectors_shape, dtype=torch.float32))
        learned = singular_values == "learned"
        self.log_scale = nn.Parameter(torch.empty(rank, dtype=torch.float32)) if learned else None

    def reset_parameters(self) -> None:
        """Draws random frames."""
        with torch.device("cpu"):
            init.copy_(self.left, self.map.left.random_vectors())
            init.copy_(self.right, self.map.right.random_vectors())
        if self.log_scale is not None:
            init.zeros_(self.log_scale)

    @torch.no_grad()
    def start_from(self, weight: Tensor, start: str = "nearest") -> None:
        """Takes the nearest of its kind to a weight.

        Args:
            weight (`Tensor` of shape `(d_out, d_in)`): effective weight.
            start (`str`, *optional*, defaults to `"nearest"`): `"nearest"`, or `"random"` frames with the gain of the weight.
        """
        self.map.init = start
        for parameter, value in zip(self.parameters(), self.map.right_inverse(weight), strict=True):
            parameter.copy_(value)

    def factors(self) -> OrthogonalFactors:
        """$U$, $g s$ and $V$."""
        return self.map.factors(self.left, self.right, self.log_scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "StyleProjector":
        """Moves follow `fn`, casts below float32 do not: rounded vectors would turn the directions."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype.itemsize >= 4 else tensor.to(moved.device)

        return super()._apply(keep, recurse)


class ProjectedAffine(nn.Module):
    r"""$s = A w + b$ with a [`StyleProjector`] $A$, at $O((d_{in} + d_{out})\,r)$ per sample.

    Args:
        d_in (`int`): length of a style latent.
        d_out (`int`): length of a style.
        rank (`int`): number of directions.
        gain (`str` or `float`, *optional*, defaults to `"mean"`): see [`LowRankOrthogonal`].
        parameterization (`str`, *optional*, defaults to `"thin"`): `"thin"` or `"dense"`.
        singular_values (`str`, *optional*, defaults to `"fixed"`): `"fixed"` or `"learned"`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        rank: int,
        gain: str | float = "mean",
        parameterization: str = "thin",
        singular_values: str = "fixed",
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = d_in, d_out
        self.projector = StyleProjector(d_out, d_in, rank, gain, parameterization, singular_values)
        self.bias = nn.Parameter(torch.empty(d_out))

    def reset_parameters(self) -> None:
        """Starts the bias at one."""
        init.ones_(self.bias)

    def effective_weight(self) -> Tensor:
        """$A$, `(d_out, d_in)`, in float32 or better."""
        u, values, v = self.projector.factors()
        with without_autocast(u.device):
            return (u * values) @ v.mT

    def folded(self) -> EqualizedLinear:
        """An ordinary affine that computes the same."""
        affine = EqualizedLinear(self.in_features, self.out_features, bias_init=1.0)
        affine.to(self.bias.device, self.bias.dtype)
        with torch.no_grad():
            affine.weight.copy_(self.effective_weight() / affine.scale)
            affine.bias.copy_(self.bias)
        return affine

    def forward(self, w: Tensor) -> Tensor:
        u, values, v = self.projector.factors()
        with without_autocast(w.device):
            scores = w.to(v.dtype) @ v
            return torch.addmm(self.bias.to(v.dtype), scores * values, u.mT)


def reset_map(module: nn.Module) -> None:
    """Fills the buffers of a [`LowRankOrthogonal`] map and its frames; other modules are left alone.

    There is no weight yet whose mean singular value could be the gain: it is the expected largest one of a fresh weight.

    Args:
        module (`nn.Module`): any module.
    """
    if isinstance(module, HouseholderFrame):
        init.ones_(module.signs)
    elif isinstance(module, LowRankOrthogonal):
        d_out, d_in = module.left.d, module.right.d
        named = {"mean": 1 + (d_out / d_in) ** 0.5, "unit": 1.0, "equalized": d_in**-0.5}
        mode = module.gain_mode
        init.constant_(module.gain, named[mode] if isinstance(mode, str) else float(mode))


StyleAffine = EqualizedLinear | ProjectedAffine
