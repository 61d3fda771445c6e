# SPDX-License-Identifier: Apache-2.0
"""The gate on real blocks: what it makes zero, what it leaves, and that it leaves no trace."""

import copy
import warnings

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from eigenhub.metrics.decoder_blocks import block_at
from eigenhub.training.send import ActivationGate, bake
from eigenhub.training.send.sites import down_projection, input_size
from tests.metrics.language_models import ARCHITECTURES


IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]])
DROPPED = [0, 3, 15]


def gate_of(model, site="hidden", **options):
    block = block_at(model, -2)
    module = down_projection(block) if site == "mlp" else block
    return ActivationGate(module, input_size(module) if site == "mlp" else 16, site, **options)


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("capture_first", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dropped_coordinates_are_zero_and_get_no_gradient(name, capture_first):
    model = ARCHITECTURES[name]().train()
    if capture_first:
        model(input_ids=IDS, output_hidden_states=True)
    gate = gate_of(model)
    gate.set_dropped(DROPPED)
    gradients = []
    block_at(model, -2).register_forward_hook(
        lambda m, i, o: (o[0] if isinstance(o, tuple) else o).register_hook(gradients.append) and None, prepend=True
    )  # in front of the gate: the gradient that comes down through it
    out = model(input_ids=IDS, output_hidden_states=True)
    states = out.hidden_states[-2]
    kept = [i for i in range(16) if i not in DROPPED]
    assert (states[..., DROPPED] == 0).all() and (states[..., kept] != 0).all()
    out.logits.square().sum().backward()
    assert (gradients[0][..., DROPPED] == 0).all() and (gradients[0][..., kept] != 0).any()


@pytest.mark.parametrize("site", ["hidden", "mlp", "update"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_leaves_no_trace(name, site):
    model = ARCHITECTURES[name]()
    before, state = logits(model), copy.deepcopy(model.state_dict())
    gate = gate_of(model, site)
    model.train()
    assert torch.equal(logits(model), before)  # nothing dropped: to the bit
    gate.set_dropped(DROPPED)
    assert not torch.equal(logits(model), before)
    with gate.suspended():
        assert torch.equal(logits(model), before)
    assert not torch.equal(logits(model), before)
    model.eval()
    assert torch.equal(logits(model), before)  # in eval mode there is no mask
    model.train()
    after = model.state_dict()
    assert after.keys() == state.keys() and all(torch.equal(after[key], state[key]) for key in state)
    gate.remove()
    assert torch.equal(logits(model), before)
    assert not any(block_at(model, -2)._forward_hooks.values())


def test_the_update_is_masked_and_the_stream_kept():
    model = ARCHITECTURES["llama"]().train()
    plain = model(input_ids=IDS, output_hidden_states=True).hidden_states
    gate_of(model, "update").set_dropped(DROPPED)
    found = model(input_ids=IDS, output_hidden_states=True).hidden_states
    kept = [i for i in range(16) if i not in DROPPED]
    assert torch.equal(found[-2][..., DROPPED], plain[-3][..., DROPPED])
    assert torch.equal(found[-2][..., kept], plain[-2][..., kept])


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "lora"])
def test_the_mlp_mask_is_zero_weights(name, rescale, tmp_path):
    model = ARCHITECTURES[name]()
    baked = copy.deepcopy(model)
    gate_of(model, "mlp", mask_in_eval=True, rescale=rescale).set_dropped(DROPPED)
    bake(baked, DROPPED, rescale=rescale)
    assert_close(logits(baked), logits(model), rtol=1e-5, atol=1e-5)
    baked.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(baked))


def test_the_mlp_mask_is_the_zero_rows_of_what_comes_before():
    model = ARCHITECTURES["llama"]()
    other = copy.deepcopy(model)
    gate_of(model, "mlp", mask_in_eval=True).set_dropped(DROPPED)
    mlp = block_at(other, -2).mlp
    with torch.no_grad():
        mlp.gate_proj.weight[DROPPED] = mlp.up_proj.weight[DROPPED] = 0
    assert_close(logits(other), logits(model), rtol=1e-6, atol=1e-6)


