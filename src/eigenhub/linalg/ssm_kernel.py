# SPDX-License-Identifier: Apache-2.0
r"""Convolution kernels of diagonal state-space models, $K_l = 2\,\mathrm{Re} \sum_n c_n \bar\lambda_n^l$.

Complex numbers are pairs of real ones in a last dimension of two, as in [`eigenhub.linalg.scan`]. The factor 2 stands for
the conjugate of each state.
"""

import torch
from torch import Tensor

from eigenhub.linalg.autocast import without_autocast
from eigenhub.linalg.discretization import METHODS, discretize, dss_factor
from eigenhub.linalg.powers import complex_product, power_table, repeated_square, wide_dtype
from eigenhub.linalg.scan_checks import check_choice


KERNEL_METHODS = (*METHODS, "dss")
KERNEL_BACKENDS = ("two_level", "reference")


def s4d_kernel(
    lambda_re: Tensor,
    lambda_im: Tensor,
    coefficient: Tensor,
    step: Tensor,
    length: int,
    *,
    method: str = "zoh",
    rate: float = 1.0,
    backend: str = "two_level",
) -> Tensor:
    r"""Kernel of S4D, $K_l = 2\,\mathrm{Re}\sum_n C_n \bar B_n \bar\lambda_n^l$ for $l = 0, \dots, L - 1$.

    Args:
        lambda_re (`Tensor` of shape `(channels, states)`): real parts of the continuous eigenvalues.
        lambda_im (`Tensor` of shape `(channels, states)`): imaginary parts; the conjugates are implied.
        coefficient (`Tensor` of shape `(..., channels, states, 2)`): product $B_n C_n$ as pairs; leading dimensions are
            several outputs of the same states, for example of the two directions.
        step (`Tensor` of shape `(channels,)` or `(channels, states)`): $\Delta$.
        length (`int`): L, at least 1. There is no longest length, and nothing is truncated.
        method (`str`, *optional*, defaults to `"zoh"`): `"zoh"` or `"bilinear"` as in [`discretize`], or `"dss"`, whose
            powers are normalised over l by a softmax, without the factor 2; that kernel depends on L.
        rate (`float`, *optional*, defaults to 1.0): multiplies the step; 2 for input at half the rate of training.
        backend (`str`, *optional*, defaults to `"two_level"`): `"two_level"` ([`diagonal_kernel`]) or `"reference"`
            ([`diagonal_kernel_reference`]).

    Returns:
        `Tensor` of shape `(..., channels, length)`, in the dtype of `coefficient`, at least float32. Exponents are taken in
        float64.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.hippo import s4d_init
    >>> from eigenhub.linalg.ssm_kernel import s4d_kernel
    >>> values = s4d_init("lin", 8)[None]
    >>> s4d_kernel(values.real, values.imag, torch.ones(1, 4, 2), torch.tensor([0.01]), 100).shape
    torch.Size([1, 100])
    ```

    Reference: Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models" (arXiv 2206.11893),
    section 3.3. `"dss"`: Gupta et al., "Diagonal State Spaces are as Effective as Structured State Spaces" (arXiv
    2203.14343).
    """
    check_choice("method", method, KERNEL_METHODS)
    check_choice("backend", backend, KERNEL_BACKENDS)
    check_continuous(lambda_re, lambda_im, step)
    check_coefficient(coefficient, lambda_re.shape, length)
    step = step.unsqueeze(-1) if step.ndim == 1 else step
    wide = wide_dtype(lambda_re.dtype, lambda_re.device)
    lambda_re, lambda_im, step = lambda_re.to(wide), lambda_im.to(wide), step.to(wide) * rate
    if method == "dss":
        lbar_re, lbar_im, gain_re, gain_im = dss_factor(lambda_re, lambda_im, step, length)
    else:
        lbar_re, lbar_im, gain_re, gain_im = discretize(lambda_re, lambda_im, step, method)
    c_re, c_im = coefficient.to(wide).unbind(-1)
    scaled = torch.stack(complex_product(c_re, c_im, gain_re, gain_im), dim=-1)
    compute = diagonal_kernel if backend == "two_level" else diagonal_kernel_reference
    dtype = torch.promote_types(coefficient.dtype, torch.float32)
    return compute(torch.stack([lbar_re, lbar_im], dim=-1), scaled, length, dtype)


