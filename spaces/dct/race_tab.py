# SPDX-License-Identifier: Apache-2.0
"""The tab with the race and its live curves."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from names import AUX_RATE, CONTENDERS, DCT, FROZEN, LEFT_OVER, RACE_BASES, RACING, RATES, TRION

from eigenhub.hub.space import html_table
from eigenhub.hub.space_events import PRIVATE
from eigenhub.hub.space_figures import GREY, PALETTE


INTRODUCTION = (
    "A byte-level Llama of half a million parameters learns the sources of Python's standard library, once per contender, "
    "from the same weights on the same text. The contender trains the matrices; **everything else is trained by AdamW at a "
    "rate of its own, the same for all**, and in the control the matrices stay as they were. With one seed and so few steps, "
    "differences below 0.05 mean nothing."
)
COLUMNS = ("matrices trained by", "rate", "training loss", "held-out loss", "state", "optimizer")
STEP, LOSS, NAME = "step", "training loss", "matrices trained by"
DCT_COLORS = ("#4f46e5", "#818cf8", "#7c3aed", "#c084fc")
TRION_COLORS = ("#0d9488", "#2dd4bf", "#65a30d", "#a3e635")
SINGLE_COLORS = (GREY, PALETTE[2], PALETTE[3], PALETTE[4], PALETTE[7])
COLORS = {
    **dict(zip((n for n in CONTENDERS if n not in (DCT, TRION)), SINGLE_COLORS, strict=True)),
    **{f"{DCT}, {basis}": color for basis, color in zip(RACE_BASES.values(), DCT_COLORS, strict=True)},
    **{f"{TRION}, {basis}": color for basis, color in zip(RACE_BASES.values(), TRION_COLORS, strict=True)},
}
#: Share of the steps in which the loss falls from that of guessing.
FALL = 0.15
# One race at a time: two would take turns on the same cores.
RACE = {"concurrency_id": "race", "concurrency_limit": 1}
#: Pages whose race goes on. gradio's own way to cancel an event lets a last report overwrite what the page says then.
_racing: set[str | None] = set()


def build() -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        names = gr.CheckboxGroup(
            list(CONTENDERS), value=RACING, label="Contenders", min_width=320, elem_id="contenders"
        )
        bases = gr.CheckboxGroup(
            [(label, name) for name, label in RACE_BASES.items()],
            value=["dct2"],
            label="Bases of DCT-AdamW and Trion: one run with each",
            min_width=320,
            elem_id="bases",
        )
    with gr.Row():
        steps = gr.Slider(10, 300, value=80, step=10, label="Steps", min_width=200, elem_id="steps")
        rank = gr.Slider(1, 128, value=32, step=1, label="Rank, of 128", min_width=200)
        gap = gr.Slider(1, 100, value=10, step=1, label="DCT-AdamW: steps between two choices", min_width=200)
        left_over = gr.Dropdown(
            [(label, name) for name, label in LEFT_OVER.items()],
            value="dropped",
            label="DCT-AdamW: what the projection leaves out is",
            min_width=260,
            elem_id="left-over",
        )
    with gr.Accordion("Learning rates", open=False), gr.Row():
        rates = [
            gr.Number(rate, label=name, minimum=0, step=rate / 10, min_width=130, elem_id=f"rate-{name}")
            for name, rate in RATES.items()
        ]
        aux_rate = gr.Number(AUX_RATE, label="everything else", minimum=0, step=AUX_RATE / 10, min_width=130)
    with gr.Row():
        start = gr.Button("Start the race", variant="primary", scale=0, min_width=180, elem_id="start")
        stop = gr.Button("Stop", scale=0, min_width=110, elem_id="stop")
    status = gr.Markdown("Nothing is running.", elem_id="race-status")
    plot = gr.LinePlot(
        x=STEP,
        y=LOSS,
        color=NAME,
        color_map=COLORS,
        colors_in_legend=[],  # the table below says which is which, on a phone too
        y_title=f"{LOSS}, mean of five steps",
        height=380,
        elem_id="race-plot",
    )
    table = gr.HTML(standings_table([]), elem_id="standings", elem_classes="space-html")

    start.click(
        run,
        [names, bases, rank, gap, left_over, steps, aux_rate, *rates],
        [plot, table, status],
        api_name="run_race",
        show_progress="hidden",
        trigger_mode="multiple",
        **PRIVATE,
        **RACE,
    )
    stop.click(end, None, None, api_name="end_race", queue=False, **PRIVATE)


def end(request: gr.Request) -> None:
    """Let the race on this page end with its next report."""
    _racing.discard(request.session_hash)


def run(
    request: gr.Request,
    names: list[str],
    bases: list[str],
    rank: int,
    gap: int,
    left_over: str,
    steps: int,
    aux_rate: float,
    *rates: float,
) -> Iterator[tuple[Any, str, str]]:
    """Curves, standings and a sentence, again and again until the race is over or stopped."""
    _racing.add(request.session_hash)
    try:
        yield None, standings_table([]), "Getting ready …"
        from computing import report

        by_name = dict(zip(RATES, rates, strict=True))
        for records in report(names, bases, rank, gap, left_over, steps, by_name, aux_rate):
            goes_on = request.session_hash in _racing
            plot = gr.LinePlot(curves(records), x_lim=[0, steps], y_lim=[None, ceiling(records, steps)])
            yield plot, standings_table(records), sentence(records, steps, goes_on)
            if not goes_on:
                return
    finally:
        _racing.discard(request.session_hash)


def curves(records: Sequence[dict]) -> Any:
    """The smoothed losses as a table of points; those of a run that has diverged would flatten all others."""
    from pandas import DataFrame

    points = [
        (step, loss, record["name"])
        for record in records
        for step, loss in enumerate(record["smoothed"], 1)
        if loss < 6
    ]
    return DataFrame(points, columns=[STEP, LOSS, NAME])


def ceiling(records: Sequence[dict], steps: int) -> float | None:
    """Top of the plot: once the first fall is over, what comes after it deserves the room."""
    fall = math.ceil(FALL * steps)
    if len(records[0]["losses"]) < 2 * fall:
        return None
    return max((loss for r in records if not r["diverged"] for loss in r["smoothed"][fall:]), default=None)


def sentence(records: Sequence[dict], steps: int, goes_on: bool = True) -> str:
    """How far the race is, and who leads."""
    leader = min(records, key=order)
    done = len(leader["losses"])
    if leader["diverged"]:
        return f"Step {done} of {int(steps)}: every run has diverged."
    if leader["held_out_loss"] is None:
        where = f"Step {done} of {int(steps)}" if goes_on else f"Stopped after step {done} of {int(steps)}"
        return f"{where}: {leader['name']} leads."
    frozen = next((r["held_out_loss"] for r in records if r["name"] == FROZEN), None)
    gain = "" if frozen is None else f", {frozen - leader['held_out_loss']:.3f} below untrained matrices"
    return f"Finished after {done} steps: **{leader['name']}** ends lowest on unseen text at {leader['held_out_loss']:.3f}{gain}."


def order(record: dict) -> tuple[bool, float]:
    """Lowest loss first, diverged runs last."""
    loss = record["smoothed"][-1] if record["held_out_loss"] is None else record["held_out_loss"]
    return record["diverged"] or loss != loss, loss


def standings_table(records: Sequence[dict]) -> str:
    """HTML: the runs with the colours of their curves, best first."""
    records = sorted(records, key=order)
    return html_table(COLUMNS, [row(record) for record in records], [COLORS[record["name"]] for record in records])


def row(record: dict) -> list[str]:
    held_out = record["held_out_loss"]
    return [
        record["name"],
        f"{record['lr']:g}" if record["lr"] else "",
        "diverged" if record["diverged"] else f"{record['smoothed'][-1]:.3f}",
        "" if held_out is None else f"{held_out:.3f}",
        f"{record['state_bytes'] / 2**20:.2f} MiB",
        f"{record['optimizer_milliseconds']:.1f} ms",
    ]
