# SPDX-License-Identifier: Apache-2.0
"""A weight of given rank whose singular vectors are exactly orthonormal, as a parametrization."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eigenhub.linalg.lowrank import truncated_svd
from eigenhub.nn.exact_region import exact_region
from eigenhub.nn.householder_frame import HouseholderFrame


GAINS = ("mean", "unit", "equalized")
SINGULAR_VALUES = ("fixed", "learned")
INITS = ("nearest", "random")


class OrthogonalFactors(NamedTuple):
    r"""Factors of $W = U \operatorname{diag}(\sigma) V^\top$, in float32 or better.

    Args:
        left (`Tensor` of shape `(d_out, rank)`): $U$, orthonormal columns.
        values (`Tensor` of shape `(rank,)`): $\sigma = g\,s$.
        right (`Tensor` of shape `(d_in, rank)`): $V$, orthonormal columns: the directions.
    """

    left: Tensor
    values: Tensor
    right: Tensor


class LowRankOrthogonal(nn.Module):
    r"""A weight $W = g\,U \operatorname{diag}(s) V^\top$ with orthonormal $U$ and $V$, for `register_parametrization`.

    $U$ and $V$ are [`HouseholderFrame`]s. With fixed singular values $s = 1$, $W$ is $g$ times a partial isometry:
    $W v_k = g\,u_k$, and $W x = 0$ for $x \perp \operatorname{span} V$. The function then does not change under $U R, V R$ with
    any rotation $R$, so that training determines the span of $V$ and not its columns; learned values $s = e^{\lambda}$ that
    differ determine them.

    `right_inverse` starts from the leading singular vectors of a given weight, which make $U V^\top$ the nearest partial
    isometry of its rank; the nearest multiple has $g = \operatorname{mean}(\sigma_1, \dots, \sigma_r)$.

    Args:
        d_out (`int`): rows of the weight.
        d_in (`int`): columns of the weight.
        rank (`int`): number of singular vectors, between 1 and the smaller side.
        gain (`str` or `float`, *optional*, defaults to `"mean"`): $g$: `"mean"` as above, `"unit"` (1), `"equalized"`
            ($1/\sqrt{d_{in}}$), or a positive number. A fixed buffer.
        singular_values (`str`, *optional*, defaults to `"fixed"`): `"fixed"`, or `"learned"`, which start at those of the
            weight.
        parameterization (`str`, *optional*, defaults to `"thin"`): see [`HouseholderFrame`].
        init (`str`, *optional*, defaults to `"nearest"`): `"nearest"`, or `"random"` frames (a control, not a good start).
        generator (`torch.Generator`, *optional*): source of random frames.

    Returns:
        `forward`: `Tensor` of shape `(d_out, d_in)` in the dtype of the vectors.

    Example:

    ```python
    >>> import torch
    >>> from torch import nn
    >>> from torch.nn.utils.parametrize import register_parametrization
    >>> from eigenhub.nn.low_rank_orthogonal import LowRankOrthogonal
    >>> layer = register_parametrization(nn.Linear(12, 8), "weight", LowRankOrthogonal(8, 12, rank=3, gain=2.0))
    >>> torch.linalg.svdvals(layer.weight).round(decimals=4).abs().tolist()
    [2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    ```

    Song et al., "Householder Projector for Unsupervised Latent Semantics Discovery" (arXiv 2307.08012). Departures: `rank`
    reflections per frame in place of `d`; the start is the nearest partial isometry, while the official code takes the packed
    output of LAPACK for reflections, which is unrelated to the weight.
    """

    gain: Tensor

    def __init__(
        self,
        d_out: int,
        d_in: int,
        rank: int,
        gain: str | float = "mean",
        singular_values: str = "fixed",
        parameterization: str = "thin",
        init: str = "nearest",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_projector(d_out, d_in, rank, gain, singular_values, init)
        self.rank, self.gain_mode = rank, gain
        self.singular_values, self.init, self.generator = singular_values, init, generator
        self.left = HouseholderFrame(d_out, rank, parameterization)
        self.right = HouseholderFrame(d_in, rank, parameterization)
        self.register_buffer("gain", torch.ones((), dtype=torch.float32))
        self.kernel_size: tuple[int, ...] = ()  # ones of a 1 x 1 convolution

    def forward(self, left: Tensor, right: Tensor, log_scale: Tensor | None = None) -> Tensor:
        u, values, v = self.factors(left, right, log_scale)
        with exact_region(left.device.type):
            weight = (u * values) @ v.mT
        return weight.view(*weight.shape, *self.kernel_size).to(left.dtype)

    def factors(self, left: Tensor, right: Tensor, log_scale: Tensor | None = None) -> OrthogonalFactors:
        """The factors of the weight, which apply it in `O((d_out + d_in) rank)` per row.

        Args:
            left (`Tensor`): vectors of $U$.
            right (`Tensor`): vectors of $V$.
            log_scale (`Tensor` of shape `(rank,)`, *optional*): logarithms of $s$, for learned singular values.
        """
        u, v = self.left.frame(left), self.right.frame(right)
        gain = self.gain.to(u.dtype)
        values = gain.expand(self.rank) if log_scale is None else gain * log_scale.to(u.dtype).exp()
        return OrthogonalFactors(u, values, v)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Vectors, and logarithms of learned singular values, that start from a weight; the gain is set too.

        Args:
            weight (`Tensor` of shape `(d_out, d_in)`, or `(d_out, d_in, 1, 1)`): the weight to project.

        Returns:
            `tuple[Tensor, ...]`: arguments of [`forward`], in the dtype of the weight.
        """
        shape = (self.left.d, self.right.d)
        if weight.shape[:2] != shape or any(size != 1 for size in weight.shape[2:]):
            raise ValueError(f"`weight` must have shape {shape}, got {tuple(weight.shape)}")
        if not torch.isfinite(weight).all():
            raise ValueError("`weight` has entries that are NaN or infinite")
        self.kernel_size = tuple(weight.shape[2:])
        u, s, v = leading_triplets(weight.reshape(shape), self.rank)
        self.gain.fill_(gain_value(self.gain_mode, s, self.right.d))
        if self.init == "nearest":
            vectors = [self.left.right_inverse(u), self.right.right_inverse(v)]
        else:
            vectors = [frame.random_vectors(self.generator) for frame in (self.left, self.right)]
            self.init, self.generator = "nearest", None  # a weight that is assigned later is meant
        if self.singular_values == "learned":
            tiny = torch.finfo(torch.float32).eps * self.gain.double()
            vectors.append((s.clamp(min=tiny) / self.gain.double()).log())
        return tuple(each.to(weight.device, weight.dtype) for each in vectors)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, gain={self.gain_mode!r}, singular_values={self.singular_values!r}"


