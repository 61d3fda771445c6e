# SPDX-License-Identifier: Apache-2.0
"""Editing directions of one layer, in one of several bases of the subspace that its affine reads."""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eigenhub.linalg.lowrank import fix_signs
from eigenhub.linalg.orthogonal import procrustes
from eigenhub.models.stylegan2.edits import edited_images
from eigenhub.models.stylegan2.projectors import affine_of, projector_at


BASES = ("parameter", "svd", "sefa", "jacobian", "aligned")


class Directions(NamedTuple):
    """Orthonormal directions in the space of style latents.

    Args:
        vectors (`Tensor` of shape `(w_dim, count)`): directions, as columns.
        scores (`Tensor` of shape `(count,)`): singular values of the affine along them; for the basis `"sefa"` eigenvalues, for
            `"jacobian"` the mean squared change of the image per unit of `w`.
    """

    vectors: Tensor
    scores: Tensor


@torch.no_grad()
def layer_directions(
    model: Any,
    layer: str,
    basis: str = "parameter",
    count: int | None = None,
    reference: Tensor | None = None,
    ws: Tensor | None = None,
    eps: float = 0.5,
    num_samples: int = 48,
    batch_size: int = 8,
    seed: int = 0,
    edit: str = "ws",
) -> Directions:
    r"""Directions along which to move the style latent of one layer.

    | basis | directions | needs |
    | --- | --- | --- |
    | `"parameter"` | columns of $V$, in the order of the parameters | a projector |
    | `"svd"` | right singular vectors of the affine, largest value first | learned values in a projector, or no projector |
    | `"sefa"` | eigenvectors of $W^\top W$ with rows of $W$ at unit length (Shen & Zhou, 2007.06600) | |
    | `"jacobian"` | eigenvectors of $\mathbb{E}_w \langle J v_k, J v_l \rangle$ on the span of $V$, largest effect first | images |
    | `"aligned"` | $V R$ with the orthogonal $R$ that brings it closest to `reference` | a projector |

    A projector with equal singular values determines the span of its directions and not the directions: the parameters' basis
    is one of many, fixed by the start and the path of training. `"jacobian"` and learned singular values determine them, up to
    sign.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        layer (`str`): for example `"b8.conv0"`.
        basis (`str`, *optional*, defaults to `"parameter"`): one of the above.
        count (`int`, *optional*): number of directions; by default the rank of the projector, or 10.
        reference (`Tensor` of shape `(w_dim, rank)`, *optional*): of the basis `"aligned"`, for example the leading right
            singular vectors before projection.
        ws (`Tensor` of shape `(batch, num_ws, w_dim)`, *optional*): where images change; by default at random latents.
        eps (`float`, *optional*, defaults to 0.5): step of central differences in `w`.
        num_samples (`int`, *optional*, defaults to 48): number of random latents.
        batch_size (`int`, *optional*, defaults to 8): images at a time.
        seed (`int`, *optional*, defaults to 0): of the latents.
        edit (`str`, *optional*, defaults to `"ws"`): what a step of the basis `"jacobian"` moves, see [`traverse`].

    Returns:
        [`Directions`]; where a basis leaves signs free, the entry of largest modulus of each direction is positive.
    """
    if basis not in BASES:
        raise ValueError(f"`basis` must be one of {', '.join(BASES)}; got {basis!r}")
    affine, projector = affine_of(model, layer), projector_at(model, layer)
    limit = min(affine.in_features, affine.out_features) if projector is None else projector.map.rank
    count = min(10, limit) if count is None and projector is None else limit if count is None else count
    if not 1 <= count <= limit:
        raise ValueError(f"`count` must be between 1 and {limit} for layer {layer!r}, got {count}")
    if basis == "sefa":
        return sefa_directions([affine.effective_weight()], count)
    if projector is None and basis in ("parameter", "aligned"):
        raise ValueError(
            f"layer {layer!r} has no projector: `basis` must be 'svd', 'sefa' or 'jacobian', got {basis!r}"
        )
    if basis == "svd":
        return svd_directions(affine.effective_weight(), count, known=projector is None or _distinct(projector))
    if projector is None:
        span = svd_directions(affine.effective_weight(), count)
    else:
        _, values, v = projector.factors()
        span = Directions(v, values)
    if basis == "jacobian":
        if ws is None:
            c = torch.zeros(num_samples, model.config.c_dim, device=model.device) if model.config.c_dim else None
            ws = model.mapping(model.latents(num_samples, seed), c)
        return _first(jacobian_directions(model, layer, span.vectors, ws, eps, batch_size, edit), count)
    if basis == "aligned":
        return _first(aligned_directions(span, reference), count)
    return _first(span, count)


