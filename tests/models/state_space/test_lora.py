# SPDX-License-Identifier: Apache-2.0
"""LoRA on the dense layers, state space vectors trained in full beside it: saved as an adapter and loaded on a fresh base."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model

from eigenhub.models.s4d import s4d_param_groups
from eigenhub.models.s5_ptd import s5_param_groups
from tests.models.state_space.cases import language_model, random_tokens


TARGETS = {"s5": ["gate", "lm_head"], "s4d": ["output_linear", "lm_head"]}
GROUPS = {"s5": s5_param_groups, "s4d": s4d_param_groups}


@pytest.mark.parametrize("family", TARGETS)
def test_an_adapter_is_saved_and_loaded(family, tmp_path):
    base, ids = language_model(family), random_tokens(2, 6)
    before = base(ids).logits.detach()
    base.save_pretrained(tmp_path / "base")
    base = type(base).from_pretrained(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=TARGETS[family], modules_to_save=["ssm"], task_type="CAUSAL_LM")
    model = get_peft_model(base, config).train()
    optimizer = torch.optim.AdamW(GROUPS[family](model, lr=1e-2))
    for _ in range(2):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(tmp_path / "adapter")
    expected = model(input_ids=ids).logits
    assert not torch.equal(expected, before)
    fresh = type(base).from_pretrained(tmp_path / "base")
    for loaded in (
        PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval(),
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval(),
    ):
        assert torch.equal(loaded(input_ids=ids).logits, expected)
        tokens = loaded.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
        assert torch.equal(tokens, model.generate(input_ids=ids, max_new_tokens=4, do_sample=False, use_cache=False))
    torch.testing.assert_close(loaded.merge_and_unload()(ids).logits, expected, atol=1e-5, rtol=1e-5)
