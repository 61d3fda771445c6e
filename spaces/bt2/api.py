# SPDX-License-Identifier: Apache-2.0
"""The endpoints. Types and docstrings become the description of the API.

The functions import what computes when they run, so the page opens long before torch and its friends are loaded.
"""

from typing import Any, Literal

import gradio as gr
from names import EMBEDDED_NEW, EMBEDDED_OLD
from PIL import Image


def search_text(
    query: str,
    share: float = 50,
    calibrated: bool = True,
    old_encoder: str = EMBEDDED_OLD,
    new_encoder: str = EMBEDDED_NEW,
) -> dict[str, list[dict]]:
    """Search docstrings in the old index, in one that is partly backfilled, and in the new one.

    Args:
        query: What to look for.
        share: Percentage of the mixed index that is backfilled, 0 to 100.
        calibrated: Whether old vectors are scaled in the mixed index so that results do not dip.
        old_encoder: "embedded:old", a Hub id or a folder of a sentence-transformers model.
        new_encoder: "embedded:new", a Hub id or a folder.

    Returns:
        Under "before", "mixed" and "after" a record per hit: rank, text, score, is_new.
    """
    from reports import records

    upgrade, found = find_text(query, share, calibrated, old_encoder, new_encoder)
    return records(upgrade, found, "text")


def search_images(image: Image.Image | None, share: float = 50, calibrated: bool = True) -> dict[str, list[dict]]:
    """Search images of letters and signs in the old index, in one that is partly backfilled, and in the new one.

    Args:
        image: A letter or sign, of any size and colour.
        share: Percentage of the mixed index that is backfilled, 0 to 100.
        calibrated: Whether old vectors are scaled in the mixed index so that results do not dip.

    Returns:
        Under "before", "mixed" and "after" a record per hit: rank, label, score, is_new.
    """
    from reports import records

    upgrade, found = find_images(image, share, calibrated)
    return records(upgrade, found, "label")


def curve(
    kind: Literal["text", "images"] = "text", old_encoder: str = EMBEDDED_OLD, new_encoder: str = EMBEDDED_NEW
) -> dict:
    """Tell how good search is before the change, on the first day, on the way, and in the end.

    Args:
        kind: "text" or "images".
        old_encoder: As for `search_text`; only for text.
        new_encoder: As for `search_text`; only for text.

    Returns:
        metric, before, now, after, independent (the new encoder without a head), shares, plain and calibrated (the
        metric at each share), old_scale.
    """
    from reports import curve_record
    from upgrade import image_upgrade, text_upgrade

    if kind not in ("text", "images"):
        raise gr.Error(f"The kind must be text or images, not {kind}.")
    return curve_record(image_upgrade() if kind == "images" else text_upgrade(*named(old_encoder, new_encoder)))


def find_text(
    query: str | None, share: float, calibrated: bool, old_encoder: str, new_encoder: str
) -> tuple[Any, Any]:
    """The upgrade and the hits of every index."""
    from upgrade import text_upgrade

    query = (query or "").strip()
    if not query:
        raise gr.Error("Write a question first.")
    upgrade = text_upgrade(*named(old_encoder, new_encoder))
    return upgrade, upgrade.search(query, share_of(share), calibrated)


def find_images(image: Image.Image | None, share: float, calibrated: bool) -> tuple[Any, Any]:
    """The upgrade and the hits of every index."""
    from upgrade import image_upgrade

    if image is None:
        raise gr.Error("Choose an image or upload one first.")
    upgrade = image_upgrade()
    return upgrade, upgrade.search(image, share_of(share), calibrated)


def named(old_encoder: str | None, new_encoder: str | None) -> tuple[str, str]:
    """The two names, which must be there."""
    names = (old_encoder or "").strip(), (new_encoder or "").strip()
    if not all(names):
        raise gr.Error("Name both encoders: embedded ones, Hub ids or folders.")
    return names


def share_of(percent: float) -> float:
    """A percentage as a share."""
    if not 0 <= float(percent) <= 100:
        raise gr.Error(f"The share must lie between 0 and 100 %, not {percent}.")
    return float(percent) / 100