def leading_triplets(weight: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular triplets in float64, with a warning where they are not unique.

    Args:
        weight (`Tensor` of shape `(m, n)`): a matrix.
        rank (`int`): number of triplets.

    Returns:
        `u (m, rank)`, `s (rank,)`, `v (n, rank)`.
    """
    u, s, vh = truncated_svd(weight.double(), min(rank + 1, *weight.shape), driver="full")
    rounding = torch.finfo(weight.dtype).eps * s[0]
    if s[rank - 1] <= rounding:
        warnings.warn(
            f"the weight has less than {rank} nonzero singular values: its nearest frame is not unique, the vectors of its "
            "decomposition complete it",
            stacklevel=4,
        )
    elif len(s) > rank and s[rank - 1] - s[rank] <= rounding:
        warnings.warn(f"singular values {rank} and {rank + 1} are equal: the subspace is not unique", stacklevel=4)
    return u[:, :rank], s[:rank], vh[:rank].mT


def gain_value(gain: str | float, values: Tensor, d_in: int) -> float:
    """The number behind a name of a gain.

    Args:
        gain (`str` or `float`): `"mean"`, `"unit"`, `"equalized"` or the number itself.
        values (`Tensor` of shape `(rank,)`): leading singular values.
        d_in (`int`): columns of the weight.
    """
    if not isinstance(gain, str):
        return float(gain)
    value = {"mean": values.mean().item(), "unit": 1.0, "equalized": d_in**-0.5}[gain]
    if not value > 0:
        raise ValueError("`gain='mean'` of a weight of zeros is zero: give a number, 'unit' or 'equalized'")
    return value


def check_projector(
    d_out: int, d_in: int, rank: int, gain: str | float, singular_values: str = "fixed", init: str = "nearest"
) -> None:
    """Raises `ValueError` for what [`LowRankOrthogonal`] cannot be.

    Args:
        d_out (`int`): rows of the weight.
        d_in (`int`): columns of the weight.
        rank (`int`): number of singular vectors.
        gain (`str` or `float`): name or number.
        singular_values (`str`, *optional*, defaults to `"fixed"`): `"fixed"` or `"learned"`.
        init (`str`, *optional*, defaults to `"nearest"`): `"nearest"` or `"random"`.
    """
    if not 1 <= rank <= min(d_out, d_in):
        raise ValueError(
            f"`rank` must be between 1 and {min(d_out, d_in)} for a weight of shape ({d_out}, {d_in}), got {rank}"
        )
    check_gain(gain)
    if singular_values not in SINGULAR_VALUES:
        raise ValueError(f"`singular_values` must be one of {', '.join(SINGULAR_VALUES)}; got {singular_values!r}")
    if init not in INITS:
        raise ValueError(f"`init` must be one of {', '.join(INITS)}; got {init!r}")


def check_gain(gain: str | float) -> None:
    """Raises `ValueError` for a gain that is neither a known name nor a positive number.

    Args:
        gain (`str` or `float`): name or number.
    """
    if gain not in GAINS if isinstance(gain, str) else not 0 < gain < float("inf"):
        raise ValueError(f"`gain` must be one of {', '.join(GAINS)}, or a positive number; got {gain!r}")
