# SPDX-License-Identifier: Apache-2.0
"""EigenScore: how much the hidden states of sampled answers disagree (arXiv 2402.03744)."""

import math
from typing import Literal, overload

import torch
from torch import Tensor

from eigenhub.linalg.spectrum import gram_eigenvalues, gram_log_determinant
from eigenhub.metrics.conventions import centred, get_convention
from eigenhub.metrics.ees import ees
from eigenhub.metrics.eigenscore_estimates import Probing, estimated_log_determinant
from eigenhub.metrics.embeddings import checked_embeddings


METHODS = ("auto", "exact", "slq", "chebyshev", "ees")
BASES = {"e": 1.0, "10": math.log(10)}

# Up to this smaller side the exact form is the quicker one.
EXACT_UP_TO = 1024


@overload
def eigenscore(
    x: Tensor, convention: str = ..., alpha: float | None = ..., base: str = ..., method: str = ...,
    mask: Tensor | None = ..., generator: torch.Generator | None = ..., return_spectrum: Literal[False] = ...,
    num_probes: int = ..., num_steps: int = ..., num_moments: int | None = ...,
) -> Tensor: ...  # fmt: skip


@overload
def eigenscore(
    x: Tensor, convention: str = ..., alpha: float | None = ..., base: str = ..., method: str = ...,
    mask: Tensor | None = ..., generator: torch.Generator | None = ..., *, return_spectrum: Literal[True],
    num_probes: int = ..., num_steps: int = ..., num_moments: int | None = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


def eigenscore(
    x: Tensor,
    convention: str = "inside",
    alpha: float | None = None,
    base: str = "e",
    method: str = "auto",
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    return_spectrum: bool = False,
    num_probes: int = 20,
    num_steps: int = 20,
    num_moments: int | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Mean logarithm of the eigenvalues of the covariance of K answers; high where the answers disagree.

    $\mathrm{ES} = \frac1K \ln\det(G + \alpha I) = \frac1K \sum_k \ln(\lambda_k(G) + \alpha)$

    | convention | centred | G | alpha |
    | --- | --- | --- | --- |
    | `"inside"` | each row by its own mean | $\tilde X \tilde X^\top / (d - 1)$, `torch.cov(x)` | 1e-3 |
    | `"inside_paper"` | each row by its own mean | $\tilde X \tilde X^\top$ | 1e-3 |
    | `"send"` | each row by its own mean | $\tilde X \tilde X^\top$ | 1e-5 |
    | `"sample"` | each feature over the rows | $\tilde X \tilde X^\top / (K - 1)$ | 1e-3 |

    Scores of two conventions, models, layers or K are not comparable. Centring over features keeps the common direction
    of the answers: its largest eigenvalue measures the norm of the mean state. `"sample"` removes that and always has
    one eigenvalue 0.

    | method | how | use |
    | --- | --- | --- |
    | `"exact"` | log-determinant on the smaller side | up to K of about 1000 |
    | `"slq"` | stochastic Lanczos quadrature, up to `num_probes` times `num_steps` products; off by about 0.01 | larger |
    | `"chebyshev"` | interpolation of the logarithm on $[\alpha, \lambda_{\max} + \alpha]$, degree `num_moments` (100) | comparison |
    | `"ees"` | the formula of arXiv 2410.15460, see [`ees`]; has neither convention nor alpha | comparison |

    `"auto"` is exact up to a smaller side of 1024 and where a spectrum is asked for, otherwise `"slq"`.

    Args:
        x (`Tensor` of shape `(..., K, d)`): embeddings, one row per answer; computed in float64 whatever the dtype.
        convention (`str`, *optional*, defaults to `"inside"`): one of the above.
        alpha (`float`, *optional*): regulariser, positive; defaults to that of the convention.
        base (`str`, *optional*, defaults to `"e"`): `"e"`, or `"10"` as in INSIDE's code.
        method (`str`, *optional*, defaults to `"auto"`): one of the above.
        mask (`Tensor` of shape `(..., K)`, *optional*): true for the answers that count, for batches of ragged K.
        generator (`torch.Generator`, *optional*): source of the probes.
        return_spectrum (`bool`, *optional*, defaults to `False`): also the eigenvalues of G; exact method only.
        num_probes (`int`, *optional*, defaults to 20): random vectors of the methods that are not exact.
        num_steps (`int`, *optional*, defaults to 20): Lanczos steps of `"slq"`, at most.
        num_moments (`int`, *optional*): degree for `"chebyshev"` (100) and `"ees"` (20).

    Returns:
        `Tensor` of shape `(...)`, float64. With `return_spectrum` also the eigenvalues `(..., K)` without alpha,
        descending, NaN in the places of masked answers.

    Raises:
        ValueError: an argument outside of its range, fewer than two answers, entries that are not finite.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.metrics import eigenscore
    >>> states = torch.randn(8, 10, 2048, dtype=torch.bfloat16)  # 8 prompts, 10 answers each
    >>> scores = eigenscore(states)
    ```
    """
    rule = get_convention(convention)
    method = _check_options(method, base, alpha, return_spectrum, x)
    alpha = rule.alpha if alpha is None else alpha
    if method == "ees":
        moments = 20 if num_moments is None else num_moments
        return ees(x, moments, num_probes, mask=mask, generator=generator) / BASES[base]
    data, mask = checked_embeddings(x, mask)
    if rule.divisor == "features" and data.shape[-1] < 2:
        raise ValueError(f"`x` must have at least 2 features for convention {convention!r}, got {data.shape[-1]}")
    count = data.shape[-2] if mask is None else mask.sum(-1).to(data)
    if data.numel() == 0:
        empty = data.new_empty(data.shape[:-2])
        return (empty, data.new_empty(data.shape[:-1])) if return_spectrum else empty
    rows, divisor = centred(data, rule, mask)
    if return_spectrum:
        spectrum = gram_eigenvalues(rows, divisor)
        if isinstance(count, Tensor):  # the zeros of masked rows come last
            place = torch.arange(spectrum.shape[-1], device=spectrum.device)
            spectrum = torch.where(place < count[..., None], spectrum, float("nan"))
        score = (spectrum + alpha).log().nansum(-1) / count / BASES[base]
        return score, spectrum
    if method == "exact":
        total = gram_log_determinant(rows, alpha, divisor)
    else:
        work = rows / (divisor.sqrt()[..., None, None] if isinstance(divisor, Tensor) else divisor**0.5)
        probing = Probing(method, num_probes, num_steps, 100 if num_moments is None else num_moments, generator)
        total = estimated_log_determinant(work, alpha, probing, mask)
    if isinstance(count, Tensor):  # rows that do not count are zero and have added ln(alpha) each
        total = total - (data.shape[-2] - count) * math.log(alpha)
    return total / (count * BASES[base])


def _check_options(method: str, base: str, alpha: float | None, return_spectrum: bool, x: Tensor) -> str:
    """Refuse what is out of range; the method that `"auto"` stands for."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")
    if base not in BASES:
        raise ValueError(f"`base` must be 'e' or '10', got {base!r}")
    if alpha is not None and not (0 < alpha < math.inf):
        raise ValueError(f"`alpha` must be positive, got {alpha}")
    if alpha is not None and method == "ees":
        raise ValueError(f"`alpha` must not be given for method 'ees', which has none, got {alpha}")
    if return_spectrum and method not in ("auto", "exact"):
        raise ValueError(f"`return_spectrum` needs method 'auto' or 'exact', got {method!r}")
    if method == "auto":
        small = not isinstance(x, Tensor) or x.ndim < 2 or min(x.shape[-2:]) <= EXACT_UP_TO
        return "exact" if small or return_spectrum else "slq"
    return method