def sefa_directions(weights: list[Tensor], count: int) -> Directions:
    r"""Closed-form factorisation (SeFa) of one layer or of several that are moved together.

    The rows of all effective weights, at unit length, make $W$; the directions are the leading eigenvectors of $W^\top W$.

    Args:
        weights (`list[Tensor]`): effective affine weights of shape `(channels, w_dim)`.
        count (`int`): number of directions.

    Returns:
        [`Directions`], eigenvalues descending.
    """
    rows = torch.cat([weight.double() for weight in weights])
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-12)
    values, vectors = torch.linalg.eigh(rows.mT @ rows)
    return _signed(vectors.flip(1)[:, :count], values.flip(0)[:count], weights[0].dtype)


def svd_directions(weight: Tensor, count: int, known: bool = True) -> Directions:
    """Right singular vectors of an effective affine weight, largest value first.

    Args:
        weight (`Tensor` of shape `(channels, w_dim)`): effective weight.
        count (`int`): number of directions.
        known (`bool`, *optional*, defaults to `True`): whether the values tell the vectors apart; otherwise warns.
    """
    if not known:
        warnings.warn(
            "the projector has equal singular values, so that its singular vectors are an arbitrary basis of their span: use "
            "basis='parameter', 'jacobian' or 'aligned', or learn the singular values",
            stacklevel=4,
        )
    _, values, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    return _signed(vh[:count].mT, values[:count], weight.dtype)


def aligned_directions(span: Directions, reference: Tensor | None) -> Directions:
    """The basis of a span that is closest to given vectors.

    Args:
        span ([`Directions`]): any basis.
        reference (`Tensor` of shape `(w_dim, rank)`): what to come close to.
    """
    if reference is None or reference.shape != span.vectors.shape:
        given = None if reference is None else tuple(reference.shape)
        raise ValueError(f"`reference` must have shape {tuple(span.vectors.shape)} for basis='aligned', got {given}")
    turn = procrustes(span.vectors, reference.to(span.vectors.device))
    return Directions(span.vectors @ turn, (turn.square().mT * span.scores.square()).sum(1).sqrt())


def jacobian_directions(
    model: Any, layer: str, vectors: Tensor, ws: Tensor, eps: float = 0.5, batch_size: int = 8, edit: str = "ws"
) -> Directions:
    r"""The basis of a span that is ordered by what it does to images.

    With $G_{kl}$ = mean of $\langle J v_k, J v_l \rangle$ over pixels and samples, by central differences, and its eigenvectors
    $R$ in descending order, the directions are $V R$: the same for every basis $V$ of the span, up to sign.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        layer (`str`): whose style latent moves.
        vectors (`Tensor` of shape `(w_dim, rank)`): orthonormal basis of the span.
        ws (`Tensor` of shape `(batch, num_ws, w_dim)`): where to look.
        eps (`float`, *optional*, defaults to 0.5): step.
        batch_size (`int`, *optional*, defaults to 8): images at a time.
        edit (`str`, *optional*, defaults to `"ws"`): see [`traverse`].
    """
    if not eps > 0:
        raise ValueError(f"`eps` must be positive, got {eps}")
    if not len(ws):
        raise ValueError("`ws` must hold at least one sample, got none")
    gram = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64, device=ws.device)
    for part in ws.split(max(1, batch_size // 2)):
        changes = []
        for v in vectors.mT:
            both = edited_images(model, torch.cat([part, part]), layer, _plus_and_minus(v, eps, len(part)), edit)
            changes.append((both[: len(part)] - both[len(part) :]).double().flatten() / (2 * eps))
        stacked = torch.stack(changes)
        gram += stacked @ stacked.mT / (stacked.shape[1] / len(part))
    values, turn = torch.linalg.eigh(gram / len(ws))
    found = vectors.double() @ turn.flip(1)
    return _signed(found, values.flip(0).clamp(min=0), vectors.dtype)


def _plus_and_minus(v: Tensor, eps: float, batch: int) -> Tensor:
    steps = torch.tensor([eps, -eps], dtype=v.dtype, device=v.device).repeat_interleave(batch)
    return steps[:, None] * v


def _distinct(projector: Any) -> bool:
    if projector.log_scale is None:
        return False
    gaps = projector.log_scale.detach().sort().values.diff()
    return bool((gaps > 1e-4).all())


def _first(directions: Directions, count: int) -> Directions:
    return Directions(directions.vectors[:, :count], directions.scores[:count])


def _signed(vectors: Tensor, scores: Tensor, dtype: torch.dtype) -> Directions:
    return Directions(fix_signs(vectors, vectors.mT)[0].to(dtype), scores.to(dtype))
