# SPDX-License-Identifier: Apache-2.0
"""A small network that reads the factors of an image: the ruler by which directions of a generator are judged."""

import torch
from torch import Tensor, nn


class FactorRegressor(nn.Module):
    """Convolutions that halve the image down to 4 x 4 pixels, a layer of features, and one number per factor.

    Places matter to factors such as a position, so nothing is pooled over the image.

    Args:
        size (`int`): side of the images, 4 times a power of two.
        channels (`int`): of the images.
        num_factors (`int`): length of the output.
        width (`int`, *optional*, defaults to 32): channels of the first convolution, and half of those of the others.
        num_features (`int`, *optional*, defaults to 64): length of the features.
    """

    def __init__(self, size: int, channels: int, num_factors: int, width: int = 32, num_features: int = 64) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"`size` must be a power of two, at least 8, got {size}")
        layers: list[nn.Module] = []
        before, after = channels, width
        while size > 4:
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before, after, size = after, 2 * width, size // 2
        layers += [nn.Flatten(), nn.Linear(before * 16, num_features), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(num_features, num_factors)

    def features(self, images: Tensor) -> Tensor:
        """What the factors are read from; a Fréchet distance between two sets of images can be taken in them.

        Args:
            images (`Tensor` of shape `(batch, channels, size, size)`): images.

        Returns:
            `Tensor` of shape `(batch, num_features)`.
        """
        found: Tensor = self.body(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.features(images))
        return found


def fit_factor_regressor(
    images: Tensor,
    factors: Tensor,
    steps: int = 700,
    batch_size: int = 64,
    lr: float = 3e-3,
    width: int = 32,
    seed: int = 0,
) -> FactorRegressor:
    """A regressor fitted to images whose factors are known; judge it by [`r_squared`] on others before it judges anything.

    The random state of the process is left alone.

    Args:
        images (`Tensor` of shape `(count, channels, size, size)`): images.
        factors (`Tensor` of shape `(count, num_factors)`): their factors.
        steps (`int`, *optional*, defaults to 700): steps of Adam with a learning rate that falls to zero.
        batch_size (`int`, *optional*, defaults to 64): images per step.
        lr (`float`, *optional*, defaults to 3e-3): learning rate at the start.
        width (`int`, *optional*, defaults to 32): see [`FactorRegressor`].
        seed (`int`, *optional*, defaults to 0): of weights and batches.

    Returns:
        [`FactorRegressor`]: in eval mode; its parameters ask for no gradients.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.metrics.factor_regressor import fit_factor_regressor
    >>> grey = torch.linspace(-1, 1, 64)[:, None]
    >>> regressor = fit_factor_regressor(grey[:, :, None, None].expand(-1, 1, 8, 8), grey, steps=100)
    >>> bool((regressor(torch.full((1, 1, 8, 8), 0.5)) - 0.5).abs() < 0.1)
    True
    ```
    """
    if len(images) != len(factors) or images.ndim != 4 or factors.ndim != 2 or not len(images):
        raise ValueError(
            "`factors` must be rows for as many images, got shapes "
            f"{tuple(factors.shape)} and {tuple(images.shape)} of the images"
        )
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1, got {steps}")
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = FactorRegressor(images.shape[-1], images.shape[1], factors.shape[1], width).to(images.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        for _ in range(steps):
            rows = torch.randint(len(images), (batch_size,), generator=draws).to(images.device)
            optimizer.zero_grad()
            (model(images[rows]) - factors[rows]).square().mean().backward()
            optimizer.step()
            falling.step()
    return model.eval().requires_grad_(False)


def r_squared(predicted: Tensor, actual: Tensor) -> Tensor:
    r"""Share of the variance of every factor that a prediction explains, $1 - \sum (p - a)^2 / \sum (a - \bar a)^2$.

    Args:
        predicted (`Tensor` of shape `(..., count, factors)`): predictions.
        actual (`Tensor` of shape `(..., count, factors)`): truth; no factor may be constant.

    Returns:
        `Tensor` of shape `(..., factors)`, float64.
    """
    if predicted.shape != actual.shape or actual.ndim < 2:
        raise ValueError(
            f"`predicted` must have the shape of the truth, got {tuple(predicted.shape)} for {tuple(actual.shape)}"
        )
    p, a = predicted.detach().double(), actual.detach().double()
    spread = (a - a.mean(-2, keepdim=True)).square().sum(-2)
    if not (spread > 0).all():
        raise ValueError("`actual` must vary in every factor: the share of a variance of zero is not defined")
    return 1 - (p - a).square().sum(-2) / spread
