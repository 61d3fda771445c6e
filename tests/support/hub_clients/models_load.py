# SPDX-License-Identifier: Apache-2.0
"""Loads what `models_push.py` pushed and prints what each computes."""

import json

import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer


INPUTS = torch.tensor([[4, 5, 6, 7]])

with torch.no_grad():
    llama = AutoModelForCausalLM.from_pretrained("tester/llama")
    base_logits = llama(INPUTS).logits
    tokens = AutoTokenizer.from_pretrained("tester/llama")("the cat sat")["input_ids"]
    scale = AutoModel.from_pretrained("tester/scale", trust_remote_code=True)
    auto = AutoPeftModelForCausalLM.from_pretrained("tester/adapter").eval()
    adapted = PeftModel.from_pretrained(llama, "tester/adapter").eval()(INPUTS).logits
    torch.testing.assert_close(auto(INPUTS).logits, adapted)
    try:
        AutoModel.from_pretrained("tester/scale", trust_remote_code=False)
    except ValueError as error:
        refusal = str(error)
    print(
        json.dumps(
            {
                "llama": base_logits.sum().item(),
                "adapter": adapted.sum().item(),
                "scale": scale(torch.ones(3)).tolist(),
                "tokens": len(tokens),
                "refusal": refusal,
            }
        )
    )
