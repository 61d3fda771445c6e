# SPDX-License-Identifier: Apache-2.0
"""Who is a matrix: by module and identity, in models of several architectures."""

import pytest
import torch
from torch import nn
from transformers import GptOssConfig, GptOssForCausalLM, MixtralConfig, MixtralForCausalLM

from eigenhub.optim import DCTAdamW, Trion, build_param_groups
from eigenhub.optim.roles import parameter_roles
from tests.support.models import build, tiny_bert, tiny_gpt2, tiny_llama, tiny_vit


def who(model, **options):
    groups = build_param_groups(model, **options)
    count = sum(p.numel() for group in groups for p in group["params"])
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {assignment.name: assignment.group for assignment in groups.assignments}, groups


@pytest.mark.parametrize("tied", [True, False])
def test_llama(tied):
    found, groups = who(tiny_llama(tie_word_embeddings=tied), rank=0.5, lr_aux=1e-4)
    matrices = {name for name, group in found.items() if group == "matrix"}
    assert all(name.endswith("_proj.weight") for name in matrices) and len(matrices) == 14
    assert found["model.embed_tokens.weight"] == "adamw" and found["model.norm.weight"] == "adamw, no decay"
    assert ("lm_head.weight" in found) is not tied and found.get("lm_head.weight", "adamw") == "adamw"
    assert [g.get("lr") for g in groups] == [None, 1e-4, 1e-4]
    assert [g.get("weight_decay") for g in groups] == [None, None, 0.0]
    assert groups[0]["rank"] == 0.5 and "algorithm" not in groups[0]


def test_a_head_is_known_by_identity_not_by_name():
    model = tiny_llama(tie_word_embeddings=False)
    model.projection_to_words = model.lm_head
    del model.lm_head
    model.get_output_embeddings = lambda: model.projection_to_words
    assert who(model)[0]["projection_to_words.weight"] == "adamw"
    tied = nn.ModuleDict({"words": nn.Embedding(7, 4), "out": nn.Linear(4, 7, bias=False)})
    tied["out"].weight = tied["words"].weight
    assert who(tied)[0] == {"words.weight": "adamw"}


def test_gpt2_weights_are_stored_transposed():
    found, groups = who(tiny_gpt2())
    assert found["transformer.h.0.attn.c_attn.weight"] == "matrix, transposed"
    assert found["transformer.wte.weight"] == found["transformer.wpe.weight"] == "adamw"
    assert [g.get("transposed", False) for g in groups] == [True, False, False]
    optimizer = Trion(groups, rank=2)
    assert optimizer.param_groups[0]["transposed"] and not optimizer.param_groups[1]["transposed"]


@pytest.mark.parametrize("model", [tiny_bert, tiny_vit])
def test_other_architectures_have_matrices_and_no_convolutions_among_them(model):
    model = model()
    found, _ = who(model)
    parameters = dict(model.named_parameters())
    assert "matrix" in found.values()
    assert all(parameters[name].ndim == 2 for name, group in found.items() if group == "matrix")
    # of three dimensions in a ViT: the class token and the table of positions
    assert all(found[name] != "matrix" for name in found if "embeddings" in name)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4, 5))


def test_stacks_are_known_by_their_module():
    class Mixture(nn.Module):
        def __init__(self, count):
            super().__init__()
            self.num_experts = count
            self.weight = nn.Parameter(torch.zeros(3, 4, 5))

    assert set(who(Experts())[0].values()) == set(who(Mixture(3))[0].values()) == {"matrix"}
    assert set(who(Mixture(7))[0].values()) == {"adamw"}


def test_expert_stacks_of_both_orientations_and_their_biases():
    sizes = {
        "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "pad_token_id": 0,
    }  # fmt: skip
    mixtral, _ = who(build(MixtralForCausalLM, MixtralConfig(**sizes)))
    assert mixtral["model.layers.0.mlp.experts.gate_up_proj"] == "matrix"
    assert mixtral["model.layers.0.mlp.gate.weight"] == "adamw"
    oss, _ = who(build(GptOssForCausalLM, GptOssConfig(**sizes)))
    assert oss["model.layers.0.mlp.experts.gate_up_proj"] == "matrix, transposed"
    assert oss["model.layers.0.mlp.experts.gate_up_proj_bias"] == "adamw"


