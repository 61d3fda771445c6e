# SPDX-License-Identifier: Apache-2.0
"""Embeddings of sampled answers as a checked batch in float64, and sentence embeddings from token states."""

import torch
from torch import Tensor


TOKENS = ("last", "mean", "mean_last")


def checked_embeddings(x: Tensor, mask: Tensor | None, min_rows: int = 2) -> tuple[Tensor, Tensor | None]:
    """The embeddings in float64 and the mask as booleans.

    Sums of squares of activations span more digits than float32 has: two identical answers with one activation of 500
    come out of a float32 Gram matrix with a negative eigenvalue.

    Args:
        x (`Tensor` of shape `(..., K, d)`): one row per answer.
        mask (`Tensor` of shape `(..., K)`, *optional*): true for the answers that count.
        min_rows (`int`, *optional*, defaults to 2): answers that every item must have.

    Raises:
        ValueError: wrong shapes, too few answers, entries that are not finite in a row that counts.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"`x` must be a floating point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim < 2 or x.shape[-1] < 1:
        raise ValueError(f"`x` must have shape (..., K, d), got {tuple(x.shape)}")
    if mask is not None:
        if mask.shape != x.shape[:-1]:
            raise ValueError(f"`mask` must have shape {tuple(x.shape[:-1])}, got {tuple(mask.shape)}")
        mask = mask.to(x.device, torch.bool)
    fewest = x.shape[-2] if mask is None else int(mask.sum(-1).min()) if mask.numel() else min_rows
    if x.numel() and fewest < min_rows:
        raise ValueError(f"`x` must have at least {min_rows} answers per item, one has no diversity; got {fewest}")
    x = x.cpu() if x.device.type == "mps" else x  # which has no float64
    _check_finite(x, mask)
    return x.double(), mask


def _check_finite(x: Tensor, mask: Tensor | None) -> None:
    if torch.isfinite(x.sum(-1, dtype=torch.float64)).all():  # one pass over the data where all is well
        return
    bad = ~torch.isfinite(x).all(-1)
    bad = bad if mask is None else bad & mask.to(bad.device)
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(f"`x` has entries that are NaN or infinite in row {first if len(first) > 1 else first[0]}")


def sentence_embedding(states: Tensor, mask: Tensor, token: str = "mean_last") -> Tensor:
    r"""One vector for each text from the states of its tokens.

    `"mean_last"` is $\frac12(\frac1m\sum_i H_i + H_m)$ (arXiv 2410.15460, definition 3.1). Padding may be on either side.

    Args:
        states (`Tensor` of shape `(b, t, d)`): hidden states; half precision is averaged in float32.
        mask (`Tensor` of shape `(b, t)`): true for the tokens that count, at least one in each text.
        token (`str`, *optional*, defaults to `"mean_last"`): `"last"`, `"mean"` or `"mean_last"`.

    Returns:
        `Tensor` of shape `(b, d)`, float32 or better.

    Raises:
        ValueError: unknown `token`, wrong shapes, a text without a token.
    """
    if token not in TOKENS:
        raise ValueError(f"`token` must be one of {', '.join(TOKENS)}, got {token!r}")
    if states.ndim != 3 or mask.shape != states.shape[:2]:
        raise ValueError(
            f"`states` must be (b, t, d) and `mask` (b, t), got {tuple(states.shape)} and {tuple(mask.shape)}"
        )
    mask = mask.to(states.device, torch.bool)
    if not mask.any(-1).all():
        raise ValueError(f"`mask` must keep a token in each text, row {int((~mask.any(-1)).nonzero()[0])} has none")
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    places = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, places, -1).amax(-1)  # [b]
    at_last = states[torch.arange(len(states), device=states.device), last]
    if token == "last":
        return at_last
    # not a product with the mask: padding may hold NaN
    mean = torch.where(mask[..., None], states, 0.0).sum(1) / mask.sum(1, keepdim=True)
    return mean if token == "mean" else (mean + at_last) / 2
