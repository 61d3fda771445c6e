# SPDX-License-Identifier: Apache-2.0
"""The tab that makes a folder of safetensors out of a checkpoint, or says why not."""

from html import escape
from typing import Any

import events
import gradio as gr
from names import MAX_BYTES, MIB

from eigenhub.hub.space import on_gpu, tiles
from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE


INTRODUCTION = (
    "StyleGAN2 checkpoints are pickles, and a pickle can run any program in the reader. Here they are **read as data**: tensors and "
    "numbers are taken, whatever else a file names is refused, and nothing of it is imported or run. What comes out are "
    "safetensors with a configuration, for `from_pretrained` and for the first tab. Weights stay under the licence they came with."
)
WHAT = (
    f"A `.pkl` of NVIDIA's stylegan2-ada-pytorch or stylegan3 (StyleGAN2 only), a `.pt` of rosinality's stylegan2-pytorch or of the "
    f"official projector code; up to {MAX_BYTES // MIB} MiB. The file stays on this server for a day at most. On your own machine: "
    "`eigenhub householder convert FILE FOLDER`."
)


def build(tabs: gr.Tabs, asked: list[Any], opened: list[Any]) -> None:
    """
    Lay the tab out and wire its events.

    Args:
        tabs (`gr.Tabs`): to go to the first one.
        asked (`list[Any]`): components that go into `events.open_model`.
        opened (`list[Any]`): components that it fills.
    """
    gr.Markdown(INTRODUCTION)
    gr.Markdown(WHAT)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            file = gr.File(label="Checkpoint", file_types=[".pkl", ".pt", ".pth"], height=130, elem_id="checkpoint")
            rank = gr.Number(
                10,
                label="Rank of official projectors",
                info="their file does not tell it",
                precision=0,
                minimum=1,
                elem_id="rank",
            )
            with gr.Row():
                run = gr.Button("Convert", elem_id="convert", **BUTTON)
                attack = gr.Button("Try a malicious file", min_width=180, elem_classes="space-low", elem_id="attack")
        with gr.Column(min_width=280):
            report = gr.HTML(elem_id="convert-report", elem_classes="space-html", min_height=96)
            archive = gr.File(label="Folder as an archive", visible=False, height=90, elem_id="converted")
            open_it = gr.Button("Open it on the first tab", visible=False, elem_id="open-converted")
    folder = gr.State("")
    shown = [report, archive, open_it, folder]
    run.click(show, [file, rank], shown, api_name="show_conversion", show_progress_on=report, **PRIVATE, **MODEL)
    attack.click(show_refusal, None, shown, api_name="show_refusal", show_progress_on=report, **PRIVATE, **MODEL)
    open_it.click(
        on_gpu(open_folder),
        [folder, *asked],
        [tabs, *opened],
        api_name="open_converted",
        show_progress_on=open_it,
        **PRIVATE,
        **MODEL,
    )


def show(path: str | None, rank: float | None) -> list[Any]:
    """The result, or the refusal, in place: an error that vanishes would be of no use here."""
    if not path:
        raise gr.Error("Upload a checkpoint first.")
    from computing import convert

    try:
        archive, folder, found = convert(path, int(rank or 10))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        return refused(str(error))
    layers = ", ".join(found["projected_layers"]) or "none"
    facts = [
        ("Converted", f"{found['resolution']} px", ", ".join(name.replace("_", " ") for name in found["networks"])),
        ("Parameters", f"{found['parameters']:,}", f"of the generator; {found['classes'] or 'no'} classes"),
        (
            "Projectors",
            str(len(found["projected_layers"])),
            f"rank {found['rank']}: {layers}" if found["rank"] else layers,
        ),
    ]
    return [tiles(facts), gr.File(value=archive, visible=True, interactive=False), gr.Button(visible=True), folder]


def show_refusal() -> list[Any]:
    """What becomes of a file that would run a command elsewhere."""
    from computing import malicious_file

    return show(malicious_file(), 10)


def refused(reason: str) -> list[Any]:
    """Why a file was not converted."""
    words = escape(next(iter(reason.strip().splitlines()), "it cannot be read")[:400])
    html = f'<div class="refused"><b>Not converted.</b><p>{words}</p><p>Nothing in the file has been run.</p></div>'
    return [html, gr.File(visible=False), gr.Button(visible=False), ""]


def open_folder(folder: str, active: str, *values: Any) -> list[Any]:
    """The converted generator on the first tab."""
    if not folder:
        raise gr.Error("Convert a checkpoint first.")
    return [gr.Tabs(selected="explore"), *events.opened(active, folder, *values[1:])]
