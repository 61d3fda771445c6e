# SPDX-License-Identifier: Apache-2.0
"""The tab that looks at an adapter and refactors it."""

from pathlib import Path
from typing import Any

import api
import gradio as gr
from names import ADAPTERS, EMBEDDED, MAX_BYTES

from eigenhub.hub.space_controls import pick_or_type
from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE


INTRODUCTION = (
    "The server's step of FedSVD on any LoRA adapter: the same product B A in every layer, with **orthonormal rows in A and the "
    "singular values in B**. Models compute what they did; A is as well conditioned as can be, and the columns of B are sorted by "
    "what they do. Take an adapter of the Hub or of a run, with its settings and privacy ledger if it has them, or upload a file."
)


def build(tab: gr.Tab, runs: gr.State) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        name = pick_or_type(ADAPTERS, EMBEDDED, "LoRA adapter", elem_id="adapter")
        look = gr.Button("Refactor", elem_id="refactor", **BUTTON)
        mine = gr.Button("My last run", scale=0, min_width=140, elem_classes="space-low", elem_id="mine")
    with gr.Accordion("Or upload adapter_model.safetensors", open=False):
        gr.Markdown(
            f"Up to {MAX_BYTES // 2**20} MiB. Pickled weights (.bin, .pt) are not opened: they can run code. The file stays on "
            "this server for a day at most."
        )
        upload = gr.File(label="Adapter", file_types=[".safetensors"], height=120, elem_id="upload")
    summary = gr.HTML(
        "<p>Loading the embedded adapter. The very first time it is trained here, in about a quarter of a minute.</p>",
        elem_id="refactor-summary",
        elem_classes="space-html",
        min_height=96,
    )
    file = gr.File(label="Refactored adapter_model.safetensors", height=80, elem_id="refactored")
    origin = gr.HTML(elem_id="provenance", elem_classes="space-html")
    layer = gr.Dropdown([], label="Layer in colour", elem_id="refactor-layer")
    with gr.Row(equal_height=False):
        spectra_plot = gr.Plot(show_label=False, min_width=320, elem_id="spectra-plot")
        condition_plot = gr.Plot(show_label=False, min_width=320, elem_id="condition-plot")
    table = gr.HTML(elem_id="layer-table", elem_classes="space-html")
    spectra = gr.State()

    shown = [summary, file, origin, layer, spectra_plot, condition_plot, table, spectra]
    waiting = {"show_progress_on": [summary, spectra_plot]}
    gr.on([look.click, name.input], show, name, shown, api_name="show_adapter", **waiting, **PRIVATE, **MODEL)
    tab.select(begin, [spectra, name], shown, api_name="begin_refactor", **waiting, **PRIVATE, **MODEL)
    upload.upload(show_file, upload, shown, api_name="show_file", **waiting, **PRIVATE, **MODEL)
    mine.click(take_last, runs, name, api_name="take_last", queue=False, **PRIVATE).success(
        show, name, shown, api_name="show_last", **waiting, **PRIVATE, **MODEL
    )
    layer.input(
        show_layer, [spectra, layer], spectra_plot, api_name="show_spectrum", show_progress="hidden", **PRIVATE
    )
    # A program sends a file and gets one; the page shows more.
    sent, got = gr.File(label="Adapter", visible=False), gr.File(label="Refactored adapter", visible=False)
    found = gr.JSON(label="Layers", visible=False)
    gr.Button(visible=False).click(api.refactor, sent, [got, found], api_name="refactor", **MODEL)


def take_last(runs: list[dict]) -> str:
    """The folder of the adapter of the last finished run."""
    for record in reversed(runs):
        if record["files"]:
            return str(Path(record["files"][0]).parent)
    raise gr.Error("No run has finished yet: start one on the first tab.")


def begin(
    spectra: dict[str, list[float]] | None,
    name: str,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """Something to see when the tab is first opened; what is shown already stays."""
    return show(name) if spectra is None else tuple([gr.skip()] * 8)


def show(
    name: str,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """An adapter by its name, and what becomes of it."""
    from computing import refactor

    adapter = api.named_adapter(name)
    with api.shown_to_visitor(f"{name} cannot be refactored"):
        return told(adapter, *refactor(adapter))


def show_file(file: str | None) -> tuple[Any, ...]:
    """An uploaded adapter, and what becomes of it."""
    return told(*api.refactored_file(file))


def told(adapter: Any, state: Any, layers: Any) -> tuple[Any, ...]:
    """Everything that the tab shows of an adapter."""
    from adapter_reports import short_key
    from computing import adapter_tiles, condition_figure, layer_table, provenance, spectra_figure, write_refactored

    spectra = {short_key(layer.name): layer.singular_values for layer in layers}
    first = next(iter(spectra))
    return (
        adapter_tiles(adapter, layers),
        write_refactored(adapter, state),
        provenance(adapter),
        gr.Dropdown(choices=list(spectra), value=first),
        spectra_figure(spectra, first),
        condition_figure([layer.kappa for layer in layers], [layer.new_kappa for layer in layers]),
        layer_table(layers),
        spectra,
    )


def show_layer(spectra: dict[str, list[float]] | None, layer: str) -> Any:
    """The same figure with another layer in colour."""
    from computing import spectra_figure

    return gr.skip() if spectra is None else spectra_figure(spectra, layer)
