# SPDX-License-Identifier: Apache-2.0
"""The server's step on tensors and state dicts, and on the adapter of a model in place."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from eigenhub.federated import (
    freeze_lora_A_,
    orthonormalize_lora_A_,
    refactor_lora,
    refactor_lora_,
    refactor_state_dict,
)
from eigenhub.federated.lora_model import live_tensors
from tests.federated.states import LAYERS, a_state, product
from tests.support.models import tiny_bert, tiny_gpt2, tiny_llama, tiny_vit


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes_stay_and_the_product_too(dtype):
    b, a = torch.randn(3, 20, 4).to(dtype), torch.randn(3, 4, 16).to(dtype)
    found = refactor_lora(b, a)
    assert found.B.dtype == found.A.dtype == dtype and found.singular_values.dtype == torch.float64
    before, after = b.double() @ a.double(), found.B.double() @ found.A.double()
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    assert (after - before).norm() < tolerance * before.norm()
    assert found.effective_rank.tolist() == [4, 4, 4]


def test_effective_rank_reports_and_cuts_nothing():
    b, a = torch.randn(20, 4), torch.randn(4, 16)
    b[:, 2] = b[:, 0] - b[:, 1]
    found = refactor_lora(b, a)
    assert int(found.effective_rank) == 3 and found.A.shape == a.shape
    assert int(refactor_lora(torch.zeros(20, 4), a).effective_rank) == 0
    assert int(refactor_lora(1e-9 * torch.randn(20, 4), a).effective_rank) == 4


@pytest.mark.parametrize(
    ("b", "a", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.int8), torch.zeros(2, 3), "`B` must be of a floating dtype, got torch.int8"),
        (torch.zeros(3, 2, device="meta"), torch.zeros(2, 3), "`B` is on the meta device"),
        (torch.zeros(3, 4), torch.zeros(4, 3), "cannot be orthonormal in 3"),
    ],
)
def test_bad_factors_are_refused(b, a, message):
    with pytest.raises(ValueError, match=message):
        refactor_lora(b, a)


def test_state_dict_keeps_everything_but_the_factors():
    state = a_state(head=True)
    state["w.lora_A.weight"], state["w.lora_B.weight"] = state["q.lora_A.weight"] * 2, state["q.lora_B.weight"] + 1
    new = refactor_state_dict(state)
    assert list(new) == list(state) and new["classifier.weight"] is state["classifier.weight"]
    for name in (*LAYERS, "w"):
        assert torch.allclose(product(new, name), product(state, name), atol=1e-12)
        single = refactor_lora(state[f"{name}.lora_B.weight"], state[f"{name}.lora_A.weight"])
        assert torch.allclose(new[f"{name}.lora_A.weight"], single.A, atol=1e-12)


def test_a_torn_layer_is_named():
    state = a_state()
    state["v.lora_B.weight"][2, 1] = torch.nan
    with pytest.raises(ValueError, match="layer `v`.*NaN"):
        refactor_state_dict(state)


class Convolutions(nn.Module):
    """An embedding, a convolution and a linear layer."""

    def __init__(self):
        super().__init__()
        self.embed, self.conv, self.out = nn.Embedding(11, 16), nn.Conv2d(1, 5, 3), nn.Linear(5 * 2 * 14, 3)

    def forward(self, tokens):
        return self.out(self.conv(self.embed(tokens)[:, None]).flatten(1))


TOKENS = torch.arange(8).view(2, 4)
MODELS = {
    "bert": (tiny_bert, {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}, {"input_ids": TOKENS}),
    "llama": (tiny_llama, {"target_modules": ["q_proj", "down_proj"], "use_rslora": True}, {"input_ids": TOKENS}),
    "gpt2": (tiny_gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}, {"input_ids": TOKENS}),
    "vit": (
        tiny_vit,
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}},
        {"pixel_values": torch.linspace(-1, 1, 64).view(1, 1, 8, 8)},
    ),
    "conv": (Convolutions, {"target_modules": ["embed", "conv", "out"]}, {"tokens": TOKENS}),
}


def lora_model(name: str, **overrides):
    """A model with random, non-zero factors."""
    make, options, inputs = MODELS[name]
    model = get_peft_model(make(), LoraConfig(**({"r": 3, "lora_alpha": 6} | options | overrides))).eval()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in live_tensors(model).items():
        if "lora" in key:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model, inputs


def output(model, inputs):
    with torch.no_grad():
        found = model(**inputs)
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("change", [refactor_lora_, orthonormalize_lora_A_], ids=lambda f: f.__name__)
def test_the_function_of_a_model_stays(name, change):
    model, inputs = lora_model(name)
    before = output(model, inputs)
    kept = {key: (id(p), p.dtype, p.requires_grad, p.data_ptr()) for key, p in model.named_parameters()}
    change(model)
    assert torch.allclose(output(model, inputs), before, atol=1e-5)
    assert kept == {key: (id(p), p.dtype, p.requires_grad, p.data_ptr()) for key, p in model.named_parameters()}
    for key, tensor in live_tensors(model).items():
        if "_A" in key:
            rows = tensor.flatten(1)
            assert (rows @ rows.mT - torch.eye(len(rows))).abs().max() < 1e-5


def test_only_the_named_adapter_changes():
    model, inputs = lora_model("bert")
    model.add_adapter("other", LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    before = {key: tensor.clone() for key, tensor in live_tensors(model, "other").items()}
    report = refactor_lora_(model)
    assert len(report) == 4 and all(int(layer.effective_rank) == 3 for layer in report.values())
    assert all(torch.equal(tensor, before[key]) for key, tensor in live_tensors(model, "other").items())


def test_freezing_A_leaves_B_and_the_head():
    model, _ = lora_model("bert")
    freeze_lora_A_(model)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained and not any("lora_A" in name for name in trained)
    assert any("lora_B" in name for name in trained) and any("classifier" in name for name in trained)


def test_an_embedding_whose_A_is_zero_can_be_trained_by_B_alone():
    """PEFT starts embeddings with A = 0 and a random B."""
    model = get_peft_model(Convolutions(), LoraConfig(r=3, target_modules=["embed"]))
    before = output(model, {"tokens": TOKENS})
    orthonormalize_lora_A_(model)
    live = live_tensors(model)
    assert live["base_model.model.embed.lora_embedding_A"].any()
    assert not live["base_model.model.embed.lora_embedding_B"].any()
    assert torch.equal(output(model, {"tokens": TOKENS}), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "uses `use_dora`"),
        ({"lora_bias": True}, "uses `lora_bias`"),
        ({"bias": "all"}, "`bias='all'`"),
        ({"r": 17}, "rank 17 is above its input width 16"),
        ({"init_lora_weights": "pissa"}, "which changes the base weights"),
        ({"target_modules": [], "target_parameters": ["query.weight"]}, "uses `target_parameters`"),
    ],
)
def test_adapters_that_cannot_be_federated_are_refused(options, message):
    model = get_peft_model(tiny_bert(), LoraConfig(**({"r": 3, "target_modules": ["query"]} | options)))
    with pytest.raises(ValueError, match=message):
        refactor_lora_(model)


def test_other_objects_and_merged_layers_are_refused():
    model, _ = lora_model("bert")
    with pytest.raises(ValueError, match="must be a PeftModel"):
        refactor_lora_(model.get_base_model())
    with pytest.raises(ValueError, match="`adapter_name` must be one of default; got 'nope'"):
        refactor_lora_(model, "nope")
    model.merge_adapter()
    with pytest.raises(ValueError, match="is merged"):
        refactor_lora_(model)
