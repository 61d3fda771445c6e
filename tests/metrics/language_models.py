# SPDX-License-Identifier: Apache-2.0
"""Tiny causal language models of several architectures."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from tests.support.models import VOCABULARY, build, tiny_gpt2, tiny_llama


SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
TOKENS = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1, "max_position_embeddings": 64}


def llama():
    return tiny_llama(num_hidden_layers=3, eos_token_id=3)


def gpt2():
    return tiny_gpt2(n_layer=3)


def gpt_neox():
    return build(GPTNeoXForCausalLM, GPTNeoXConfig(intermediate_size=24, hidden_dropout=0.0, **SIZES, **TOKENS))


def opt():
    return build(OPTForCausalLM, OPTConfig(ffn_dim=24, word_embed_proj_dim=16, dropout=0.0, **SIZES, **TOKENS))


def lora():
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return get_peft_model(llama(), config).eval()


ARCHITECTURES = {"llama": llama, "gpt2": gpt2, "gpt_neox": gpt_neox, "opt": opt, "lora": lora}


def mistral():
    """Every layer sees four tokens only."""
    config = MistralConfig(intermediate_size=24, num_key_value_heads=1, sliding_window=4, **SIZES, **TOKENS)
    return build(MistralForCausalLM, config)


def gemma3():
    """Layers that see four tokens, and one that sees all."""
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    sizes = {"intermediate_size": 24, "head_dim": 8, "num_key_value_heads": 1}
    return build(Gemma3ForCausalLM, Gemma3TextConfig(layer_types=kinds, sliding_window=4, **sizes, **SIZES, **TOKENS))


def lfm2():
    """Convolutions, whose state is neither keys nor values, and attention."""
    kinds = ["conv", "full_attention", "conv"]
    sizes = {"intermediate_size": 24, "num_key_value_heads": 1, "block_multiple_of": 8}
    return build(Lfm2ForCausalLM, Lfm2Config(layer_types=kinds, **sizes, **SIZES, **TOKENS))


SLIDING = {"mistral": mistral, "gemma3": gemma3}