def test_adapters_are_masked_too():
    model = ARCHITECTURES["lora"]().train()
    gate_of(model, "mlp").set_dropped(range(1, 24))
    down = down_projection(block_at(model, -2))
    seen = []
    down.lora_A["default"].register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    logits(model)
    assert (seen[0][..., 1:] == 0).all() and (seen[0][..., 0] != 0).any()
    with pytest.raises(ValueError, match="merge it first"):
        bake(model, [0])


@pytest.mark.parametrize("site", ["hidden", "update"])
def test_rescaling_keeps_the_mean_size(site):
    layer = torch.nn.Identity()
    gate = ActivationGate(layer, 10, site, rescale=True)
    gate.set_dropped([0, 5])
    found = layer(torch.full((3, 10), 4.0))
    expected = torch.full((3, 10), 5.0)
    expected[:, [0, 5]] = 0
    if site == "update":  # an identity adds nothing
        expected = torch.full((3, 10), 4.0)
    assert torch.equal(found, expected)


def test_dropout_is_dropout():
    layer = torch.nn.Identity()
    gate = ActivationGate(layer, 10, dropout=0.5)
    x = torch.ones(4000, 10)
    torch.manual_seed(0)
    found = layer(x)
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.functional.dropout(x, 0.5))
    with gate.suspended():
        assert torch.equal(layer(x), x)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_mask_follows_the_dtype(dtype):
    layer = torch.nn.Linear(4, 4).to(dtype)
    gate = ActivationGate(layer, 4)
    gate.set_dropped([1])
    found = layer(torch.ones(4, dtype=dtype))
    assert found.dtype == dtype and found[1] == 0 and found[0] != 0
    assert layer.float()(torch.ones(4)).dtype == torch.float32  # and to another one, later


def test_the_mask_follows_the_device():
    layer = torch.nn.Linear(4, 4)
    gate = ActivationGate(layer, 4)
    gate.set_dropped([1])
    out = layer.to("meta")(torch.ones(4, device="meta"))
    assert out.device.type == gate.mask.device.type == "meta"


def test_a_model_that_is_spread_out_is_masked(tmp_path):
    """The masked block lies on the disk and comes in for its forward pass."""
    ARCHITECTURES["llama"]().save_pretrained(tmp_path)
    parts = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.2", "model.norm", "lm_head")
    places = {**dict.fromkeys(parts, "cpu"), "model.layers.1": "disk"}
    spread, whole = (
        AutoModelForCausalLM.from_pretrained(tmp_path, **options)
        for options in ({"device_map": places, "offload_folder": tmp_path / "offload"}, {})
    )
    assert next(block_at(spread, -2).parameters()).is_meta
    plain = logits(whole)
    for model in (spread, whole):
        gate_of(model, mask_in_eval=True).set_dropped(DROPPED)
    assert torch.equal(logits(spread), logits(whole)) and not torch.equal(plain, logits(whole))


@pytest.mark.slow
def test_a_compiled_model_follows_the_mask():
    model = ARCHITECTURES["llama"]().train()
    gate = gate_of(model)
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend)
    before = compiled(input_ids=IDS).logits
    count = len(compilations)
    gate.set_dropped(DROPPED)
    after = compiled(input_ids=IDS).logits
    assert len(compilations) == count > 0
    assert not torch.equal(before, after)
    assert_close(after, model(input_ids=IDS).logits)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda layer: ActivationGate(layer, 4, "attention"), "`site` must be one of hidden, mlp, update"),
        (lambda layer: ActivationGate(layer, 0), "`size` must be at least 1, got 0"),
        (lambda layer: ActivationGate(layer, 4).set_dropped([4]), "from 0 to 3, got"),
        (lambda layer: ActivationGate(layer, 4).set_dropped([1, 1]), "must be different"),
        (lambda layer: ActivationGate(layer, 2).set_dropped([0, 1]), "must leave one of 2"),
        (lambda layer: down_projection(layer), "0 down projections found in Linear"),
        (lambda layer: down_projection(layer, "up"), "`down_projection` must name a module of the block, got 'up'"),
        (lambda layer: input_size(torch.nn.LayerNorm(3)), "must be a linear layer, got LayerNorm"),
        (lambda layer: bake(ARCHITECTURES["llama"](), [99]), "`indices` must be from 0 to 23"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.nn.Linear(4, 4))
