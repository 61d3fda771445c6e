# SPDX-License-Identifier: Apache-2.0
"""Tiny models of the state space family, for folders and for the stand-in of the Hub."""

from pathlib import Path

import torch

from eigenhub.models.s4d import S4DConfig, S4DForImageClassification
from eigenhub.models.s5_ptd import S5Config, S5ForCausalLM
from tests.support.models import tiny_tokenizer


def tiny_classifier(**changes) -> S4DForImageClassification:
    torch.manual_seed(0)
    shape = {"input_size": 1, "num_labels": 10, "hidden_size": 8, "state_size": 8, "num_hidden_layers": 1}
    return S4DForImageClassification(S4DConfig(**(shape | changes)))


def tiny_writer() -> S5ForCausalLM:
    torch.manual_seed(0)
    size = len(tiny_tokenizer())
    return S5ForCausalLM(S5Config(vocab_size=size, hidden_size=8, state_size=8, num_blocks=1, num_hidden_layers=2))


def save_models(folder: Path) -> tuple[str, str]:
    """Folders of a classifier and of a language model with its tokenizer."""
    classifier, writer = folder / "classifier", folder / "writer"
    tiny_classifier().save_pretrained(classifier)
    tiny_writer().save_pretrained(writer)
    tiny_tokenizer().save_pretrained(writer)
    return str(classifier), str(writer)


def push_models(classifier: str, writer: str) -> None:
    """Push both to the Hub; for a process whose `HF_ENDPOINT` is the stand-in."""
    tiny_classifier().push_to_hub(classifier)
    tiny_writer().push_to_hub(writer)
    tiny_tokenizer().push_to_hub(writer)
