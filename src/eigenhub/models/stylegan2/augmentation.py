# SPDX-License-Identifier: Apache-2.0
"""Augmentation of what a discriminator sees, real and fake alike, as strong as its overfitting asks for (ADA)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from eigenhub.linalg.autocast import without_autocast


#: Luminance direction of colours, the axis of hue.
_GREY = (1 / math.sqrt(3),) * 3


class AdaptiveAugment(nn.Module):
    r"""Random flips, quarter turns, translations, scalings, rotations and changes of colour, each with probability $p$.

    All of them can be told from the images that result as long as $p$ is not near one, so that a generator does not learn
    them (Karras et al., arXiv 2006.06676). Differentiable twice in the images, so that R1 can be taken in front of it.

    With a `target`, $p$ moves by itself: [`observe`] takes the discriminator's logits on real images, [`adapt`] raises $p$
    while the mean of their signs is above the target and lowers it otherwise, from 0 to 1 in `kimg` thousand images.

    Args:
        p (`float`, *optional*, defaults to 0.0): probability at the start.
        target (`float`, *optional*, defaults to 0.6): wanted mean sign of the logits; None keeps `p` as it is.
        kimg (`float`, *optional*, defaults to 500.0): thousands of images in which $p$ goes from 0 to 1.
        geometry (`bool`, *optional*, defaults to `True`): whether images are moved.
        colour (`bool`, *optional*, defaults to `True`): whether colours change.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.stylegan2.augmentation import AdaptiveAugment
    >>> images = torch.randn(2, 3, 16, 16)
    >>> torch.equal(AdaptiveAugment(p=0.0)(images), images), AdaptiveAugment(p=0.5)(images).shape
    (True, torch.Size([2, 3, 16, 16]))
    ```

    Departures: one bilinear warp with mirrored margins for all of the geometry, where the official code first doubles the
    resolution with a wavelet; no filtering, noise and cut-out, which it leaves off by default too. $p$ does not exceed 1.
    """

    p: Tensor
    signs: Tensor

    def __init__(
        self,
        p: float = 0.0,
        target: float | None = 0.6,
        kimg: float = 500.0,
        geometry: bool = True,
        colour: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"`p` must be in [0, 1], got {p}")
        if target is not None and not -1 < target < 1:
            raise ValueError(f"`target` must be in (-1, 1), got {target}")
        if not kimg > 0:
            raise ValueError(f"`kimg` must be positive, got {kimg}")
        self.target, self.kimg, self.geometry, self.colour = target, kimg, geometry, colour
        self.register_buffer("p", torch.tensor(float(p), dtype=torch.float64))
        self.register_buffer("signs", torch.zeros(2, dtype=torch.float64))  # their sum, and how many

    def forward(self, images: Tensor) -> Tensor:
        p = self.p.item()
        if p == 0:
            return images
        with without_autocast(images.device):  # places in bfloat16 would be wrong by pixels
            if self.geometry:
                images = warped(images, random_geometry(len(images), p).to(images))
            if self.colour:
                images = recoloured(images, random_colours(len(images), p).to(images))
        return images

    @torch.no_grad()
    def observe(self, real_logits: Tensor, across: Callable[[Tensor], Tensor] | None = None) -> None:
        """Counts the signs of logits on real images.

        Args:
            real_logits (`Tensor`): from the discriminator, of augmented real images.
            across (`Callable`, *optional*): averages a number over processes, which then share one probability.
        """
        mean = real_logits.detach().float().sign().mean()
        shared = (across(mean) if across is not None else mean).item()
        self.signs += self.signs.new_tensor([shared * real_logits.numel(), real_logits.numel()])

    @torch.no_grad()
    def adapt(self, images: int) -> float:
        r"""Moves $p$ by `images` / (1000 `kimg`) towards the target and forgets the signs; returns their mean.

        Args:
            images (`int`): real images that the discriminator has seen since the last time, over all processes.
        """
        mean = (self.signs[0] / self.signs[1].clamp(min=1)).item()
        self.signs.zero_()
        if self.target is not None and mean != self.target:
            self.p.add_(math.copysign(images / (1000 * self.kimg), mean - self.target)).clamp_(0, 1)
        return mean

    def extra_repr(self) -> str:
        return f"p={self.p.item():.4f}, target={self.target}, kimg={self.kimg:g}"


def random_geometry(batch: int, p: float) -> Tensor:
    """Random maps from places in the result to places in the image, in units of half a side, `(batch, 3, 3)`, float64.

    Args:
        batch (`int`): number of images.
        p (`float`): probability of each change.
    """
    turn = 1 - math.sqrt(1 - p)  # before and after the stretching: either of them with probability p
    maps = torch.eye(3, dtype=torch.float64).expand(batch, 3, 3)
    flips = _sometimes(1 - 2 * torch.randint(0, 2, (batch,)).double(), 1.0, p)
    maps = maps @ _scaling(flips, torch.ones(batch, dtype=torch.float64))
    maps = maps @ _rotation(_sometimes(torch.randint(0, 4, (batch,)).double() * (math.pi / 2), 0.0, p))
    maps = maps @ _translation(_sometimes(torch.rand(batch, 2, dtype=torch.float64) / 2 - 0.25, 0.0, p))
    scale = _sometimes(_lognormal(batch, 0.2), 1.0, p)
    maps = maps @ _scaling(scale, scale)
    maps = maps @ _rotation(_sometimes(_angles(batch), 0.0, turn))
    stretch = _sometimes(_lognormal(batch, 0.2), 1.0, p)
    maps = maps @ _scaling(stretch, 1 / stretch)
    maps = maps @ _rotation(_sometimes(_angles(batch), 0.0, turn))
    return maps @ _translation(_sometimes(torch.randn(batch, 2, dtype=torch.float64) / 4, 0.0, p))


def random_colours(batch: int, p: float) -> Tensor:
    """Random affine maps of colours, `(batch, 4, 4)`, float64: brightness, contrast, inversion, hue and saturation.

    Args:
        batch (`int`): number of images.
        p (`float`): probability of each change.
    """
    identity = torch.eye(4, dtype=torch.float64)
    along = torch.outer(*[torch.tensor([*_GREY, 0.0], dtype=torch.float64)] * 2)  # onto greys
    shift = _sometimes(0.2 * torch.randn(batch, dtype=torch.float64), 0.0, p)
    maps = identity.repeat(batch, 1, 1)
    maps[:, :3, 3] = shift[:, None]
    contrast = _sometimes(_lognormal(batch, 0.5), 1.0, p)
    maps = torch.diag_embed(torch.stack([contrast, contrast, contrast, torch.ones_like(contrast)], dim=1)) @ maps
    inverted = _sometimes(torch.randint(0, 2, (batch,)).double(), 0.0, p)
    maps = (identity - 2 * along * inverted[:, None, None]) @ maps
    maps = _hue(_sometimes(_angles(batch), 0.0, p)) @ maps
    saturation = _sometimes(_lognormal(batch, 1.0), 1.0, p)[:, None, None]
    return (along + (identity - along) * saturation) @ maps


def warped(images: Tensor, maps: Tensor) -> Tensor:
    """Images whose pixel at a place is that of the image at the mapped place, bilinear, mirrored at the margins.

    Written with `gather`, whose second derivative exists on every device.

    Args:
        images (`Tensor` of shape `(batch, channels, height, width)`): images.
        maps (`Tensor` of shape `(batch, 3, 3)`): from places to places, in units of half a side.
    """
    batch, channels, height, width = images.shape
    sides = images.new_tensor([width, height])
    y, x = torch.meshgrid(_centres(height, images), _centres(width, images), indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(-1, 3)  # [pixels, 3]
    found = (places @ maps.mT)[..., :2]  # [batch, pixels, 2]
    found = (found + 1) * sides / 2 - 0.5
    first = found.floor()
    share, flat, result = found - first, images.flatten(2), images.new_zeros(batch, channels, height * width)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = _mirrored(first[..., 0] + dx, width), _mirrored(first[..., 1] + dy, height)
        weight = (share[..., 0] if dx else 1 - share[..., 0]) * (share[..., 1] if dy else 1 - share[..., 1])
        index = (row * width + column)[:, None].expand(-1, channels, -1)
        result = result + weight[:, None] * flat.gather(2, index)
    return result.view_as(images)


def recoloured(images: Tensor, maps: Tensor) -> Tensor:
    """Images with mapped colours; grey ones take the mean of the channels, opacity stays.

    Args:
        images (`Tensor` of shape `(batch, channels, height, width)`): images of 1, 3 or 4 channels.
        maps (`Tensor` of shape `(batch, 4, 4)`): affine maps of colours.
    """
    matrix, shift = maps[:, :3, :3], maps[:, :3, 3]
    if images.shape[1] == 1:
        factor = matrix.sum(2).mean(1)
        return images * factor[:, None, None, None] + shift.mean(1)[:, None, None, None]
    if images.shape[1] not in (3, 4):
        raise ValueError(f"`images` must have 1, 3 or 4 channels, got {images.shape[1]}")
    colours = torch.einsum("boc,bchw->bohw", matrix, images[:, :3]) + shift[:, :, None, None]
    return torch.cat([colours, images[:, 3:]], dim=1)


def _centres(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, dtype=like.dtype, device=like.device) * 2 + 1) / count - 1


def _mirrored(places: Tensor, count: int) -> Tensor:
    """Indices inside of the image for any whole number, the border pixel repeated once."""
    places = places.long().remainder(2 * count)
    return torch.where(places < count, places, 2 * count - 1 - places)


def _sometimes(values: Tensor, neutral: float, p: float) -> Tensor:
    chosen = torch.rand(len(values), dtype=torch.float64) < p
    return torch.where(chosen.view(-1, *[1] * (values.ndim - 1)), values, neutral)


def _angles(batch: int) -> Tensor:
    return (torch.rand(batch, dtype=torch.float64) * 2 - 1) * math.pi


def _lognormal(batch: int, octaves: float) -> Tensor:
    return torch.exp2(octaves * torch.randn(batch, dtype=torch.float64))


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    maps = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    maps[:, 0, 0] = maps[:, 1, 1] = angle.cos()
    maps[:, 0, 1], maps[:, 1, 0] = -angle.sin(), angle.sin()
    return maps


def _translation(shift: Tensor) -> Tensor:
    maps = torch.eye(3, dtype=shift.dtype).repeat(len(shift), 1, 1)
    maps[:, :2, 2] = shift
    return maps


def _hue(angle: Tensor) -> Tensor:
    """Rotations of colours about the axis of greys (Rodrigues)."""
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=angle.dtype) * _GREY[0]
    turn = torch.matrix_exp(angle[:, None, None] * cross)
    maps = torch.eye(4, dtype=angle.dtype).repeat(len(angle), 1, 1)
    maps[:, :3, :3] = turn
    return maps
