# SPDX-License-Identifier: Apache-2.0
"""add_weighted_adapter: sums of changes, exact by concatenation and compressed by an SVD."""

import pytest
import torch
from peft import PeftModel, get_peft_model

from eigenhub.tuners.sorsa import SorsaConfig
from tests.common.tuner_cases import move
from tests.support.models import tiny_gpt2, tiny_llama
from tests.tuners.sorsa.helpers import FROZEN, adapted_llama, layers_of, logits


@pytest.fixture
def pair() -> PeftModel:
    """Adapters of different rank, scale and targets, in float64."""
    model = adapted_llama(base=tiny_llama().double(), moved=True, alpha=3.0)
    model.add_adapter("second", SorsaConfig(r=3, target_modules=["q_proj", "up_proj"], rank_pattern={"up_proj": 1}))
    move(model, "sorsa_", "second", seed=1)
    return model.eval()


def sum_of(layer, parts: dict[str, float]) -> torch.Tensor:
    return sum(w * layer.get_delta_weight(name) for name, w in parts.items() if name in layer.sorsa_U)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, -2.0), (0.0, 1.0)])
def test_concatenation_is_the_exact_sum(pair, weights, tmp_path):
    pair.base_model.add_weighted_adapter(["default", "second"], list(weights), "sum")
    parts = dict(zip(("default", "second"), weights, strict=True))
    for layer in layers_of(pair):
        torch.testing.assert_close(layer.get_delta_weight("sum"), sum_of(layer, parts), rtol=0, atol=1e-14)
    pair.set_adapter("sum")
    expected = logits(pair)
    pair.save_pretrained(tmp_path, selected_adapters=["sum"])
    loaded = PeftModel.from_pretrained(tiny_llama().double(), tmp_path / "sum")
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-12, atol=1e-13)


def test_the_new_adapter_is_neither_active_nor_trained(pair):
    before = logits(pair)
    trained = [name for name, p in pair.named_parameters() if p.requires_grad]
    pair.base_model.add_weighted_adapter(["default", "second"], [1.0, 1.0], "sum")
    assert torch.equal(logits(pair), before)
    assert [name for name, p in pair.named_parameters() if p.requires_grad] == trained
    pair.delete_adapter("sum")
    assert not any("sum" in layer.sorsa_U for layer in layers_of(pair))


def test_an_adapter_twice(pair):
    pair.base_model.add_weighted_adapter(["default", "default"], [0.3, 0.9], "sum")
    for layer in layers_of(pair):
        if "default" in layer.sorsa_U:
            torch.testing.assert_close(
                layer.get_delta_weight("sum"), 1.2 * layer.get_delta_weight("default"), rtol=0, atol=1e-13
            )


@pytest.mark.parametrize("factory", [tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
def test_svd_is_the_best_block_of_the_same_rank(factory):
    target = "q_proj" if factory is tiny_llama else "c_attn"
    model = get_peft_model(factory().double(), SorsaConfig(r=3, target_modules=[target]))
    move(model, "sorsa_", size=0.02)
    model.add_adapter("second", SorsaConfig(r=2, target_modules=[target]))
    move(model, "sorsa_", "second", size=0.02, seed=1)
    model.merge_adapter(["second"])  # what is merged must not enter the initial block
    model.base_model.add_weighted_adapter(["default", "second"], [0.5, 0.5], "sum", combination_type="svd")
    model.unmerge_adapter()
    for layer in layers_of(model):
        weight = layer.pretrained_weight()
        u, s, v = torch.linalg.svd(weight)
        block = (u[:, :3] * s[:3]) @ v[:3]
        frozen = [getattr(layer, key)["sum"] for key in FROZEN]
        torch.testing.assert_close((frozen[0] * frozen[1]) @ frozen[2], block, rtol=0, atol=1e-9)
        change = sum_of(layer, {"default": 0.5, "second": 0.5})
        wanted = block + (change.mT if layer.is_transposed else change)
        u, s, v = torch.linalg.svd(wanted)
        found = layer.get_delta_weight("sum")
        found = (found.mT if layer.is_transposed else found) + block
        torch.testing.assert_close(found, (u[:, :3] * s[:3]) @ v[:3], rtol=0, atol=1e-9)
        eye = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(layer.sorsa_U["sum"].mT @ layer.sorsa_U["sum"], eye, rtol=0, atol=1e-9)
    assert model.base_model.regularization_loss("sum") < 1e-9


def test_refusals_leave_the_model_as_it_was(pair):
    add = pair.base_model.add_weighted_adapter
    names = list(pair.state_dict())
    for match, arguments in {
        "combination_type": (["default"], [1.0], "new", "linear"),
        "same length": (["default", "second"], [1.0], "new"),
        "at least 1": ([], [], "new"),
        "absent": (["default", "absent"], [1.0, 1.0], "new"),
        "taken or reserved": (["default"], [1.0], "second"),
        "reserved": (["default"], [1.0], "s"),
        "combined rank 20": (["default", "second"] * 4, [1.0] * 8, "new"),
    }.items():
        with pytest.raises(ValueError, match=match):
            add(*arguments)
        assert list(pair.state_dict()) == names and list(pair.peft_config) == ["default", "second"]
    with pytest.raises(ValueError, match="not finite|finite"):
        add(["default"], [float("nan")], "new")
