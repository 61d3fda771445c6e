# SPDX-License-Identifier: Apache-2.0
"""Extra `quant`: SORSA on a base model in 4 bits takes a step."""

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from eigenhub import SorsaConfig


sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).save_pretrained("base")
bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
base = AutoModelForCausalLM.from_pretrained("base", quantization_config=bits, device_map="cpu", dtype=torch.float32)
model = get_peft_model(base, SorsaConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
assert any(type(module).__name__ == "SorsaLinear4bit" for module in model.modules())
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
ids = torch.arange(12).reshape(1, 12)
losses = []
for _ in range(3):
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
print("SORSA on 4 bits learns")
