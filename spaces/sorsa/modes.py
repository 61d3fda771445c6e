# SPDX-License-Identifier: Apache-2.0
"""The same input with the adapter on, off, and merged into the base weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from pairs import Pair
from peft import PeftModel
from pictures import to_pixel_values
from PIL import Image

from eigenhub.tuners.sorsa import SorsaLayer


Answer = TypeVar("Answer")
MODES = ("off", "on", "merged")


@contextmanager
def merged(model: PeftModel) -> Iterator[None]:
    """Merge for the length of a `with` block; afterwards the base weights are the old ones to the bit."""
    layers = [layer.get_base_layer() for layer in model.modules() if isinstance(layer, SorsaLayer)]
    before = [layer.weight.data for layer in layers]  # merging writes a new tensor, so no copy is needed
    model.merge_adapter()
    try:
        yield
    finally:
        model.unmerge_adapter()
        for layer, weight in zip(layers, before, strict=True):
            layer.weight.data = weight


@torch.inference_mode()
def in_each_mode(pair: Pair, compute: Callable[[PeftModel, torch.device], Answer]) -> dict[str, Answer]:
    """
    What `compute` answers with the adapter off, on and merged.

    Args:
        pair (`Pair`): moved to the GPU first, if there is one.
        compute (`Callable`): takes the model and its device.
    """
    contexts = {"off": pair.model.disable_adapter, "on": nullcontext, "merged": lambda: merged(pair.model)}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    answers = {}
    with pair.lock:
        pair.model.to(device)
        for mode in MODES:
            with contexts[mode]():
                answers[mode] = compute(pair.model, device)
    return answers


def class_probabilities(pair: Pair, image: Image.Image) -> dict[str, dict[str, float]]:
    """Mode to class name to probability."""
    config = pair.model.config
    pixel_values = to_pixel_values(image, config, pair.processor)

    def probabilities(model: PeftModel, device: torch.device) -> torch.Tensor:
        logits = model(pixel_values=pixel_values.to(device, model.dtype)).logits[0]  # [classes]
        return logits.float().softmax(-1).cpu()

    answers = in_each_mode(pair, probabilities)
    return {mode: {_name(config, i): p for i, p in enumerate(row.tolist())} for mode, row in answers.items()}


def _name(config: object, index: int) -> str:
    # transformers writes LABEL_3 where nobody has named the classes.
    return str(config.id2label[index]).removeprefix("LABEL_")


def continuations(pair: Pair, prompt: str, max_new_tokens: int) -> dict[str, str]:
    """Mode to greedy continuation of the prompt, no longer than the model's positions allow."""
    tokenizer = pair.processor
    inputs = tokenizer(prompt, return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    room = getattr(pair.model.config, "max_position_embeddings", length + max_new_tokens) - length
    if length == 0 or room < 1:
        raise ValueError(f"it has {length} tokens; the model takes 1 to {length + room - 1}")

    def text(model: PeftModel, device: torch.device) -> str:
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        output = model.generate(
            **inputs.to(device),
            max_new_tokens=min(max_new_tokens, room),
            do_sample=False,
            num_beams=1,
            pad_token_id=pad,
        )
        return tokenizer.decode(output[0, length:], skip_special_tokens=True)

    return in_each_mode(pair, text)
