# SPDX-License-Identifier: Apache-2.0
import os

import torch


def test_the_suite_is_offline():
    import huggingface_hub.constants

    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert huggingface_hub.constants.HF_HOME == os.environ["HF_HOME"]


def test_nan_empty_poisons_every_way_to_allocate(nan_empty):
    assert torch.empty(3).isnan().all()
    assert torch.empty_like(torch.ones(2, dtype=torch.bfloat16)).isnan().all()
    assert torch.ones(1).new_empty(4).isnan().all()
    assert torch.nn.Linear(2, 2, device="meta").to_empty(device="cpu").weight.isnan().all()


def test_seeds_are_fixed():
    assert torch.initial_seed() == 0
