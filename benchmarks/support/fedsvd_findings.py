# SPDX-License-Identifier: Apache-2.0
"""Measurements beside the tables of the FedSVD study: aggregation error, equivalence, accounting, the condition of A."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from eigenhub.federated import AggregateResult, ClientUpdate, FederatedCallback, aggregation_error, pair_lora_keys
from eigenhub.federated.accounting import compute_epsilon, find_noise_multiplier
from support.cached import cached
from support.report import row


LR, ADAM_LR = 0.5, 3e-3
#: Shapes (d_in, r) whose initial A is looked at.
SHAPES = ((1024, 8), (768, 8), (4096, 16), (1024, 64), (64, 8))
DRAWS = 20
#: A client of SST-2 divided by six, in the published settings.
SST2_ROWS, BATCH, ROUNDS, STEPS, FRACTION, EPSILON, DELTA = 67_349 // 6, 128, 100, 10, 0.5, 6.0, 1e-5


def rows(rounds: int, cache: Path) -> list[dict[str, Any]]:
    """All measurements; finished ones come from the cache.

    Args:
        rounds (`int`): rounds of the runs that are compared.
        cache (`Path`): folder of finished results.
    """

    def kept(what: str, compute: Any, **task: Any) -> dict[str, Any]:
        return cached(cache, {"finding": what, **task}, lambda: compute(**task))

    errors = {method: kept("aggregation", aggregation_errors, method=method, rounds=rounds) for method in AVERAGED}
    pairs = {name: kept("product", product_differences, rounds=rounds, **task) for name, task in COMPARED.items()}
    accounts = kept("accounting", accounting_errors)
    shapes = [kept("condition", initial_condition, d_in=d_in, rank=rank) for d_in, rank in SHAPES]
    return [
        *(_over_rounds(f"aggregation error: {m}", AVERAGED[m], e["errors"], BOUNDS.get(m)) for m, e in errors.items()),
        *(_over_rounds(name, "difference of B A", e["differences"], BOUNDS.get(name)) for name, e in pairs.items()),
        *_accounting_rows(accounts),
        *(_condition_row(found) for found in shapes),
    ]


#: Methods whose aggregation error is watched, and what it is relative to.
AVERAGED = {
    "fedavg": "mean A and mean B against the mean product",
    "fedsvd": "A times mean B against the mean product",
}
SAME, SAME_32 = "fedsvd = ffa_orth under SGD, float64", "fedsvd = ffa_orth under SGD, float32"
COMPARED: dict[str, dict[str, Any]] = {
    SAME: {"optim": "sgd", "lr": LR, "other": "ffa_orth", "dtype": "float64"},
    SAME_32: {"optim": "sgd", "lr": LR, "other": "ffa_orth", "dtype": "float32"},
    "fedsvd and ffa (Kaiming) under SGD": {"optim": "sgd", "lr": LR, "other": "ffa", "dtype": "float64"},
    "fedsvd and ffa_orth under AdamW": {
        "optim": "adamw_torch",
        "lr": ADAM_LR,
        "other": "ffa_orth",
        "dtype": "float64",
    },
}
BOUNDS = {"fedsvd": 1e-6, SAME: 1e-5, SAME_32: 1e-5}


class _Errors(FederatedCallback):
    """How far the product of the averaged factors is from the average of the clients' products, round by round."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self._updates: list[tuple[dict[str, Tensor], float]] = []

    def on_client_end(self, trainer: Any, update: ClientUpdate) -> None:
        whole = {**trainer.server.state, **update.state}
        factors = {key for pair in pair_lora_keys(whole).values() for key in pair}
        self._updates.append(({key: whole[key] for key in factors}, update.num_examples))

    def on_aggregate(self, trainer: Any, result: AggregateResult) -> None:
        states, weights = zip(*self._updates, strict=True)
        self.errors.append(aggregation_error(states, weights))
        self._updates.clear()


class _Products(FederatedCallback):
    """The product of the factors after every round."""

    def __init__(self) -> None:
        self.products: list[Tensor] = []

    def on_round_end(self, trainer: Any, record: dict[str, Any]) -> None:
        from support.fedsvd_runs import products

        self.products.append(products(trainer.server.state))


def aggregation_errors(method: str, rounds: int) -> dict[str, Any]:
    """Relative error of averaging, by round, on the digits task.

    Args:
        method (`str`): of `FedSVDConfig`.
        rounds (`int`): rounds.
    """
    watch = _Errors()
    _watched_run(watch, method, LR, rounds, "sgd", "float32")
    return {"errors": watch.errors}


