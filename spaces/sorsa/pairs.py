# SPDX-License-Identifier: Apache-2.0
"""From what a visitor typed to a base model with a SORSA adapter on it."""

import threading
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

import gradio as gr
from embedded_pairs import EMBEDDED
from peft import PeftConfig, PeftModel
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoTokenizer,
    PreTrainedConfig,
)

from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.tuners.sorsa import LayerSpectrum, SorsaConfig, SorsaLayer, spectrum_report


Kind = Literal["image", "text"]
AUTO_CLASSES: dict[Kind, Any] = {"image": AutoModelForImageClassification, "text": AutoModelForCausalLM}
MAPPINGS: dict[Kind, Any] = {"image": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, "text": MODEL_FOR_CAUSAL_LM_MAPPING}


@dataclass
class Pair:
    """A base model with an adapter on it.

    Args:
        base (`str`): where the base model came from.
        adapter (`str`): where the adapter came from.
        kind (`"image"` or `"text"`): classifier of images, or causal language model.
        model (`PeftModel`): in evaluation mode.
        processor (`Any`): tokenizer, or image processor where the base model has one.
        lock (`threading.Lock`): held while the model computes, because modes are switched on the model itself.
    """

    base: str
    adapter: str
    kind: Kind
    model: PeftModel
    processor: Any
    lock: Any = field(default_factory=threading.Lock)

    @cached_property
    def spectra(self) -> dict[str, LayerSpectrum]:
        """Spectrum of every adapted weight; the factors do not change here."""
        return spectrum_report(self.model)


def load_pair(base: str | None, adapter: str | None, kind: Kind | None = None) -> Pair:
    """
    The pair that a visitor named; the two most recent ones stay in memory.

    Args:
        base (`str`, *optional*): an embedded name, a Hub id or a folder; empty for the base that the adapter names.
        adapter (`str`): an embedded name, a Hub id or a folder.
        kind (`"image"` or `"text"`, *optional*): refuse a pair of the other kind.

    Raises:
        gr.Error: something does not exist or does not fit, in words for the visitor.
    """
    base, adapter = (base or "").strip(), (adapter or "").strip()
    if not adapter:
        raise gr.Error("Name a SORSA adapter: an embedded one, a Hub id or a folder.")
    pair = _load(base or (adapter if adapter in EMBEDDED else ""), adapter)
    if kind not in (None, pair.kind):
        known = {"image": "an image classifier", "text": "a language model"}
        raise gr.Error(f"{pair.base} is {known[pair.kind]}, this comparison needs {known[kind]}.")
    return pair


@lru_cache(maxsize=2)
def _load(base: str, adapter: str) -> Pair:
    with shown_to_visitor(f"Cannot load the adapter {adapter!r}"):
        adapter_source = str(EMBEDDED[adapter].adapter_folder()) if adapter in EMBEDDED else adapter
        config = PeftConfig.from_pretrained(adapter_source)
    if not isinstance(config, SorsaConfig):
        raise gr.Error(f"{adapter!r} is a {config.peft_type.value} adapter; this page shows SORSA adapters only.")
    base = base or config.base_model_name_or_path or ""
    if not base:
        raise gr.Error(f"{adapter!r} does not say which base model it belongs to: name one.")
    with shown_to_visitor(f"Cannot load the base model {base!r}"):
        source = str(EMBEDDED[base].base_folder()) if base in EMBEDDED else base
        kind = _kind(AutoConfig.from_pretrained(source))
        processor = AutoTokenizer.from_pretrained(source) if kind == "text" else _image_processor(source)
        model = AUTO_CLASSES[kind].from_pretrained(source, dtype="auto")
    with shown_to_visitor(f"The adapter {adapter!r} does not fit the base model {base!r}"):
        model = PeftModel.from_pretrained(model, adapter_source).eval()
        # PEFT matches modules by the ends of their names and only warns where the file has nothing for them.
        if empty := [m.module_name for m in model.modules() if isinstance(m, SorsaLayer) and m.pending]:
            raise ValueError(f"it holds nothing for {empty[0]}")
    return Pair(base, adapter, kind, model, processor)


def _kind(config: PreTrainedConfig) -> Kind:
    for kind, mapping in MAPPINGS.items():
        if type(config) in mapping:
            return kind
    raise ValueError(f"it is a {config.model_type} model; image classifiers and causal language models can be shown")


def _image_processor(source: str) -> Any:
    try:
        return AutoImageProcessor.from_pretrained(source)
    except OSError:  # small models made by hand come without one
        return None
