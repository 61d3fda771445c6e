# SPDX-License-Identifier: Apache-2.0
"""Finding blocks and layers in any architecture."""

import pytest
import torch
from torch import nn

from eigenhub.metrics import decoder_blocks
from eigenhub.metrics.decoder_blocks import block_at, map_hidden, num_blocks
from eigenhub.metrics.hidden_states import evaluating, forward_with_states, layer_index
from tests.metrics.language_models import ARCHITECTURES
from tests.support.models import tiny_bert


IDS = {"input_ids": torch.tensor([[5, 6, 7, 8]])}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_output_of_a_block_is_its_hidden_state(name):
    model = ARCHITECTURES[name]()
    blocks = decoder_blocks(model)
    assert len(blocks) == num_blocks(model) == 3
    seen = {}
    for place, block in enumerate(blocks):
        block.register_forward_hook(lambda m, i, o, place=place: map_hidden(o, lambda h: seen.setdefault(place, h)))
    with torch.no_grad():
        states = model(**IDS, output_hidden_states=True).hidden_states
    assert torch.equal(seen[1], states[-2]) and torch.equal(seen[0], states[1])
    assert block_at(model, -2) is blocks[1] and block_at(model, 0) is blocks[0]
    assert torch.equal(seen[layer_index(model, "penultimate") - 1], states[-2])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_layer_is_the_same_as_that_one_of_all(name):
    model = ARCHITECTURES[name]()
    for index in range(4):
        with torch.no_grad():
            some, all_of_them = (forward_with_states(model, IDS, index, selective) for selective in (True, False))
        assert torch.equal(some[0], all_of_them[0]) and torch.equal(some[1], all_of_them[1])


def test_layers_by_name_and_number():
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        count = len(model(**IDS, output_hidden_states=True).hidden_states)
    assert layer_index(model, "middle") == count // 2
    assert layer_index(model, "penultimate") == layer_index(model, -2) == count - 2
    assert layer_index(model, 0) == layer_index(model, -count) == 0
    for layer in (count, -count - 1, "last", 1.0, True):
        with pytest.raises(ValueError, match="`layer` must be one of middle, penultimate or from -4 to 3, got"):
            layer_index(model, layer)


def test_other_models_and_explicit_paths():
    bert = tiny_bert()
    assert decoder_blocks(bert) is bert.bert.encoder.layer
    llama = ARCHITECTURES["llama"]()
    assert decoder_blocks(llama, "model.layers") is llama.model.layers
    with pytest.raises(ValueError, match="`path` must name a ModuleList of the model, got 'model.norm'"):
        decoder_blocks(llama, "model.norm")
    with pytest.raises(ValueError, match="`index` must be from -3 to 2, got 3"):
        block_at(llama, 3)
    llama.model.other = nn.ModuleList(nn.Identity() for _ in range(3))
    with pytest.raises(ValueError, match="2 lists of 3 modules found in LlamaForCausalLM"):
        decoder_blocks(llama)
    del llama.model.other
    llama.model.layers[0].mlp.experts = nn.ModuleList(nn.Identity() for _ in range(3))
    assert decoder_blocks(llama) is llama.model.layers
    with pytest.raises(ValueError, match="`model` must have a configuration with `num_hidden_layers`"):
        broken = nn.Linear(1, 1)
        broken.config = object()
        decoder_blocks(broken)


def test_evaluating_gives_every_module_its_mode_back():
    model = ARCHITECTURES["llama"]().train()
    model.lm_head.eval()
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(m.training for m in model.modules()) and not torch.is_grad_enabled()
        raise RuntimeError
    assert model.training and not model.lm_head.training and torch.is_grad_enabled()