def test_convolutions_of_any_dimension_are_no_stacks():
    found, _ = who(nn.Sequential(nn.Conv1d(3, 4, 5), nn.Conv2d(3, 4, 5), nn.Linear(4, 4, bias=False)))
    assert found["0.weight"] == found["1.weight"] == "adamw" and found["2.weight"] == "matrix"


class Adapter(nn.Module):
    """As PEFT's layers name their parts."""

    adapter_layer_names = ("lora_A", "lora_embedding", "absent")

    def __init__(self):
        super().__init__()
        self.base_layer = nn.Linear(6, 6, bias=False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(6, 2, bias=False)})
        self.lora_embedding = nn.Parameter(torch.zeros(2, 6))


def test_adapters_only_on_request():
    assert who(Adapter())[0] == {
        "base_layer.weight": "matrix", "lora_A.default.weight": "adamw", "lora_embedding": "adamw",
    }  # fmt: skip
    assert set(who(Adapter(), include_adapters=True)[0].values()) == {"matrix"}


def test_lora_of_peft_is_left_alone():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"]))
    found, _ = who(model)
    assert {group for name, group in found.items() if "lora_" in name} == {"adamw"}
    assert {group for name, group in found.items() if "lora_" not in name} == {"frozen"}
    assert {g for n, g in who(model, include_adapters=True)[0].items() if "lora_" in n} == {"matrix"}


def test_targets_by_name_and_by_expression():
    chosen = {
        n for n, g in who(tiny_llama(), target_modules=["q_proj", "layers.1.mlp.up_proj"])[0].items() if g == "matrix"
    }
    assert chosen == {
        "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    }  # fmt: skip
    chosen = {n for n, g in who(tiny_llama(), target_modules=r".*\.0\.mlp\.\w+_proj")[0].items() if g == "matrix"}
    assert len(chosen) == 3
    with pytest.raises(ValueError, match="entry 'c_attn' matches no matrix"):
        build_param_groups(tiny_llama(), target_modules=["q_proj", "c_attn"])
    with pytest.raises(ValueError, match=r"'.\*lm_head' matches no matrix"):
        build_param_groups(tiny_llama(tie_word_embeddings=False), target_modules=".*lm_head")


def test_a_single_name_may_stand_for_a_list_and_a_broken_expression_is_named():
    one, several = (
        who(tiny_llama(), exclude="mlp", no_decay="embed_tokens"),
        who(tiny_llama(), exclude=["mlp"], no_decay=["embed_tokens"]),
    )
    assert one[0] == several[0] and one[0]["model.embed_tokens.weight"] == "adamw, no decay"
    with pytest.raises(ValueError, match="`target_modules` '\\*_proj' is no regular expression"):
        build_param_groups(tiny_llama(), target_modules="*_proj")


def test_exclusions_frozen_parameters_and_further_options():
    model = tiny_llama()
    model.model.layers[0].requires_grad_(False)
    groups = build_param_groups(
        model, exclude=["mlp"], no_decay=["embed_tokens"], weight_decay_aux=0.3,
        matrix_options={"error_feedback": "int8"}, aux_options={"betas": (0.8, 0.9)},
    )  # fmt: skip
    found = {a.name: (a.group, a.reason) for a in groups.assignments}
    assert found["model.layers.0.mlp.up_proj.weight"] == ("frozen", "requires no gradient")
    assert found["model.layers.1.mlp.up_proj.weight"] == ("adamw", "linear weight, excluded")
    assert found["model.embed_tokens.weight"] == ("adamw, no decay", "embedding")
    assert [g.get("weight_decay") for g in groups] == [None, 0.3, 0.0]
    assert groups[0]["error_feedback"] == "int8" and groups[1]["betas"] == (0.8, 0.9)
    assert "| model.layers.1.mlp.up_proj.weight | 24 x 16 | adamw | linear weight, excluded |" in groups.table()
    DCTAdamW(groups)


def test_every_parameter_has_one_role():
    model = tiny_llama(tie_word_embeddings=True)
    assert set(parameter_roles(model)) == set(model.parameters())
