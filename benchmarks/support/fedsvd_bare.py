# SPDX-License-Identifier: Apache-2.0
"""The same federated rounds by hand, without an engine: what a loop that nobody can resume, watch or trust costs."""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from transformers import DataCollatorWithPadding, default_data_collator

from eigenhub.federated.local_job import job_seed
from support.fedsvd_tasks import FederatedTask


def bare_rounds(
    task: FederatedTask, model: PeftModel, chosen: list[list[str]], steps: int, lr: float, clip: float, seed: int
) -> dict[str, Tensor]:
    """FFA-LoRA by hand: load B, train it with plain SGD, average it. Returns the last average by parameter name.

    Args:
        task (`FederatedTask`): clients and model.
        model (`PeftModel`): trained in place.
        chosen (`list[list[str]]`): the clients of every round.
        steps (`int`): local steps.
        lr (`float`): learning rate.
        clip (`float`): largest norm of a gradient.
        seed (`int`): of the run, for the same order of rows as in the engine.
    """
    collate = DataCollatorWithPadding(task.tokenizer) if task.tokenizer is not None else default_data_collator
    trained = {name: parameter for name, parameter in model.named_parameters() if ".lora_B." in name}
    model.requires_grad_(False)
    for parameter in trained.values():
        parameter.requires_grad_(True)
    state = {name: parameter.detach().clone() for name, parameter in trained.items()}
    model.train()
    for number, clients in enumerate(chosen, start=1):
        sums = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        for client in clients:
            _load(trained, state)
            _train(
                task, model, list(trained.values()), collate, client, steps, lr, clip, job_seed(seed, number, client)
            )
            for name, parameter in trained.items():
                sums[name].add_(parameter.detach(), alpha=len(task.clients[client]))
        total = sum(len(task.clients[client]) for client in clients)
        state = {name: tensor / total for name, tensor in sums.items()}
    return state


def _load(trained: dict[str, Any], state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state[name])


def _train(
    task: FederatedTask,
    model: PeftModel,
    parameters: list,
    collate: Any,
    client: str,
    steps: int,
    lr: float,
    clip: float,
    seed: int,
) -> None:
    rows, size = task.clients[client], task.batch_size
    torch.manual_seed(seed)  # dropout
    sampler = RandomSampler(rows, generator=torch.Generator().manual_seed(seed))
    loader = DataLoader(rows, size, sampler=sampler, collate_fn=collate, drop_last=len(rows) >= size)
    optimizer = torch.optim.SGD(parameters, lr=lr)
    done = 0
    while done < steps:
        for batch in loader:
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done == steps:
                break
