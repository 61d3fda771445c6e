# SPDX-License-Identifier: Apache-2.0
"""The sizes have the parameter counts that they are called by."""

import pytest
import torch
from transformers import LlamaForCausalLM

from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.embedded.llama_sizes import LLAMA_SIZES, llama_config


@pytest.mark.parametrize(
    ("name", "millions"), [("llama_60m", 58), ("llama_130m", 134), ("llama_350m", 368), ("llama_1b", 1339)]
)
def test_parameters(name: str, millions: int) -> None:
    """Counts that the literature gives for a vocabulary of 32,000, input and output embeddings included."""
    config = llama_config(name, byte_tokenizer(), max_length=256)
    config.vocab_size = 32_000
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


def test_tiny_model_takes_the_tokenizer_s_settings() -> None:
    config = llama_config("llama_bytes_tiny", byte_tokenizer(), max_length=2048)
    assert (config.vocab_size, config.eos_token_id, config.pad_token_id) == (256, 0, 0)
    assert config.max_position_embeddings == 2048
    ids = torch.randint(256, (2, 9))
    assert LlamaForCausalLM(config)(input_ids=ids).logits.shape == (2, 9, 256)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=", ".join(LLAMA_SIZES)):
        llama_config("llama_2b", byte_tokenizer(), 128)
