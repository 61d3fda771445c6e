# SPDX-License-Identifier: Apache-2.0
"""An orthonormal frame as a parametrization: free vectors in, orthonormal columns out, whatever an optimizer does."""

import warnings

import torch
from torch import Tensor, nn

from eigenhub.linalg.householder import factor_frame, householder_frame, householder_product
from eigenhub.linalg.orthogonal import gram_defect, orthonormalize
from eigenhub.nn.exact_region import exact_region


PARAMETERIZATIONS = ("thin", "dense")
#: Standard deviation of fresh vectors of the dense form; their lengths carry no meaning, only the size of steps.
DENSE_STD = 0.05
#: A frame whose Gram matrix is closer to the identity than this is taken as it is.
FRAME_TOLERANCE = 1e-5


class HouseholderFrame(nn.Module):
    r"""Orthonormal columns $F \in \mathbb{R}^{d \times r}$ from free vectors, for `register_parametrization`.

    | form | vectors | frame |
    | --- | --- | --- |
    | `"thin"` | $A$, `(d, r)`, of which the strictly lower part is read | $Q(E_r + \operatorname{tril}(A, -1))\,E_r \operatorname{diag}(s)$ |
    | `"dense"` | $Y$, `(d, d)` | $Q(Y)\,E_r \operatorname{diag}(s)$ |

    with $Q(Y)$ of [`householder_product`] and fixed signs $s$, a buffer. The thin form reaches every frame with `r`
    reflections. The dense form has `d / r` times as many parameters and is there for checkpoints that hold it.
    Everything is computed in float32 or better with autocast and TF32 off, so a frame is orthonormal even if its vectors are
    rounded to half precision.

    Args:
        d (`int`): length of the columns.
        r (`int`): number of columns, between 1 and `d`.
        parameterization (`str`, *optional*, defaults to `"thin"`): `"thin"` or `"dense"`.

    Returns:
        `forward`: `Tensor` of shape `(d, r)` in the dtype of the vectors.

    Example:

    ```python
    >>> import torch
    >>> from torch import nn
    >>> from torch.nn.utils.parametrize import register_parametrization
    >>> from eigenhub.nn.householder_frame import HouseholderFrame
    >>> layer = register_parametrization(nn.Linear(4, 16, bias=False), "weight", HouseholderFrame(16, 4))
    >>> torch.allclose(layer.weight.mT @ layer.weight, torch.eye(4), atol=1e-5)
    True
    ```
    """

    signs: Tensor

    def __init__(self, d: int, r: int, parameterization: str = "thin") -> None:
        super().__init__()
        check_frame(d, r, parameterization)
        self.d, self.r, self.parameterization = d, r, parameterization
        self.register_buffer("signs", torch.ones(r, dtype=torch.float32))

    @property
    def vectors_shape(self) -> tuple[int, int]:
        """Shape of the free vectors."""
        return (self.d, self.r if self.parameterization == "thin" else self.d)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.frame(vectors).to(vectors.dtype)

    def frame(self, vectors: Tensor) -> Tensor:
        """The frame in float32 or better, `(d, r)`.

        Args:
            vectors (`Tensor` of shape [`vectors_shape`]): free vectors.
        """
        if vectors.shape != self.vectors_shape:
            raise ValueError(f"`vectors` must have shape {self.vectors_shape}, got {tuple(vectors.shape)}")
        with exact_region(vectors.device.type):
            if self.parameterization == "thin":
                return householder_frame(vectors, self.signs)
            frame = householder_product(vectors, self.r)
            return frame * self.signs.to(frame.dtype)

    @torch.no_grad()
    def right_inverse(self, frame: Tensor) -> Tensor:
        """Vectors of the orthonormal frame nearest to a matrix; the signs are set to match.

        Args:
            frame (`Tensor` of shape `(d, r)`): a matrix. An orthonormal one is reproduced up to rounding; of another the polar
                factor is taken, with a warning if that is not unique.

        Returns:
            `Tensor` of shape [`vectors_shape`], in the dtype of `frame`.
        """
        if frame.shape != (self.d, self.r):
            raise ValueError(f"`frame` must have shape ({self.d}, {self.r}), got {tuple(frame.shape)}")
        if not torch.isfinite(frame).all():
            raise ValueError("`frame` has entries that are NaN or infinite")
        with exact_region(frame.device.type):
            lower, signs = factor_frame(nearest_frame(frame.double()))
        self.signs.copy_(signs)
        return (lower if self.parameterization == "thin" else _padded(lower)).to(frame.dtype)

    @torch.no_grad()
    def random_vectors(self, generator: torch.Generator | None = None) -> Tensor:
        """Fresh vectors in float32: of a uniformly random frame, or Gaussian ones for the dense form.

        Args:
            generator (`torch.Generator`, *optional*): source of the entries.
        """
        device = generator.device if generator is not None else torch.device("cpu")
        normal = torch.randn(self.vectors_shape, generator=generator, dtype=torch.float32, device=device)
        if self.parameterization == "dense":
            return DENSE_STD * normal
        return factor_frame(orthonormalize(normal)).lower  # the signs are as random as the frame

    def extra_repr(self) -> str:
        return f"{self.d}, {self.r}, parameterization={self.parameterization!r}"


def check_frame(d: int, r: int, parameterization: str) -> None:
    """Raises `ValueError` for what [`HouseholderFrame`] cannot be.

    Args:
        d (`int`): length of the columns.
        r (`int`): number of columns.
        parameterization (`str`): name of the form.
    """
    if not 1 <= r <= d:
        raise ValueError(f"`r` must be between 1 and d = {d}, got {r}")
    if parameterization not in PARAMETERIZATIONS:
        raise ValueError(f"`parameterization` must be one of {', '.join(PARAMETERIZATIONS)}; got {parameterization!r}")


def nearest_frame(matrix: Tensor) -> Tensor:
    """The orthonormal frame nearest to a matrix in the Frobenius norm: itself, or its polar factor.

    Args:
        matrix (`Tensor` of shape `(d, r)`): float32 or float64.
    """
    if gram_defect(matrix).abs().max() < FRAME_TOLERANCE:
        return orthonormalize(matrix)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    if s[-1] <= torch.finfo(matrix.dtype).eps * len(matrix) * s[0]:
        warnings.warn("the matrix has dependent columns: its nearest orthonormal frame is not unique", stacklevel=3)
    return u @ vh


def _padded(lower: Tensor) -> Tensor:
    """Dense vectors of a thin frame: its reflections, then pairs that cancel, and one that does not touch the frame.

    Each column is scaled to the length of fresh dense vectors, on which the size of a step depends.
    """
    d, r = lower.shape
    vectors = torch.zeros(d, d, dtype=lower.dtype, device=lower.device)
    vectors[:, :r] = lower + torch.eye(d, r, dtype=lower.dtype, device=lower.device)
    rest = d - r
    pairs = torch.randn(d, rest // 2, dtype=lower.dtype, device="cpu").to(lower.device)
    vectors[:, r : r + 2 * (rest // 2)] = pairs.repeat_interleave(2, dim=1)
    if rest % 2:
        vectors[-1, -1] = 1.0  # flips the last coordinate, which is none of the first r
    return vectors * (DENSE_STD * d**0.5 / torch.linalg.vector_norm(vectors, dim=0))
