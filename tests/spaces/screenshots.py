# SPDX-License-Identifier: Apache-2.0
"""Pictures of the Spaces for the docs and the gallery's cards: `python -m tests.spaces.screenshots [SLUG ...]`.

Each Space is opened as a user opens it, and photographed once its first content is there; embedded models that are not in
the cache yet are trained for that. The gallery comes last, because it shows the pictures of the others.
"""

import argparse
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from eigenhub.methods import METHODS
from tests.spaces.checks import opened_by_command
from tests.support.browser import DESKTOP, PHONE, visit
from tests.support.processes import ROOT


if TYPE_CHECKING:
    from playwright.sync_api import Page

SLUGS = [*(method.slug for method in METHODS), "gallery"]
#: What is there when a page has something to show; elsewhere its first picture.
CONTENT = {
    "sorsa": "#condition-plot img",
    "dct": "#energy-plot img",
    "s5_ptd": "#sequence-plot img",
    "bt2": "#text-curve img",
    "fedsvd": "#split-plot img",
    "send": "#spectrum-plot img",
    "householder": "#after img",
    "gallery": "#open-send",
}
PICTURES, THUMBNAILS = ROOT / "docs" / "images" / "spaces", ROOT / "spaces" / "gallery" / "thumbnails"
PHONES = ROOT / "runs" / "phones"  # kept, so that one can be taken anew
HEIGHTS = (800, 2100)  # of a picture
THUMBNAIL = (480, 300)
FIRST_TIME = 900_000  # milliseconds in which embedded models are trained, on a busy machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slugs", nargs="*", metavar="SLUG", help=f"{', '.join(SLUGS)}; default: all")
    slugs = parser.parse_args().slugs or SLUGS
    if strange := set(slugs) - set(SLUGS):
        parser.error(f"SLUG must be among {', '.join(SLUGS)}, got {', '.join(sorted(strange))}")
    PICTURES.mkdir(parents=True, exist_ok=True)
    THUMBNAILS.mkdir(exist_ok=True)
    PHONES.mkdir(parents=True, exist_ok=True)
    for slug in slugs:
        take(slug)
    files = [PHONES / f"{slug}.png" for slug in SLUGS]
    if all(file.is_file() for file in files):
        save(strip([Image.open(file) for file in files]), "phones.png")


def take(slug: str) -> None:
    """Picture on a desktop, on a phone, and the thumbnail of one Space."""
    with opened_by_command(*([] if slug == "gallery" else [slug])) as opened:
        with visit(opened.url, DESKTOP) as seen:
            picture, bottom = photograph(seen.page, slug)
        with visit(opened.url, PHONE) as seen:
            phone, phone_bottom = photograph(seen.page, slug)
    save(ending_at(picture, bottom, min(max(bottom, HEIGHTS[0]), HEIGHTS[1])), f"{slug}.png")
    ending_at(phone, phone_bottom, PHONE["height"]).save(PHONES / f"{slug}.png")
    if slug != "gallery":
        part = ending_at(picture, bottom, picture.width * THUMBNAIL[1] // THUMBNAIL[0])
        part.resize(THUMBNAIL, Image.Resampling.LANCZOS).save(THUMBNAILS / f"{slug}.webp", quality=82, method=6)


def photograph(page: "Page", slug: str) -> tuple[Image.Image, int]:
    """The whole page, once nothing on it is waited for, and how far down its first content reaches."""
    content = page.locator(CONTENT.get(slug, "main img")).first
    content.wait_for(timeout=FIRST_TIME)
    page.wait_for_function("document.fonts.ready.then(() => !document.querySelector('.eta-bar, .progress-level'))")
    page.wait_for_timeout(1000)  # figures fade in
    box = content.bounding_box()
    assert box is not None
    return Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB"), round(box["y"] + box["height"]) + 24


def ending_at(picture: Image.Image, bottom: int, height: int) -> Image.Image:
    """A part of a page of full width that shows its content to the end."""
    top = max(0, min(bottom, picture.height) - height)
    return picture.crop((0, top, picture.width, min(top + height, picture.height)))


def save(picture: Image.Image, name: str) -> None:
    """Write a small file: pages have few colours."""
    picture.quantize(256, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)


def strip(phones: list[Image.Image]) -> Image.Image:
    """Pictures of phones side by side."""
    gap, width = 24, PHONE["width"]
    found = Image.new("RGB", ((width + gap) * len(phones) + gap, PHONE["height"] + 2 * gap), "#e2e8f0")
    for number, phone in enumerate(phones):
        found.paste(phone, (gap + number * (width + gap), gap))
    found.thumbnail((1800, 1800), Image.Resampling.LANCZOS)
    return found


if __name__ == "__main__":
    main()
