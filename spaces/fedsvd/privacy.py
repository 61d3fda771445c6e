# SPDX-License-Identifier: Apache-2.0
"""What is claimed of a run, what of it is weak, and why some curves are missing."""

import math
from collections.abc import Mapping
from typing import Any

from names import B_ONLY, BATCH, HELD_OUT, METHODS


Record = Mapping[str, Any]

HIDDEN = (
    "The curves of single clients are **hidden**: each client computes them on rows of its own, without noise, so the guarantee "
    "does not cover them. These digits are public: tick *Show what clients measure* under *Privacy* to see them all the same."
)
BASE = (
    "It is a guarantee of the adapter. The base model of this page was pretrained on the same digits, turned; what a base has "
    "seen before is outside of any such guarantee."
)
NO_PRIVACY = (
    "**No privacy is claimed.** The rows never leave the clients, and that is all: what a client sends is computed from them and "
    "carries no noise, so traces of single images can be read from it."
)


def privacy_words(record: Record) -> str:
    """What is claimed, what the visitor should know of this plan, and why curves are missing."""
    settings = record["settings"]
    if not settings["epsilon"]:
        return NO_PRIVACY
    words = [f"**What is claimed.** {record['claim']} {BASE}"]
    if settings["method"] not in B_ONLY:
        words.append(
            f"{METHODS[settings['method']]} trains A as well: noise multiplies noise in the product B A. The guarantee "
            "holds, accuracy pays for it."
        )
    words += small_clients(record)
    words.append(
        HIDDEN if not record["client_accuracy"] else "Curves of single clients are shown, outside of the guarantee."
    )
    return "\n\n".join(words)


def small_clients(record: Record) -> list[str]:
    """A warning for plans that promise little to clients with few rows."""
    totals = {name: sum(row) for name, row in record["class_counts"].items()}
    rows = {name: total - math.ceil(HELD_OUT * total) for name, total in totals.items()}
    least = min(rows, key=rows.__getitem__)
    words = []
    if rows[least] < BATCH:
        words.append(
            f"{least} trains on {rows[least]} images, fewer than a batch of {BATCH}: every step uses all of them, so it needs "
            "much noise."
        )
    if record["settings"]["delta"] * rows[least] >= 1:
        words.append(
            f"δ = {record['settings']['delta']:g} is not below one over the {rows[least]} images of {least}: such a guarantee "
            "would allow giving a whole image away."
        )
    return words
