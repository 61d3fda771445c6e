# SPDX-License-Identifier: Apache-2.0
"""What a run, several runs and the pair have come to, in tiles, tables and sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from figures import KIB, run_color
from names import ADAMW, INITS, METHODS

from eigenhub.hub.space import html_table, tiles


Record = Mapping[str, Any]

COLUMNS = (
    "run",
    "accuracy",
    "worst client",
    "ε spent",
    "α",
    "clients",
    "rounds",
    "steps",
    "rate",
    "A",
    "up, KiB",
    "down, KiB",
    "s",
)
#: Below this, relative to the mean product, an error is rounding.
ROUNDING = 1e-6


def run_tiles(record: Record) -> str:
    """The run so far in six figures."""
    return tiles(
        [
            ("Test accuracy", f"{record['accuracy'][-1]:.1%}", f"{record['accuracy'][0]:.1%} before the first round"),
            _worst_tile(record),
            _epsilon_tile(record),
            _sent_tile(record, "upload", "Clients sent"),
            _sent_tile(record, "download", "Clients got"),
            _error_tile(record),
        ]
    )


def _worst_tile(record: Record) -> tuple[str, str, str]:
    if not record["client_accuracy"]:
        return "Worst client", "hidden", "not covered by the guarantee"
    name, value = worst_client(record)
    return "Worst client", f"{value:.1%}", f"{name}, on rows it has kept"


def worst_client(record: Record) -> tuple[str, float]:
    """The client on whose own rows the common adapter does worst."""
    latest = {name: values[-1] for name, values in record["client_accuracy"].items()}
    name = min(latest, key=latest.__getitem__)
    return name, latest[name]


def _epsilon_tile(record: Record) -> tuple[str, str, str]:
    if not record["epsilon"]:
        return "ε spent", "unlimited", "no noise, no guarantee"
    settings = record["settings"]
    return (
        "ε spent",
        f"{epsilon_spent(record):.2f} of {settings['epsilon']:g}",
        f"by the most asked client; δ = {settings['delta']:g}",
    )


def epsilon_spent(record: Record) -> float:
    """Of the client that has spent most, rounded up to two decimals: never less than was spent."""
    return math.ceil(100 * max(values[-1] for values in record["epsilon"].values())) / 100


def _sent_tile(record: Record, way: str, label: str) -> tuple[str, str, str]:
    count, plain = record[f"{way}_bytes"][-1], record[f"plain_{way}_bytes"][-1]
    share = f"{count / plain:.0%} of plain LoRA averaging" if plain else "nothing yet"
    return label, f"{count / KIB:,.0f} KiB", share


def _error_tile(record: Record) -> tuple[str, str, str]:
    label = "Averaging misses"
    if not record["averaging_error"]:
        return label, "–", "nothing averaged yet"
    error, method = record["averaging_error"][-1], record["settings"]["method"]
    if error < ROUNDING:
        return label, "nothing", "the product of means is the mean product"
    made_good = {
        "fedex": "put into the base weights",
        "flora": "averages products instead",
        "flexlora": "averages products instead",
    }
    return label, f"{error:.1%}", made_good.get(method, "of the mean product, in this round")


def progress_sentence(record: Record, goes_on: bool = True) -> str:
    """How far the run is, and who took part."""
    done, planned = len(record["participants"]), record["settings"]["rounds"]
    name = METHODS[record["settings"]["method"]]
    if record["finished"]:
        return f"Finished: **{name}** reaches **{record['accuracy'][-1]:.1%}** after {done} rounds, {seconds(record):.0f} s."
    if not goes_on:
        return f"Stopped after round {done} of {planned}."
    if not done:
        return f"{name} begins with {len(record['clients'])} clients."
    failed = "".join(f" {client} gave nothing: {why}." for client, why in record["failures"][-1].items())
    return f"Round {done} of {planned}: {', '.join(record['participants'][-1])} took part.{failed}"


def seconds(record: Record) -> float:
    """Of all rounds together."""
    return sum(record["seconds"])


def comparison_table(records: Sequence[Record]) -> str:
    """HTML: one row for each run, with the colours of the curves."""
    colors = [run_color(place) for place in range(len(records))]
    return html_table(COLUMNS, [_row(record) for record in records], colors)


def _row(record: Record) -> list[str]:
    settings = record["settings"]
    done = len(record["participants"])
    return [
        record["label"],
        f"{record['accuracy'][-1]:.1%}",
        f"{worst_client(record)[1]:.1%}" if record["client_accuracy"] else "hidden",
        f"{epsilon_spent(record):.2f}" if record["epsilon"] else "",
        f"{settings['alpha']:.3g}",
        str(settings["clients"]),
        str(done) if record["finished"] else f"{done} of {settings['rounds']}",
        str(settings["steps"]),
        f"{settings['rate']:g}",
        INITS[settings["init"]].partition(",")[0],
        f"{record['upload_bytes'][-1] / KIB:,.0f}",
        f"{record['download_bytes'][-1] / KIB:,.0f}",
        f"{seconds(record):.0f}",
    ]


def pair_sentence(pair: Mapping[str, Any], goes_on: bool = True) -> str:
    """How far the two are apart, and what that means."""
    records, distances = pair["runs"], pair["distance"]
    settings, done = records[0]["settings"], len(pair["distance"])
    if not done:
        return f"Round 0 of {settings['rounds']}."
    if not records[0]["finished"]:
        where = "Round" if goes_on else "Stopped after round"
        return f"{where} {done} of {settings['rounds']}: the two changes differ by {distances[-1]:.1e}, relative."
    scores = " and ".join(f"{record['accuracy'][-1]:.1%}" for record in records)
    after = f"After {done} round{'s' if done > 1 else ''} the two changes differ by **{distances[-1]:.1e}**, relative"
    return f"{after}; accuracy {scores}. {_meaning(settings, distances)}"


def _meaning(settings: Mapping[str, Any], distances: Sequence[float]) -> str:
    if settings["epsilon"]:
        return "Each run draws noise of its own, so single runs differ; under SGD it is the law of the two paths that is equal."
    if settings["optimizer"] == ADAMW:
        return "AdamW divides every coordinate by a size of its own, so the basis of A matters: here the SVD does something."
    if max(distances) <= 1e-5:
        return "That is the rounding of single precision: **the SVD has changed the basis of A and nothing else**."
    return "More than rounding: small steps have been amplified by training. Lower the learning rate to see the paths agree."
