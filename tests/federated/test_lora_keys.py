# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from eigenhub.federated import LoraKeys, pair_lora_keys
from tests.federated.states import a_state


def test_saved_and_live_keys_of_every_kind_of_layer_are_paired():
    state = {
        "x.lora_A.weight": torch.zeros(2, 5),
        "x.lora_B.weight": torch.zeros(3, 2),
        "e.lora_embedding_A": torch.zeros(2, 7),
        "e.lora_embedding_B": torch.zeros(4, 2),
        "c.lora_A.weight": torch.zeros(2, 3, 3, 3),
        "c.lora_B.weight": torch.zeros(4, 2, 1, 1),
        "y.lora_A.default.weight": torch.zeros(2, 5),
        "y.lora_B.default.weight": torch.zeros(3, 2),
        "f.lora_embedding_A.default": torch.zeros(2, 7),
        "f.lora_embedding_B.default": torch.zeros(4, 2),
        "classifier.weight": torch.zeros(2, 2),
    }
    pairs = pair_lora_keys(state)
    assert list(pairs) == ["c", "e", "f.default", "x", "y.default"]
    assert pairs["x"] == LoraKeys("x.lora_A.weight", "x.lora_B.weight")
    assert pairs["f.default"] == LoraKeys("f.lora_embedding_A.default", "f.lora_embedding_B.default")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("q.lora_A.weight"), "layer `q` has no lora_A"),
        (lambda s: s.update({"q.lora_A.weight": torch.zeros(2, 10)}), "layer `q`: A \\(2, 10\\) and B \\(6, 3\\)"),
        (lambda s: s.update({"q.lora_magnitude_vector": torch.zeros(6)}), "DoRA"),
        (lambda s: s.update({"q.lora_B.bias": torch.zeros(6)}), "lora_bias"),
        (lambda s: s.update({"v.lora_B.weight": torch.zeros(9, 3, 3, 3)}), "grouped convolutions"),
        (lambda s: s.clear(), "holds no LoRA factors"),
    ],
)
def test_what_is_no_plain_product_is_refused(change, message):
    state = a_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        pair_lora_keys(state)