def diagonal_kernel(lbar: Tensor, coefficient: Tensor, length: int, dtype: torch.dtype | None = None) -> Tensor:
    r"""$K_l = 2\,\mathrm{Re}\sum_n c_n \bar\lambda_n^l$, $l = 0, \dots, L - 1$, by a two-level Vandermonde product.

    With $l = mT + t$ and $T \approx \sqrt L$ the kernel is one real matrix product per channel of
    $c_n \bar\lambda_n^{mT}$ and $\bar\lambda_n^t$: $O(HN\sqrt L)$ powers and memory instead of $O(HNL)$. Exact, not an
    approximation.

    Args:
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues; powers are taken in float64.
        coefficient (`Tensor` of shape `(..., channels, states, 2)`): product of input and output maps; leading dimensions
            (several outputs, or the states of a batch) share the powers.
        length (`int`): L, at least 1.
        dtype (`torch.dtype`, *optional*): dtype of the product and of the result, by default that of `coefficient`, at
            least float32.

    Returns:
        `Tensor` of shape `(..., channels, length)`, differentiable.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.ssm_kernel import diagonal_kernel
    >>> diagonal_kernel(torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[1.0, 0.0]]]), 4)
    tensor([[2.0000, 1.0000, 0.5000, 0.2500]])
    ```
    """
    check_discrete(lbar, coefficient, length)
    dtype = torch.promote_types(coefficient.dtype, torch.float32) if dtype is None else dtype
    wide = wide_dtype(dtype, lbar.device)
    doublings = (length - 1).bit_length() // 2
    inner = 1 << doublings  # T, a power of two near the square root
    outer = -(-length // inner)
    lbar_re, lbar_im = lbar.to(wide).unbind(-1)
    p_re, p_im = power_table(lbar_re, lbar_im, inner, dtype)  # [inner, channels, states]
    s_re, s_im = power_table(*repeated_square(lbar_re, lbar_im, doublings), outer, dtype)
    c_re, c_im = ((2 * part.to(dtype)).reshape(-1, 1, *lbar.shape[:2]) for part in coefficient.unbind(-1))
    # real parts, then negative imaginary ones: [leading, outer, channels, 2 * states]
    left = torch.cat([c_re * s_re - c_im * s_im, -c_re * s_im - c_im * s_re], dim=-1)
    left = left.permute(2, 0, 1, 3).flatten(1, 2)
    right = torch.cat([p_re, p_im], dim=-1).permute(1, 2, 0)
    with without_autocast(lbar.device):
        product = torch.bmm(left, right)  # [channels, leading * outer, inner]
    kernel = product.unflatten(1, (-1, outer)).flatten(2).movedim(1, 0)[..., :length]
    return kernel.reshape(*coefficient.shape[:-2], length)


def check_discrete(lbar: Tensor, coefficient: Tensor, length: int) -> None:
    """Raise `ValueError` for discrete systems that no kernel can be made of.

    Args:
        lbar (`Tensor`): discrete eigenvalues.
        coefficient (`Tensor`): product of input and output maps.
        length (`int`): number of taps.
    """
    if lbar.ndim != 3 or lbar.shape[-1] != 2:
        raise ValueError(f"`lbar` must have shape (channels, states, 2), got {tuple(lbar.shape)}")
    check_coefficient(coefficient, lbar.shape[:2], length)


def check_coefficient(coefficient: Tensor, shape: torch.Size, length: int) -> None:
    """Raise `ValueError` unless the coefficients are pairs for eigenvalues of a shape, and the length is possible.

    Args:
        coefficient (`Tensor`): product of input and output maps.
        shape (`torch.Size`): channels and states.
        length (`int`): number of taps.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(f"`length` must be an integer of at least 1, got {length!r}")
    if coefficient.shape[-3:] != (*shape, 2):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"`coefficient` must have shape (..., {wanted}, 2), got {tuple(coefficient.shape)}")


def check_continuous(lambda_re: Tensor, lambda_im: Tensor, step: Tensor) -> None:
    """Raise `ValueError` for continuous systems of shapes that do not fit.

    Args:
        lambda_re (`Tensor`): real parts of the eigenvalues.
        lambda_im (`Tensor`): imaginary parts.
        step (`Tensor`): time steps.
    """
    if lambda_re.ndim != 2 or lambda_im.shape != lambda_re.shape:
        shapes = f"{tuple(lambda_re.shape)} and {tuple(lambda_im.shape)}"
        raise ValueError(f"`lambda_re` and `lambda_im` must have one shape (channels, states), got {shapes}")
    channels, states = lambda_re.shape
    if step.shape not in ((channels,), (channels, 1), (channels, states)):
        raise ValueError(f"`step` must have shape ({channels},) or ({channels}, {states}), got {tuple(step.shape)}")


def diagonal_kernel_reference(
    lbar: Tensor, coefficient: Tensor, length: int, dtype: torch.dtype | None = None
) -> Tensor:
    r"""The definition of [`diagonal_kernel`]: the whole Vandermonde matrix in complex numbers, $O(HNL)$ memory.

    Args:
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues, not 0; all arithmetic is in its dtype.
        coefficient (`Tensor` of shape `(..., channels, states, 2)`): product of input and output maps.
        length (`int`): L, at least 1.
        dtype (`torch.dtype`, *optional*): dtype of the result, by default that of `coefficient`.

    Returns:
        `Tensor` of shape `(..., channels, length)`.
    """
    check_discrete(lbar, coefficient, length)
    values, c = torch.view_as_complex(lbar.contiguous()), torch.view_as_complex(coefficient.contiguous())
    steps = torch.arange(length, device=lbar.device)
    vandermonde = values.unsqueeze(-1).log().mul(steps).exp()
    kernel = 2 * torch.einsum("...hn,hnl->...hl", c.to(values.dtype), vandermonde).real
    return kernel.to(coefficient.dtype if dtype is None else dtype)
