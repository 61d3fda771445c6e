# SPDX-License-Identifier: Apache-2.0
"""Images for the page: enlarged, in rows and grids with captions, and as films."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from eigenhub.hub.space import download_folder
from eigenhub.hub.space_figures import INK


CELL_SIDE, LARGE_SIDE, FILM_SIDE = 128, 512, 256
GAP = 6  # pixels
#: Captions of strips and of grids: what is high shrinks on a phone, while a strip scrolls there.
FONT, LARGE_FONT = 16, 20
SECONDS_PER_FRAME = 0.08


def to_image(pixels: Tensor, side: int | None = None) -> Image.Image:
    """
    An image, resized smoothly.

    Args:
        pixels (`Tensor` of shape `(channels, height, width)`): bytes; grey, RGB or RGBA.
        side (`int`, *optional*): of the result; as it is by default.
    """
    values = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(values.squeeze(-1) if values.shape[-1] == 1 else values))
    if side is None or image.width == side:
        return image
    return image.resize((side, side), Image.Resampling.BICUBIC if side > image.width else Image.Resampling.LANCZOS)


def grid(
    rows: Sequence[Tensor], columns: Sequence[str], labels: Sequence[str] = (), side: int = CELL_SIDE
) -> Image.Image:
    """
    Rows of images on a transparent ground.

    Args:
        rows (`Sequence[Tensor]`): of shape `(count, channels, height, width)` each.
        columns (`Sequence[str]`): a caption below each column.
        labels (`Sequence[str]`, *optional*, defaults to `()`): a caption above each row.
        side (`int`, *optional*, defaults to 128): of each image.
    """
    size = LARGE_FONT if labels else FONT
    step, caption = side + GAP, size + 8
    above = caption if labels else 0
    sheet = Image.new("RGBA", (len(columns) * step - GAP, len(rows) * (step + above) + caption), (0, 0, 0, 0))
    draw, font = ImageDraw.Draw(sheet), caption_font(size)
    for i, row in enumerate(rows):
        top = i * (step + above)
        if labels:
            draw.text((2, top + caption - 6), labels[i], INK, font, anchor="ls")
        for j, pixels in enumerate(row):
            sheet.paste(to_image(pixels, side).convert("RGBA"), (j * step, top + above))
    for j, text in enumerate(columns):
        draw.text((j * step + side / 2, sheet.height - 5), text, INK, font, anchor="ms")
    return sheet


@lru_cache
def caption_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib: that of Pillow lacks the minus sign and most alphabets in which visitors name things."""
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def rows_around(middle: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """
    Rows with one image in common.

    Args:
        middle (`Tensor` of shape `(1, channels, height, width)`): the image in the middle of each row.
        parts (`Sequence[Tensor]`): the other images of each row.
    """
    return [torch.cat([part[: len(part) // 2], middle, part[len(part) // 2 :]]) for part in parts]


def signed(value: float) -> str:
    """A step as it is read."""
    return "0" if value == 0 else f"{value:+.3g}".replace("-", "−")


def png_file(image: Image.Image, name: str) -> str:
    """A file to download."""
    path = download_folder() / f"{name}.png"
    image.save(path)
    return str(path)


def gif_file(frames: Tensor, name: str, side: int) -> str:
    """
    A film there and back that goes on for ever.

    Args:
        frames (`Tensor` of shape `(count, channels, height, width)`): from one end to the other.
        name (`str`): of the file, without its ending.
        side (`int`): of the film.
    """
    images = [to_image(pixels, side).convert("RGB") for pixels in _there_and_back(frames)]
    path = download_folder() / f"{name}.gif"
    milliseconds = round(1000 * SECONDS_PER_FRAME)
    images[0].save(path, save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return str(path)


def mp4_file(frames: Tensor, name: str, side: int) -> str:
    """
    Three rounds there and back in H.264, for players that do not repeat; needs PyAV.

    Args:
        frames (`Tensor` of shape `(count, channels, height, width)`): from one end to the other.
        name (`str`): of the file, without its ending.
        side (`int`): of the film, even.
    """
    import av

    path: Path = download_folder() / f"{name}.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=round(1 / SECONDS_PER_FRAME))
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for pixels in _there_and_back(frames) * 3:
            picture = av.VideoFrame.from_image(to_image(pixels, side).convert("RGB"))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return str(path)


def film_side(resolution: int) -> int:
    """Large enough to see, small enough to send."""
    return min(LARGE_SIDE, max(FILM_SIDE, resolution))


def _there_and_back(frames: Tensor) -> list[Tensor]:
    return [*frames, *frames[1:-1].flip(0)]
