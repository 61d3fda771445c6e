# SPDX-License-Identifier: Apache-2.0
"""What SenD adds to a training step, and what a checkpoint costs beside an epoch."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, default_data_collator

from eigenhub.training.send import SenDConfig
from eigenhub.training.send.runtime import SenDRuntime
from support.report import row
from support.send_timing import in_turn
from support.timing import ratio


WORDS, BATCH, LENGTH = 1000, 8, 32
SIZES = {"vocab_size": WORDS, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
MODELS = {
    "GPT-NeoX": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(intermediate_size=1024, hidden_dropout=0.0, **SIZES)),
    "Llama": lambda: LlamaForCausalLM(LlamaConfig(intermediate_size=704, **SIZES)),
}
STEP_BOUND, TRACK_BOUND = 1.05, 0.11
EPOCH = 18  # batches; with a tenth of the rows tracked, two batches of twenty are
CHECKPOINTS = 2


def texts(count: int) -> list[dict[str, Tensor]]:
    ids = torch.randint(WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids]


class Training:
    """A model, its optimizer and, for a site, indices that are dropped.

    Args:
        name (`str`): of `MODELS`.
        site (`str`, *optional*): of `SenDConfig`; plain training without one.
    """

    def __init__(self, name: str, site: str | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = MODELS[name]().train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.batch = default_data_collator(texts(BATCH))
        self.runtime: SenDRuntime | None = None
        if site is not None:
            config = SenDConfig(window=CHECKPOINTS, refresh_every=CHECKPOINTS, site=site)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # few tracked texts
                self.runtime = SenDRuntime(self.model, config, texts(2 * BATCH), default_data_collator)
            for _ in range(CHECKPOINTS):
                self.step()
                self.look()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(**self.batch).loss.backward()
        self.optimizer.step()

    def look(self) -> None:
        self.runtime.observe(self.model, 0)


def training(name: str, rounds: int) -> list[dict[str, Any]]:
    """Steps with a mask against plain ones, in turn.

    Args:
        name (`str`): of `MODELS`.
        rounds (`int`): of timing.
    """
    plain, hidden, mlp = Training(name), Training(name, "hidden"), Training(name, "mlp")
    if not hidden.runtime.dropped or not mlp.runtime.dropped:
        raise RuntimeError("nothing is dropped, so there is nothing to time")
    plain.step()
    seconds = in_turn({"plain": plain.step, "hidden": hidden.step, "mlp": mlp.step, "look": hidden.look}, rounds)
    setting = f"{name}, d=256, 4 blocks, batches of {BATCH} x {LENGTH} tokens, AdamW, rho=0.2"
    rows = []
    for site in ("hidden", "mlp"):
        found = ratio(seconds, site, "plain")
        rows.append(
            row(f"step with SenD at site {site} / plain step", setting, found.pop("ratio"), STEP_BOUND, **found)
        )
    seconds["epoch"] = [EPOCH * second for second in seconds["plain"]]
    found = ratio(seconds, "look", "epoch")
    where = f"{setting}; {2 * BATCH} of {(EPOCH + 2) * BATCH} texts tracked"
    return [*rows, row("a checkpoint of SenD / an epoch", where, found.pop("ratio"), TRACK_BOUND, **found)]
