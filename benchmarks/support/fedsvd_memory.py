# SPDX-License-Identifier: Apache-2.0
"""Resident memory of a process that runs federated rounds with many simulated clients; prints it as JSON.

python benchmarks/support/fedsvd_memory.py CLIENTS SAMPLED ROUNDS
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import RobertaConfig, RobertaForSequenceClassification, TrainingArguments

from eigenhub.federated import FederatedCallback, FederatedLoraTrainer, FedSVDConfig


ROWS, TOKENS, HIDDEN, RANK, VOCABULARY = 32, 8, 256, 32, 100


class LazyClients(Mapping):
    """Clients whose data are made when they are asked for and belong to nobody afterwards.

    Args:
        number (`int`): how many.
    """

    def __init__(self, number: int) -> None:
        self.names = [f"client{index:05d}" for index in range(number)]

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(int(name.removeprefix("client")))
        ids = torch.randint(5, VOCABULARY, (ROWS, TOKENS), generator=generator)
        return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row[0] % 2} for row in ids]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class _Resident(FederatedCallback):
    """Megabytes of resident memory after every round."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []

    def on_round_end(self, trainer: FederatedLoraTrainer, record: dict[str, Any]) -> None:
        self.megabytes.append(resident("VmRSS"))


def resident(field: str) -> float:
    """A field of this process's memory status in megabytes (Linux).

    Args:
        field (`str`): `VmRSS` for what it has now, `VmHWM` for the most it ever had.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024


def measure(clients: int, sampled: int, rounds: int) -> dict[str, Any]:
    """Peak and memory after each round.

    Args:
        clients (`int`): of the federation.
        sampled (`int`): in a round.
        rounds (`int`): rounds.
    """
    torch.set_num_threads(1)
    config = RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS + 2,
    )
    lora = LoraConfig(r=RANK, target_modules=["query", "value"], modules_to_save=["classifier"])
    model = get_peft_model(RobertaForSequenceClassification(config), lora)
    watch = _Resident()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, per_device_train_batch_size=4, optim="sgd", report_to="none", use_cpu=True, disable_tqdm=True
        )
        settings = FedSVDConfig(num_rounds=rounds, local_steps=1, client_fraction=sampled / clients)
        trainer = FederatedLoraTrainer(model, args, LazyClients(clients), config=settings, callbacks=[watch])
        history = trainer.train()
    sizes = {len(record["clients"]) for record in history}
    failures = [record["failures"] for record in history if record["failures"]]
    if sizes != {sampled} or failures:
        raise RuntimeError(f"rounds of {sampled} clients were asked for, got {sorted(sizes)} with failures {failures}")
    return {"peak": resident("VmHWM"), "rounds": watch.megabytes}


if __name__ == "__main__":
    print(json.dumps(measure(*(int(argument) for argument in sys.argv[1:]))))
