# SPDX-License-Identifier: Apache-2.0
"""The tab that counts bytes of optimizer state."""

from typing import Any

import api
import gradio as gr
from names import DTYPES, PRESETS

from eigenhub.hub.space import html_table, tiles
from eigenhub.hub.space_controls import pick_or_type
from eigenhub.hub.space_events import BUTTON, PRIVATE, QUEUE, shown_to_visitor


INTRODUCTION = (
    "Numbers that each optimizer keeps for a matrix of N x n entries (n the shorter side, r the rank); embeddings, head and "
    "vectors are in AdamW throughout. Trion saves computation against Muon and Dion, not memory; **error feedback in 32 bits "
    "gives most of DCT-AdamW's saving back**, in 8 bits a small part of it."
)
HEADERS = ("optimizer", "state, GiB", "of AdamW", "numbers per matrix")
CHECK_HEADERS = ("optimizer", "by formula, bytes", "in a real optimizer, bytes", "equal")
QUESTION = (
    "**Are the formulas right?** They count numbers in the dtype of the weights, 8 bytes for an index and 4 for a step count. "
    "Build a model, let every optimizer that is installed take a real step, and count the bytes of its state. A model of more "
    "than 30 million parameters is stood in for by the embedded Llama, at the same share of its width."
)
GIB = 2**30


def build(demo: gr.Blocks) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        model = pick_or_type(
            PRESETS,
            "llama_350m",
            "Architecture",
            info="Pick one, or type a Hub id or folder; no weights are loaded",
            elem_id="architecture",
        )
        rank = gr.Number(
            256,
            label="Rank",
            info="Columns, or a share below 1",
            minimum=0,
            step=1,
            min_width=210,
            elem_id="memory-rank",
        )
        dtype = gr.Radio(
            [(label, name) for name, label in DTYPES.items()],
            value="float32",
            label="Weights and state in",
            min_width=230,
            elem_id="dtype",
        )
        button = gr.Button("Calculate", elem_id="calculate", **BUTTON)
    with gr.Accordion("Or paste a config.json", open=False):
        config = gr.Code(language="json", lines=6, max_lines=16, show_label=False, elem_id="config-json")
    summary = gr.HTML(elem_id="memory-summary", elem_classes="space-html", min_height=96)
    with gr.Row(equal_height=False):
        plot = gr.Plot(show_label=False, min_width=320, elem_id="memory-plot")
        table = gr.HTML(min_width=320, elem_id="memory-table", elem_classes="space-html")
    gr.Markdown(QUESTION)
    with gr.Row():
        check_button = gr.Button("Check", variant="primary", scale=0, min_width=180, elem_id="check")
    built = gr.Markdown(elem_id="check-verdict")
    check_table = gr.HTML(elem_id="check-table", elem_classes="space-html")

    inputs = [model, config, rank, dtype]
    gr.on(
        [demo.load, button.click, model.input, rank.submit, dtype.input],
        show,
        inputs,
        [summary, plot, table],
        api_name="show_memory",
        show_progress_on=[summary, plot],
        trigger_mode="multiple",
        **PRIVATE,
    )
    check_button.click(
        check,
        inputs,
        [built, check_table],
        api_name="show_check",
        show_progress_on=built,
        trigger_mode="multiple",
        **PRIVATE,
        **QUEUE,
    )


def show(model: str, config: str | None, rank: float, dtype: str) -> tuple[Any, ...]:
    """Tiles, figure and table for an architecture."""
    from computing import basis_bytes, memory_figure, shapes_of

    source = source_of(model, config)
    records = api.memory(source, rank, dtype)
    with shown_to_visitor("Cannot read this architecture"):
        shapes = shapes_of(source)
    totals = {record["optimizer"]: record["total_bytes"] for record in records}
    matrices = sum(matrix.numel() for matrix in shapes.matrices)
    facts = [
        (
            "Parameters",
            readable(shapes.parameters, ""),
            f"{shapes.model_type}; {matrices / shapes.parameters:.0%} in matrices",
        ),
        ("AdamW", f"{totals['AdamW'] / GIB:.3g} GiB", "optimizer state"),
        (
            "DCT-AdamW",
            f"{totals['DCT-AdamW'] / GIB:.3g} GiB",
            f"{totals['DCT-AdamW'] / totals['AdamW']:.0%} of AdamW's",
        ),
        ("Trion, Muon", f"{totals['Trion'] / GIB:.3g} GiB", f"{totals['Trion'] / totals['AdamW']:.0%} of AdamW's"),
        (
            "Shared cosines",
            readable(basis_bytes(shapes.matrices), "B"),
            'at most, once per width; 0 with transform="fft"',
        ),
    ]
    rows = [
        [r["optimizer"], f"{r['total_bytes'] / GIB:.3f}", f"{r['total_bytes'] / totals['AdamW']:.1%}", r["formula"]]
        for r in records
    ]
    return tiles(facts), memory_figure(records), html_table(HEADERS, rows)


def check(
    model: str,
    config: str | None,
    rank: float,
    dtype: str,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[str, str]:
    """Formulas beside measured bytes."""
    built, records = api.check_memory(source_of(model, config), rank, dtype)
    equal = sum(record["equal"] for record in records)
    rows = [
        [r["optimizer"], f"{r['formula_bytes']:,}", f"{r['measured_bytes']:,}", "yes" if r["equal"] else "no"]
        for r in records
    ]
    sentence = f"Built {built}. **{equal} of {len(records)} optimizers hold exactly the bytes of their formula.**"
    return sentence, html_table(CHECK_HEADERS, rows)


def source_of(model: str | None, config: str | None) -> str:
    """A pasted configuration goes before a name."""
    return (config or "").strip() or model or ""


def readable(count: int, unit: str) -> str:
    """A count with three digits: `368 M`, `4.19 MB`."""
    for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g} {prefix}{unit}"
    return f"{count} {unit}".strip()
