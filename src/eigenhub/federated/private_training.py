# SPDX-License-Identifier: Apache-2.0
"""Differentially private training of one client for one round (DP-SGD by Opacus)."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from eigenhub.federated.accounting import poisson_rate
from eigenhub.federated.dp_config import DPConfig, check_count
from eigenhub.federated.extras import require
from eigenhub.federated.per_example_loss import ComputeLoss, check_losses, per_example_loss
from eigenhub.federated.private_checks import check_optimizer, check_private_data, check_private_model
from eigenhub.federated.private_engine import PrivateEngine, private_engine
from eigenhub.federated.private_sampling import poisson_loader, random_stream


OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
LABELS = ("labels", "label")


@dataclass(frozen=True)
class PrivateRun:
    """What a client did in one round.

    Args:
        steps (`int`): private steps, those of empty batches among them; what the ledger records.
        sample_rate (`float`): probability of each example to be in a batch.
        noise_multiplier (`float`): noise over clipping norm.
        metrics (`dict[str, float]`, *optional*): `train_loss`, the mean over all examples seen, if it is asked for; it is
            computed on private data and not protected.
    """

    steps: int
    sample_rate: float
    noise_multiplier: float
    metrics: dict[str, float] = field(default_factory=dict)


def train_privately(
    model: nn.Module,
    dataset: Any,
    data_collator: Callable[[list[Any]], Any],
    optimizer_factory: OptimizerFactory,
    *,
    dp: DPConfig,
    noise_multiplier: float,
    num_steps: int,
    batch_size: int,
    device: torch.device | str,
    compute_loss: ComputeLoss | None = None,
    stream_key: Sequence[int] = (),
    report_metrics: bool = False,
) -> PrivateRun:
    r"""Train everything trainable in `model` by `num_steps` steps of DP-SGD.

    A step on a Poisson batch \\(S\\) of rate \\(q = \min(1, B / n)\\) uses
    \\(\frac{1}{qn} (\sum_{i \in S} g_i \min(1, C / \|g_i\|) + \sigma C \xi)\\) with standard normal \\(\xi\\), also if
    \\(S\\) is empty: a step left out would tell so. The norm is that of all trainable parameters together. Afterwards the
    model has its old training mode, no gradients and no hooks. Autocast is off inside.

    Args:
        model (`nn.Module`): a PEFT model, or another, on `device`. Trainable parameters must be in float32.
        dataset (`Any`): the client's examples, with a length and items.
        data_collator (`Callable[[list], Mapping]`): makes the model's arguments, with `labels`, from one or more examples.
        optimizer_factory (`Callable[[list[nn.Parameter]], Optimizer]`): makes the optimizer over all trainable parameters.
        dp (`DPConfig`): clipping norm, mode, physical batch size and seed.
        noise_multiplier (`float`): noise over clipping norm, from [`~PrivacyLedger.noise_multiplier`].
        num_steps (`int`): optimizer steps.
        batch_size (`int`): expected size B of a batch, unless `dp` has `expected_batch_size`.
        device (`torch.device` or `str`): where to train.
        compute_loss (`Callable[[Any, Any], Tensor]`, *optional*): `(outputs, labels) -> losses [batch]`; by default that
            of [`per_example_loss`].
        stream_key (`Sequence[int]`, *optional*): with a seed in `dp`, numbers such as round and client that give each call
            noise of its own.
        report_metrics (`bool`, *optional*, defaults to `False`): also return the mean loss, which is not private.

    Returns:
        [`PrivateRun`]: nothing that depends on the data unless metrics are asked for.

    Raises:
        ValueError: before the first step, for batch normalisation, gradient checkpointing, compiled models, several
            processes, shared weights, layers without per-example gradients, and optimizers over other parameters.
        ImportError: without the extra `dp`.

    Reference: Abadi et al. 2016, arXiv 1607.00133.
    """
    require("opacus", "Private training")
    device = torch.device(device)
    examples = check_private_data(dataset)
    check_count("num_steps", num_steps)
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError(f"`noise_multiplier` must be a number of at least 0, got {noise_multiplier!r}")
    trainable = check_private_model(model, device)
    compute_loss = compute_loss or per_example_loss(model)
    optimizer = optimizer_factory(list(trainable.values()))
    check_optimizer(optimizer, trainable)
    rate = poisson_rate(dp.batch_size(batch_size), len(examples))
    draws = random_stream("cpu", dp.seed, (*stream_key, 0))
    loader = poisson_loader(examples, data_collator, rate, num_steps, draws)
    noise = random_stream(next(iter(trainable.values())).device, dp.seed, (*stream_key, 1))
    expected = min(dp.batch_size(batch_size), len(examples))
    with (
        _training(model, device),
        private_engine(model, trainable, optimizer, loader, dp, noise_multiplier, expected, noise) as engine,
    ):
        metrics = _run(engine, loader, dp.physical_batch_size, compute_loss, device, report_metrics)
    if engine.steps != num_steps:
        raise RuntimeError(f"{engine.steps} private steps were taken where {num_steps} were due")
    return PrivateRun(engine.steps, rate, noise_multiplier, metrics)


def _run(
    engine: PrivateEngine,
    loader: DataLoader,
    physical_batch_size: int | None,
    compute_loss: ComputeLoss,
    device: torch.device,
    report_metrics: bool,
) -> dict[str, float]:
    """All steps; their mean loss if it is asked for and a batch had examples."""
    total, seen = torch.zeros((), device=device), 0
    with _in_parts(engine, loader, physical_batch_size) as parts:
        for count, batch in parts:
            if count:
                losses = _losses(engine.model, batch, count, compute_loss, device)
                engine.backward(losses)
                if report_metrics:
                    total, seen = total + losses.detach().sum(), seen + count
            else:
                engine.empty_batch()
            engine.step()
    return {"train_loss": float(total) / seen} if seen else {}


def _losses(model: nn.Module, batch: Any, count: int, compute_loss: ComputeLoss, device: torch.device) -> Tensor:
    """Losses `[count]` of a physical batch."""
    if not isinstance(batch, Mapping):
        raise ValueError(f"`data_collator` must return a mapping of the model's arguments, got {type(batch).__name__}")
    inputs = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    labels = next((inputs.pop(name) for name in LABELS if name in inputs), None)
    try:
        outputs = model(**inputs)
    except NotImplementedError as error:
        if "Parameter tying" not in str(error):
            raise
        raise ValueError(
            "`model` applies a trainable layer more than once, which ghost clipping cannot do: set "
            "`grad_sample_mode='hooks'`"
        ) from error
    return check_losses(compute_loss(outputs, labels), count)


def _in_parts(engine: PrivateEngine, loader: DataLoader, physical_batch_size: int | None) -> Any:
    """A context with the loader, or one that splits its batches and has the optimizer step after the last part only."""
    if physical_batch_size is None:
        return nullcontext(loader)
    manager = require("opacus.utils.batch_memory_manager", "Private training").BatchMemoryManager
    return manager(data_loader=loader, max_physical_batch_size=physical_batch_size, optimizer=engine.optimizer)


@contextmanager
def _training(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Training mode with gradients and without autocast; every module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False), warnings.catch_warnings():
            # inputs of the first adapters need no gradient, those of their weights are right all the same
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield
    finally:
        for module, mode in modes:
            module.training = mode
