# SPDX-License-Identifier: Apache-2.0
"""Llama architectures to train from scratch: the sizes that papers on optimizers compare on, and a tiny one for bytes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LlamaSize:
    """
    Shape of a Llama.

    Args:
        hidden (`int`): width of the residual stream.
        mlp (`int`): width inside of the feed-forward blocks.
        layers (`int`): number of layers.
        heads (`int`): number of attention heads, all with keys and values of their own.
    """

    hidden: int
    mlp: int
    layers: int
    heads: int


#: All but the first are the configurations of the GaLore repository (jiaweizzhao/GaLore, configs/llama_*.json), which the
#: later papers on low-rank optimizers took over.
LLAMA_SIZES = {
    "llama_bytes_tiny": LlamaSize(128, 344, 2, 4),
    "llama_60m": LlamaSize(512, 1376, 8, 8),
    "llama_130m": LlamaSize(768, 2048, 12, 12),
    "llama_350m": LlamaSize(1024, 2736, 24, 16),
    "llama_1b": LlamaSize(2048, 5461, 24, 32),
}


def llama_config(name: str, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> "LlamaConfig":
    """
    The configuration of one of [`LLAMA_SIZES`] with the vocabulary of a tokenizer.

    Args:
        name (`str`): key of the table.
        tokenizer (`PreTrainedTokenizerBase`): gives the size of the vocabulary and the special tokens.
        max_length (`int`): longest input, at least 1024 in the configuration.
    """
    from transformers import LlamaConfig

    if name not in LLAMA_SIZES:
        raise ValueError(f"`name` must be one of {', '.join(LLAMA_SIZES)}; got {name!r}")
    size = LLAMA_SIZES[name]
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=max(1024, max_length),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
