# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import torch
from transformers import GPTNeoXForCausalLM

from eigenhub.embedded.fact_model import fact_config
from eigenhub.embedded.fact_tokenizer import fact_tokenizer


def save_tiny_neox(folder: Path, hidden_size: int, num_layers: int) -> str:
    """An untrained model of the words of the facts, and its tokenizer."""
    tokenizer = fact_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPTNeoXForCausalLM(fact_config(tokenizer, hidden_size, num_layers))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