def product_differences(other: str, optim: str, lr: float, dtype: str, rounds: int) -> dict[str, Any]:
    r"""$\lVert B A - B' A' \rVert / \lVert B A \rVert$ of FedSVD and another method after each round, on the digits task.

    Args:
        other (`str`): method compared with.
        optim (`str`): of `TrainingArguments`.
        lr (`float`): learning rate.
        dtype (`str`): of the whole model.
        rounds (`int`): rounds.
    """
    watches = [_Products() for _ in range(2)]
    for watch, method in zip(watches, ("fedsvd", other), strict=True):
        _watched_run(watch, method, lr, rounds, optim, dtype)
    pairs = zip(watches[0].products, watches[1].products, strict=True)
    return {"differences": [float((a - b).norm() / a.norm()) for a, b in pairs]}


def _watched_run(watch: FederatedCallback, method: str, lr: float, rounds: int, optim: str, dtype: str) -> None:
    from support.fedsvd_runs import new_trainer, quiet
    from support.fedsvd_tasks import digits_task

    task = digits_task(0)
    with quiet(), tempfile.TemporaryDirectory() as folder:
        model = task.new_model(0).to(getattr(torch, dtype))
        new_trainer(
            task, method, lr, rounds, 0, folder, optim=optim, eval_every=rounds, callbacks=[watch], model=model
        ).train()


def accounting_errors() -> dict[str, Any]:
    """What the noise of released code costs, in epsilon: an SST-2 client of six, target 6, tight accountant."""
    rate = 1 / math.ceil(SST2_ROWS / BATCH)
    planned = round(ROUNDS * STEPS * FRACTION)

    def cost(sigma: float, participations: float, sample_rate: float = rate) -> float:
        return compute_epsilon([(sigma, sample_rate, round(participations * STEPS))], DELTA)

    old = find_noise_multiplier(EPSILON, DELTA, rate * FRACTION, ROUNDS * STEPS)
    ours = find_noise_multiplier(EPSILON, DELTA, rate, planned)
    return {
        "old_sigma": old,
        "sigma": ours,
        "old": cost(old, ROUNDS * FRACTION),
        "capped": cost(ours, ROUNDS * FRACTION),
        "participations": {str(times): cost(ours, times) for times in (60, 65, 100)},
        "one_round": cost(ours, 1),
    }


def _accounting_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    setting = f"SST-2 client of six, {STEPS} steps in each of {ROUNDS} rounds, half of the clients a round, target 6"
    sigma = f"{setting}, sigma {found['sigma']:.3f}"

    def line(what: str, value: float, setting: str = sigma, bound: float | None = None) -> dict[str, Any]:
        return row(f"epsilon spent: {what}", setting, value, bound)

    return [
        line("ours, never more than 50 rounds a client", found["capped"], bound=EPSILON),
        line(
            "noise found with rate q x fraction", found["old"], f"{setting}, sigma {found['old_sigma']:.3f}, 50 rounds"
        ),
        *(
            line(f"planned for 50 rounds, drawn for {times}", value)
            for times, value in found["participations"].items()
        ),
        line("what an accountant started anew each round reports", found["one_round"]),
    ]


def initial_condition(d_in: int, rank: int) -> dict[str, Any]:
    """Singular values of the A that PEFT draws, medians over twenty draws.

    Args:
        d_in (`int`): width of the layer's input.
        rank (`int`): rank of the adapter.
    """
    values = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        model = get_peft_model(nn.Sequential(nn.Linear(d_in, 1)), LoraConfig(r=rank, target_modules=["0"]))
        a = next(parameter for name, parameter in model.named_parameters() if "lora_A" in name)
        values.append(torch.linalg.svdvals(a.detach().double()))
    return {
        "d_in": d_in,
        "rank": rank,
        "largest": median(float(s[0]) for s in values),
        "smallest": median(float(s[-1]) for s in values),
        "kappa": [float(s[0] / s[-1]) for s in values],
    }


def _condition_row(found: dict[str, Any]) -> dict[str, Any]:
    setting = (
        f"d_in={found['d_in']}, r={found['rank']}; singular values {found['smallest']:.3f} to {found['largest']:.3f}"
    )
    spread = [min(found["kappa"]), max(found["kappa"])]
    return row("condition of PEFT's Kaiming A", setting, median(found["kappa"]), range=spread)


def _over_rounds(what: str, setting: str, values: Sequence[float], bound: float | None) -> dict[str, Any]:
    """Largest value of all rounds where there is a bound, else their mean; some of them in the setting."""
    marks = sorted({1, 2, 3, len(values) // 2, len(values)} - {0})
    shown = ", ".join(f"{values[number - 1]:.2g}" for number in marks if number <= len(values))
    text = f"{setting}, digits; rounds {', '.join(map(str, marks))}: {shown}"
    value = max(values) if bound is not None else mean(values)
    name = f"{what}, {'largest of' if bound is not None else 'mean over'} {len(values)} rounds"
    return row(name, text, value, bound, range=[min(values), max(values)], rounds=list(values))
