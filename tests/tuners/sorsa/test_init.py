# SPDX-License-Identifier: Apache-2.0
"""Initialisation: the exact triple of every shape, by every driver, and what it refuses."""

import pytest
import torch
from peft import get_peft_model
from torch import nn

from eigenhub.tuners.sorsa import SorsaConfig
from tests.support.models import tiny_bert, tiny_gpt2, tiny_llama
from tests.tuners.sorsa.helpers import (
    FROZEN,
    TRAINED,
    OneLinear,
    adapted_llama,
    layers_of,
    logits,
    one_linear,
    random_weight,
)
from tests.tuners.sorsa.reference import aligned_error


def exact_triple(weight: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    u, s, v = torch.linalg.svd(weight.detach().double(), full_matrices=False)
    return u[:, :r], s[:r], v[:r]


def assert_triple(layer, weight: torch.Tensor, r: int, tolerance: float) -> None:
    u, s, v = exact_triple(weight, r)
    for keys in (TRAINED, FROZEN):
        found_u, found_s, found_v = (getattr(layer, key)["default"].detach().double() for key in keys)
        assert (found_s - s).abs().max() < tolerance * s[0]
        assert aligned_error(found_u.mT, u.mT) < tolerance * 10 and aligned_error(found_v, v) < tolerance * 10
        torch.testing.assert_close((found_u * found_s) @ found_v, (u * s) @ v, rtol=0, atol=tolerance * s[0].item())


@pytest.mark.parametrize("driver", ["auto", "full", "gram"])
@pytest.mark.parametrize(
    ("shape", "r"), [((24, 10), 3), ((10, 24), 3), ((15, 15), 4), ((24, 10), 10), ((10, 24), 10), ((9, 9), 9), ((1, 8), 1)], ids=str
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_drivers(driver, shape, r, dtype):
    weight = random_weight(*shape, dtype)
    _, layer = one_linear(weight, r=r, svd_driver=driver)
    assert_triple(layer, weight, r, 1e-5 if dtype == torch.float32 else 1e-12)


def test_conv1d_triple_is_that_of_the_transposed_weight():
    model = get_peft_model(tiny_gpt2(), SorsaConfig(r=4, target_modules=["c_attn", "c_fc", "c_proj"]))
    for layer in layers_of(model):
        assert_triple(layer, layer.get_base_layer().weight.mT, 4, 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_decomposed_in_float32(dtype):
    weight = random_weight(20, 12, dtype)
    model, layer = one_linear(weight)
    assert layer.sorsa_U["default"].dtype == torch.float32
    assert_triple(layer, weight, 3, 1e-5)
    assert torch.equal(layer.get_base_layer().weight, weight), "the base weight was written to"
    x = random_weight(5, 12, dtype, seed=1)
    assert torch.equal(model(x), nn.functional.linear(x, weight))


def test_randomized_driver_is_repeatable_and_leaves_the_global_generator_alone():
    weight = random_weight(60, 50, torch.float32)
    config = {"r": 4, "svd_driver": "randomized", "svd_niter": 2, "svd_oversample": 4}
    base = OneLinear(weight)
    before = torch.random.get_rng_state()
    (first,) = layers_of(get_peft_model(base, SorsaConfig(target_modules=["linear"], **config)))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    _, second = one_linear(weight, **config)
    _, other = one_linear(weight, **config, seed=1)
    for key in FROZEN:
        assert torch.equal(getattr(first, key)["default"], getattr(second, key)["default"])
    assert not torch.equal(first.sorsa_U0["default"], other.sorsa_U0["default"])
    u, s, v = exact_triple(weight, 4)
    block = (first.sorsa_U["default"] * first.sorsa_S["default"]) @ first.sorsa_V["default"]
    kept = (block.detach().double().square().sum() / s.square().sum()).item()
    assert 0.97 < kept <= 1 + 1e-6
    defect = first.sorsa_U["default"].mT @ first.sorsa_U["default"] - torch.eye(4)
    assert defect.abs().max() < 1e-5


def test_randomized_modules_of_equal_weight_get_draws_of_their_own():
    base = nn.ModuleDict(
        {"a": OneLinear(random_weight(40, 40, torch.float32)), "b": OneLinear(random_weight(40, 40, torch.float32))}
    )
    config = SorsaConfig(r=3, target_modules=["linear"], svd_driver="randomized", svd_niter=0, svd_oversample=0)
    first, second = layers_of(get_peft_model(base, config))
    assert not torch.equal(first.sorsa_U["default"], second.sorsa_U["default"])


def test_lowrank_is_an_alias():
    assert SorsaConfig(svd_driver="lowrank").svd_driver == "randomized"


def test_initial_and_trained_factors_do_not_share_memory():
    _, layer = one_linear(random_weight(6, 5))
    for trained, frozen in zip(TRAINED, FROZEN, strict=True):
        a, b = getattr(layer, trained)["default"], getattr(layer, frozen)["default"]
        assert torch.equal(a, b) and a.data_ptr() != b.data_ptr() and a.requires_grad and not b.requires_grad


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_fresh_model_on_meta_adapters_initialises_at_first_use(low_cpu_mem_usage):
    base = tiny_llama()
    plain = logits(base)
    model = get_peft_model(base, SorsaConfig(r=2, target_modules=["q_proj"]), low_cpu_mem_usage=low_cpu_mem_usage)
    assert layers_of(model)[0].sorsa_U["default"].is_meta == low_cpu_mem_usage
    assert torch.equal(logits(model), plain)
    assert_triple(layers_of(model)[0], layers_of(model)[0].get_base_layer().weight, 2, 1e-5)


def test_base_on_meta_waits_and_says_so():
    with torch.device("meta"):
        base = tiny_llama()
    model = get_peft_model(base, SorsaConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(RuntimeError, match="(?s)meta device.*load"):
        model.base_model.regularization_loss()
    model.to_empty(device="cpu")  # memory of arbitrary content must not pass for loaded factors
    model.base_model.model.load_state_dict(with_base_layers(tiny_llama().state_dict()), strict=False)
    layer = layers_of(model)[0]
    assert model.base_model.regularization_loss() < 1e-4
    assert_triple(layer, layer.get_base_layer().weight, 2, 1e-5)


def with_base_layers(state: dict) -> dict:
    return {key.replace("q_proj.weight", "q_proj.base_layer.weight"): value for key, value in state.items()}


# ---------------------------------------------------------------- what is refused
def untouched(base: nn.Module, config: SorsaConfig, match: str) -> None:
    """The error, and that the base model is left as it was: keys, trainability, module types."""
    before = [(name, type(module)) for name, module in base.named_modules()]
    trainable = [p.requires_grad for p in base.parameters()]
    with pytest.raises(ValueError, match=match):
        get_peft_model(base, config)
    assert [(name, type(module)) for name, module in base.named_modules()] == before
    assert [p.requires_grad for p in base.parameters()] == trainable


def test_rank_beyond_the_limit_names_module_and_limit():
    untouched(tiny_llama(), SorsaConfig(r=17, target_modules=["q_proj"]), r"(?s)17.*16.*layers\.0\.self_attn\.q_proj")
    untouched(
        tiny_bert(num_labels=1), SorsaConfig(r=2, target_modules=["query", "classifier"]), "(?s)limit 1.*classifier"
    )
    config = SorsaConfig(r=2, target_modules=["q_proj", "v_proj"], rank_pattern={r"layers.1.self_attn.v_proj": 40})
    untouched(tiny_llama(), config, r"layers\.1\.self_attn\.v_proj")


def test_all_linear_leaves_a_small_head_out():
    model = get_peft_model(tiny_bert(num_labels=1), SorsaConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS"))
    assert not any("classifier" in layer.module_name for layer in layers_of(model))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value):
    base = tiny_llama()
    with torch.no_grad():
        base.model.layers[1].self_attn.v_proj.weight[3, 2] = value
    untouched(base, SorsaConfig(r=2, target_modules=["q_proj", "v_proj"]), r"layers\.1\.self_attn\.v_proj.*(?i:nan)")


def test_a_failed_second_adapter_leaves_the_first_alone():
    model = adapted_llama(moved=True)
    expected = logits(model)
    names = list(model.state_dict())
    with pytest.raises(ValueError, match="limit"):
        model.add_adapter("second", SorsaConfig(r=40, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="limit"):
        model.add_adapter("third", SorsaConfig(r=2, rank_pattern={"o_proj": 99}, target_modules=["q_proj", "o_proj"]))
    assert list(model.state_dict()) == names and list(model.peft_config) == ["default"]
    assert torch.equal(logits(model), expected)
    model.add_adapter("second", SorsaConfig(r=2, target_modules=["q_proj"]))


def test_a_failed_replication_gives_the_layers_back():
    base = tiny_llama()
    config = SorsaConfig(r=99, target_modules=["q_proj"], layer_replication=[(0, 2), (0, 2)])
    untouched(base, config, "limit")
    assert len(base.model.layers) == base.config.num_hidden_layers == 2


@pytest.mark.parametrize("rank", [0, 2])
def test_zero_and_deficient_weights_warn_and_train(rank):
    weight = random_weight(12, rank) @ random_weight(rank, 9) if rank else torch.zeros(12, 9, dtype=torch.float64)
    with pytest.warns(UserWarning, match=f"(?s)linear.*numerical rank {rank} < r=3"):
        model, layer = one_linear(weight)
    u, s, v = (getattr(layer, key)["default"].detach() for key in TRAINED)
    assert (s[rank:] <= 1e-10).all() and (s[:rank] > 0.1).all()
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(u.mT @ u, eye)
    torch.testing.assert_close(v @ v.mT, eye)
    model(random_weight(4, 9, seed=1)).square().sum().backward() if rank else model(
        random_weight(4, 9, seed=1)
    ).sum().backward()
    assert layer.sorsa_S["default"].grad.abs().max() > 0


def test_equal_singular_values_give_one_orthonormal_block():
    model, layer = one_linear(torch.eye(8, dtype=torch.float64) * 3)
    torch.testing.assert_close(layer.sorsa_S["default"].detach(), torch.full((3,), 3.0, dtype=torch.float64))
    x = random_weight(2, 8, seed=1)
    assert torch.equal(model(x), x @ torch.eye(8, dtype=torch.float64) * 3)


@pytest.mark.parametrize(
    "module",
    [nn.Embedding(9, 4), nn.Conv2d(3, 4, 3), nn.MultiheadAttention(4, 2), nn.LayerNorm(4)],
    ids=lambda m: type(m).__name__,
)
def test_unsupported_modules(module):
    base = nn.ModuleDict({"linear": nn.Linear(4, 4), "wanted": module})
    untouched(base, SorsaConfig(r=2, target_modules=["wanted"]), f"(?s)wanted.*{type(module).__name__}.*allowed")


def test_the_projection_inside_torch_attention_is_refused():
    """`nn.MultiheadAttention` reads the weight of `out_proj` and never calls it: the adapter would do nothing."""
    base = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    untouched(base, SorsaConfig(r=2, target_modules=["out_proj"]), "(?s)out_proj.*exclude_modules")
    model = get_peft_model(base, SorsaConfig(r=2, target_modules="all-linear", exclude_modules=["out_proj"]))
    assert {layer.module_name for layer in layers_of(model)} == {"linear1", "linear2"}


def test_expert_parameters_are_not_a_field():
    with pytest.raises(TypeError, match="target_parameters"):
        SorsaConfig(target_parameters=["experts.weight"])


@pytest.mark.parametrize("name", ["s", "sorsa", "sorsa_", "or", "_"])
@pytest.mark.parametrize("shared", [False, True])
def test_adapter_names_inside_the_prefix(name, shared):
    config = SorsaConfig(r=2, target_modules=["q_proj"])
    model = get_peft_model(tiny_llama(), config)
    with pytest.raises(ValueError, match=f"(?s){name!r}.*prefix"):
        model.add_adapter(name, config if shared else SorsaConfig(r=2, target_modules=["q_proj"]))
    assert list(model.peft_config) == ["default"]
    with pytest.raises(ValueError, match="prefix"):
        get_peft_model(tiny_llama(), config, adapter_name=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_factors_warn_and_stay_exact(dtype):
    base = tiny_llama().to(dtype)
    plain = logits(base)
    config = SorsaConfig(r=2, target_modules=["q_proj"])
    with pytest.warns(UserWarning, match="half precision.*penalty"):
        model = get_peft_model(base, config, autocast_adapter_dtype=False)
    layer = layers_of(model)[0]
    assert {getattr(layer, key)["default"].dtype for key in (*TRAINED, *FROZEN)} == {dtype}
    assert torch.equal(logits(model), plain)
    for trained, frozen in zip(TRAINED, FROZEN, strict=True):
        assert torch.equal(getattr(layer, trained)["default"], getattr(layer, frozen)["default"])
    assert model.base_model.regularization_loss().dtype == torch.float32
