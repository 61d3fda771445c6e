# SPDX-License-Identifier: Apache-2.0
"""Tiny causal and bidirectional models of both families, for the tests of what they share."""

from typing import Any

import torch

from eigenhub.models.s4d import S4DConfig, S4DForCausalLM, S4DModel
from eigenhub.models.s5_ptd import S5Config, S5ForCausalLM, S5Model
from tests.support.models import build


VOCABULARY = 13
TINY = {"hidden_size": 8, "num_hidden_layers": 2, "vocab_size": VOCABULARY, "pad_token_id": 0}
#: name of a family: class of its configuration, its backbone, its language model, its own settings
FAMILIES = {
    "s5": (S5Config, S5Model, S5ForCausalLM, {"state_size": 16, "num_blocks": 2, "c_init": "trunc_standard_normal"}),
    "s5-legs-all": (S5Config, S5Model, S5ForCausalLM, {"state_size": 8, "num_blocks": 1, "init": "legs", "conj_sym": "none"}),
    "s4d": (S4DConfig, S4DModel, S4DForCausalLM, {"state_size": 8}),
    "s4-ptd": (S4DConfig, S4DModel, S4DForCausalLM, {"state_size": 16, "init": "ptd", "conv_backend": "fft"}),
}  # fmt: skip


def config(family: str, **overrides: Any) -> Any:
    config_class, _, _, own = FAMILIES[family]
    return config_class(**(TINY | own | overrides))


def backbone(family: str, seed: int = 0, **overrides: Any) -> Any:
    return build(FAMILIES[family][1], config(family, **overrides), seed)


def language_model(family: str, seed: int = 0, **overrides: Any) -> Any:
    return build(FAMILIES[family][2], config(family, **overrides), seed)


def random_tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    """Real tokens; 0 is the pad."""
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(rows: list[torch.Tensor], side: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different lengths in one batch, pads with random content; and the mask."""
    length = max(len(row) for row in rows)
    ids = random_tokens(len(rows), length, seed)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[i, place], mask[i, place] = row, 1
    return ids, mask
