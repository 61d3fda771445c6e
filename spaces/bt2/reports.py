# SPDX-License-Identifier: Apache-2.0
"""What was found and how good search is, as HTML, records and a figure."""

from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure
from names import METRIC_LABELS, STATES, TITLES
from pictures import data_url, to_image
from upgrade import Hit, Upgrade

from eigenhub.hub.space import tiles
from eigenhub.hub.space_figures import GREY, INK, PALETTE, legend_below, new_figure


SNIPPET = 150  # characters


def summary(upgrade: Upgrade) -> str:
    """The upgrade in four tiles."""
    found, m = upgrade.figures, upgrade.material
    label = METRIC_LABELS[m.metric]
    widths = f"{m.old.dim} to {m.new.dim} dimensions, {m.new.dim / m.old.dim - 1:+.0%}"
    held_out = f"{len(m.queries) * 3 // 4} queries, {len(m.items)} items"
    return tiles(
        [
            (f"{label} before", f"{found['before']:.3f}", f"old encoder, old index; {held_out}"),
            ("On the first day", f"{found['now']:.3f}", "new queries, nothing embedded anew"),
            ("In the end", f"{found['after']:.3f}", f"all embedded anew; {found['independent']:.3f} without a head"),
            ("Storage", widths.partition(", ")[2], widths.partition(", ")[0]),
        ]
    )


def hits_html(upgrade: Upgrade, hits: Sequence[Hit], right: str | None) -> str:
    """
    Texts that were found, as a list.

    Args:
        upgrade (`Upgrade`): whose items these are.
        hits (`Sequence[Hit]`): the hits.
        right (`str`, *optional*): the right answer, where it is known.
    """
    return (
        f'<ol class="hits">{"".join(_hit(upgrade.material.contents[hit.position], hit, right) for hit in hits)}</ol>'
    )


def _hit(text: str, hit: Hit, right: str | None) -> str:
    shown = escape(text if len(text) <= SNIPPET else text[:SNIPPET].rsplit(" ", 1)[0] + " …")
    kind = "new" if hit.is_new else "old"
    mark = '<b class="right">right answer</b>' if text == right else ""
    return (
        f'<li class="{"is-right" if mark else ""}"><span class="{kind}">{kind} vector</span>{mark}<p>{shown}</p></li>'
    )


def hits_pictures(upgrade: Upgrade, hits: Sequence[Hit], right: str | None) -> str:
    """
    Images that were found, as a row of pictures; those of the right class are framed.

    Args:
        upgrade (`Upgrade`): whose items these are.
        hits (`Sequence[Hit]`): the hits.
        right (`str`, *optional*): class of the query, where it is known.
    """
    m = upgrade.material
    pictures = (_picture(m.contents[hit.position], str(m.labels[hit.position]), hit, right) for hit in hits)
    return f'<ol class="pictures">{"".join(pictures)}</ol>'


def _picture(pixels: Any, label: str, hit: Hit, right: str | None) -> str:
    kind, name = "new" if hit.is_new else "old", escape(label)
    return (
        f'<li class="{"is-right" if label == right else ""}"><img src="{data_url(to_image(pixels))}" alt="{name}">'
        f'<p>{name}</p><span class="{kind}" title="{kind} vector">{kind}</span></li>'
    )


def records(upgrade: Upgrade, found: dict[str, list[Hit]], key: str) -> dict[str, list[dict]]:
    """The hits of every index for programs; `key` names what an item is."""
    return {
        state: [
            {"rank": i + 1, key: upgrade.material.labels[hit.position], "score": hit.score, "is_new": hit.is_new}
            for i, hit in enumerate(found[state])
        ]
        for state in STATES
    }


def verdict(upgrade: Upgrade, found: dict[str, list[Hit]], right: str | None) -> str:
    """Where the right answer stands in each index, in one sentence."""
    if right is None:
        return "The right answer to a query of your own is not known here."
    places = []
    for state in STATES:
        ranks = [i + 1 for i, hit in enumerate(found[state]) if upgrade.material.labels[hit.position] == right]
        places.append(f"{TITLES[state].lower()}: {'**' + str(ranks[0]) + '**' if ranks else 'not among the first'}")
    return f"First right answer — {'; '.join(places)}."


def curve_figure(upgrade: Upgrade, share: float) -> Figure:
    """
    Quality over the share that is backfilled.

    Args:
        upgrade (`Upgrade`): the upgrade.
        share (`float`): where the visitor is.
    """
    label = METRIC_LABELS[upgrade.material.metric]
    figure, axes = new_figure(f"{label} on the way", "share backfilled", size=(6.4, 3.6))
    plain, scaled = upgrade.curves["plain"], upgrade.curves["calibrated"]
    axes.plot(plain.shares, plain.values, color=PALETTE[2], marker="o", markersize=4, label="as it is")
    axes.plot(
        scaled.shares,
        scaled.values,
        color=PALETTE[0],
        marker="o",
        markersize=4,
        label=f"old vectors times {scaled.old_scale:g}",
    )
    axes.axhline(upgrade.figures["before"], color=GREY, linewidth=1.2, linestyle="--", label="before the change")
    axes.axvline(share, color=INK, linewidth=0.9, linestyle=":")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    legend_below(axes, columns=3)
    return figure


def curve_record(upgrade: Upgrade) -> dict:
    """The curves and their ends for programs."""
    return {
        "metric": upgrade.material.metric,
        "shares": list(upgrade.curves["plain"].shares),
        "plain": list(upgrade.curves["plain"].values),
        "calibrated": list(upgrade.curves["calibrated"].values),
        "old_scale": upgrade.calibration.old_scale,
        **upgrade.figures,
    }
