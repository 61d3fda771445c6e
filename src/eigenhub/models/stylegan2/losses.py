# SPDX-License-Identifier: Apache-2.0
"""Losses and regularisers of an adversarial pair, on plain tensors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


REDUCTIONS = ("max", "mean")


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""$\mathbb{E} \log(1 + e^{-D(x)}) + \mathbb{E} \log(1 + e^{D(G(z))})$.

    Args:
        real_logits (`Tensor` of shape `(batch, 1)`): $D(x)$.
        fake_logits (`Tensor` of shape `(batch, 1)`): $D(G(z))$.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    r"""The loss that does not saturate, $\mathbb{E} \log(1 + e^{-D(G(z))})$.

    Args:
        fake_logits (`Tensor` of shape `(batch, 1)`): $D(G(z))$.
    """
    return F.softplus(-fake_logits).mean()


def r1_penalty(logits: Tensor, images: Tensor, gamma: float = 10.0) -> Tensor:
    r"""$\frac{\gamma}{2}\,\mathbb{E} \lVert \nabla_x D(x) \rVert^2$ on real images (Mescheder et al., arXiv 1801.04406).

    The gradient is taken at `images`: with augmentation, hand in the images before it.

    Args:
        logits (`Tensor` of shape `(batch, 1)`): $D(x)$, each computed from its own image or from few others.
        images (`Tensor` of shape `(batch, channels, height, width)`): $x$, with `requires_grad` set before the logits.
        gamma (`float`, *optional*, defaults to 10.0): $\gamma$.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.stylegan2.losses import r1_penalty
    >>> images = torch.ones(2, 1, 2, 2, requires_grad=True)
    >>> r1_penalty(3 * images.sum((1, 2, 3)), images, gamma=2.0).item()
    36.0
    ```
    """
    if not gamma >= 0:
        raise ValueError(f"`gamma` must be at least 0, got {gamma}")
    if not images.requires_grad:
        raise ValueError("`images` must require gradients, and must do so before the logits are computed")
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gamma / 2 * gradient.square().sum((1, 2, 3)).mean()


class PathLengthPenalty(nn.Module):
    r"""$\mathbb{E}\,(\lVert J_w^\top y \rVert - a)^2$ with $y \sim N(0, I / \text{pixels})$ and the running mean $a$ of those lengths.

    The length is the root mean square over the entries of `ws` of the length of each gradient (Karras et al., arXiv
    1912.04958, equation 4). The mean is a buffer, so that it is saved and restored with the module.

    Args:
        weight (`float`, *optional*, defaults to 2.0): factor on the penalty.
        decay (`float`, *optional*, defaults to 0.01): share of the present batch in the mean.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.stylegan2.losses import PathLengthPenalty
    >>> ws = torch.ones(1, 2, 3, requires_grad=True)
    >>> PathLengthPenalty(weight=1.0, decay=0.5)(2 * ws.sum().view(1, 1, 1, 1), ws, noise=torch.ones(1, 1, 1, 1)).item()
    3.0
    ```

    Departure: the mean is a constant in the gradient, as in the paper; the official code also differentiates through the share
    `decay` of the present batch in it.
    """

    mean: Tensor

    def __init__(self, weight: float = 2.0, decay: float = 0.01) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"`weight` must be at least 0, got {weight}")
        if not 0 < decay <= 1:
            raise ValueError(f"`decay` must be in (0, 1], got {decay}")
        self.weight, self.decay = weight, decay
        self.register_buffer("mean", torch.zeros(()))

    def lengths(self, images: Tensor, ws: Tensor, noise: Tensor | None = None) -> Tensor:
        """Path lengths of each sample, `(batch,)`.

        Args:
            images (`Tensor` of shape `(batch, channels, height, width)`): made from `ws`.
            ws (`Tensor` of shape `(batch, num_ws, w_dim)`): with `requires_grad` set, or computed from what has it.
            noise (`Tensor` of the shape of the images, *optional*): $y$; drawn by default.
        """
        if not ws.requires_grad:
            raise ValueError("`ws` must require gradients, and must do so before the images are computed")
        if noise is None:
            noise = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
        (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
        return gradient.square().sum(2).mean(1).sqrt()

    def forward(
        self,
        images: Tensor,
        ws: Tensor,
        noise: Tensor | None = None,
        across: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The penalty; moves the mean first. `across` averages a number over processes, which then share one mean."""
        lengths = self.lengths(images, ws, noise)
        batch = lengths.detach().mean()
        self.mean.lerp_(across(batch) if across is not None else batch, self.decay)
        return self.weight * (lengths - self.mean).square().mean()


def hessian_penalty(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    count: int = 2,
    eps: float = 1.0,
    reduction: str = "max",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""$\operatorname{Var}_v v^\top H v$ of every output over random signs $v$: zero where all Hessians in `x` are diagonal.

    By central second differences; a term of the generator's loss (Peebles et al., arXiv 2008.10599). Added to a log only, as
    in the official code of the projector, it changes nothing.

    Args:
        function (`Callable`): images of `x`, deterministic: random noise would be taken for curvature.
        x (`Tensor` of shape `(batch, features)`): latents.
        count (`int`, *optional*, defaults to 2): number of random $v$ per sample, at least 2.
        eps (`float`, *optional*, defaults to 1.0): step.
        reduction (`str`, *optional*, defaults to `"max"`): over outputs and samples, `"max"` as published, or `"mean"`.
        generator (`torch.Generator`, *optional*): source of the signs, on the CPU.
    """
    signs = _signs(x, count, eps, reduction, generator)
    middle = 2 * function(x)
    curvatures = [(function(x + eps * v) - middle + function(x - eps * v)) / eps**2 for v in signs]
    return _reduced(torch.stack(curvatures).var(0), reduction)


def jacobian_penalty(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    count: int = 2,
    eps: float = 1.0,
    reduction: str = "max",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""OroJaR: $\operatorname{Var}_v \lVert J v \rVert^2 / \text{outputs}$ over random signs $v$, zero where the columns of $J$
    are orthogonal.

    By forward differences; a term of the generator's loss (Wei et al., arXiv 2108.07668). Departures: the mean over outputs in
    place of their sum, so that a weight fits every resolution; the official code of the projector takes the variance of each
    output by itself, which is another quantity.

    Args:
        function (`Callable`): images of `x`, deterministic: random noise would be taken for a slope.
        x (`Tensor` of shape `(batch, features)`): latents.
        count (`int`, *optional*, defaults to 2): number of random $v$ per sample, at least 2.
        eps (`float`, *optional*, defaults to 1.0): step.
        reduction (`str`, *optional*, defaults to `"max"`): over samples, `"max"` as published, or `"mean"`.
        generator (`torch.Generator`, *optional*): source of the signs, on the CPU.
    """
    signs = _signs(x, count, eps, reduction, generator)
    start = function(x)
    squares = [((function(x + eps * v) - start) / eps).square().flatten(1).mean(1) for v in signs]
    return _reduced(torch.stack(squares).var(0), reduction)


def _signs(x: Tensor, count: int, eps: float, reduction: str, generator: torch.Generator | None) -> Tensor:
    if count < 2:
        raise ValueError(f"`count` must be at least 2, got {count}")
    if not eps > 0:
        raise ValueError(f"`eps` must be positive, got {eps}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"`reduction` must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    drawn = torch.randint(0, 2, (count, *x.shape), generator=generator, device="cpu")
    return (2 * drawn - 1).to(x)


def _reduced(values: Tensor, reduction: str) -> Tensor:
    return values.max() if reduction == "max" else values.mean()
