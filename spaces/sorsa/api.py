# SPDX-License-Identifier: Apache-2.0
"""The endpoints. Types and docstrings become the description of the API.

The functions import what computes when they run, so the page opens long before torch and PEFT are loaded.
"""

import shutil
import tempfile

import gradio as gr
from PIL import Image

from eigenhub.hub.space import download_folder, on_gpu
from eigenhub.hub.space_events import shown_to_visitor


def inspect(base: str, adapter: str) -> list[dict]:
    """Tell what training did to the singular values and vectors of every adapted weight.

    Args:
        base: Base model: "embedded:digits", "embedded:problems", a Hub id, a folder, or empty for the adapter's own.
        adapter: SORSA adapter: "embedded:digits", "embedded:problems", a Hub id or a folder.

    Returns:
        One record per weight: module, rank, kappa_before, kappa_after, defect_u, defect_v, relative_change, angle_degrees,
        s_before, s_after.
    """
    from pairs import load_pair
    from reports import records

    return records(load_pair(base, adapter).spectra)


@on_gpu
def classify(base: str, adapter: str, image: Image.Image | None) -> tuple[dict, dict, dict, str]:
    """Classify an image with the adapter off, on, and merged into the base weights.

    Args:
        base: Base model, an image classifier; as for `inspect`.
        adapter: SORSA adapter, as for `inspect`.
        image: The image; for the embedded digits a light digit on a dark ground.

    Returns:
        Class probabilities with the adapter off, on and merged, and a sentence that compares them.
    """
    from modes import class_probabilities
    from pairs import load_pair

    if image is None:
        raise gr.Error("Choose a digit, draw one, or upload an image first.")
    pair = load_pair(base, adapter, "image")
    with shown_to_visitor("The image cannot be classified"):
        answers = class_probabilities(pair, image)
    return answers["off"], answers["on"], answers["merged"], verdict(answers)


def verdict(answers: dict[str, dict[str, float]]) -> str:
    best = {mode: max(row, key=row.__getitem__) for mode, row in answers.items()}
    gap = max(abs(answers["on"][name] - p) for name, p in answers["merged"].items())
    moved = f"moves the answer from **{best['off']}** to **{best['on']}**"
    kept = f"leaves the answer at **{best['on']}**"
    effect = moved if best["off"] != best["on"] else kept
    return f"The adapter {effect}. Merging changes no probability by more than {gap:.1e}."


@on_gpu
def generate(base: str, adapter: str, prompt: str, max_new_tokens: int = 64) -> tuple[str, str, str, str]:
    """Continue a prompt greedily with the adapter off, on, and merged into the base weights.

    Args:
        base: Base model, a causal language model; as for `inspect`.
        adapter: SORSA adapter, as for `inspect`.
        prompt: What the model continues; the embedded model expects a question and a line break.
        max_new_tokens: Longest continuation, in tokens; cut to what the model takes.

    Returns:
        Continuations with the adapter off, on and merged, and a sentence that compares them.
    """
    from modes import continuations
    from pairs import load_pair

    if not prompt:
        raise gr.Error("Write a prompt first.")
    pair = load_pair(base, adapter, "text")
    with shown_to_visitor("The prompt cannot be continued"):
        answers = continuations(pair, prompt, int(max_new_tokens))
    change = "changes the text" if answers["off"] != answers["on"] else "leaves the text as it is"
    same = "the same text as" if answers["merged"] == answers["on"] else "another text than"
    sentence = f"The adapter {change}. Merged, the model writes {same} with the adapter on."
    return answers["off"], answers["on"], answers["merged"], sentence


def export(base: str, adapter: str, rank: int) -> tuple[str, str]:
    """Export the adapter as plain LoRA, which PEFT and model servers load without eigenhub.

    Args:
        base: Base model, as for `inspect`.
        adapter: SORSA adapter, as for `inspect`.
        rank: LoRA rank; twice the rank of the SORSA adapter is exact, less is compressed.

    Returns:
        A zip file with the LoRA adapter, and a sentence on how much of the change it keeps.
    """
    from pairs import load_pair

    from eigenhub.tuners.sorsa import export_lora

    rank = int(rank)
    pair = load_pair(base, adapter)
    with tempfile.TemporaryDirectory() as folder, shown_to_visitor("The adapter cannot be exported"):
        report = export_lora(pair.model, folder, rank=rank)
        file = shutil.make_archive(str(download_folder() / f"lora-rank-{rank}"), "zip", folder)
    if report.energy == 1:
        return file, f"Rank {report.rank} is exact."
    worst = min(report.energy_per_module, key=report.energy_per_module.__getitem__)
    least = report.energy_per_module[worst]
    sentence = (
        f"Rank {rank} keeps **{report.energy:.1%}** of the change's energy; the least, {least:.1%}, in `{worst}`."
    )
    return file, sentence
