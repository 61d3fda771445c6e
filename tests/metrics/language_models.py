# SPDX-License-Identifier: Apache-2.0
"""Tiny causal language models of several architectures."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM

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
