# SPDX-License-Identifier: Apache-2.0
"""Opacus around a model that stays as it is: clipped, noised steps and nothing left behind."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.extras import require


class PerExampleLosses:
    """The criterion of ghost clipping: losses come one per example already; `reduction` is what Opacus asks for."""

    reduction = "mean"

    def __call__(self, losses: Tensor) -> Tensor:
        return losses


class PrivateEngine:
    """Steps of DP-SGD on the trainable parameters of one model.

    Args:
        model (`nn.Module`): in training mode; hooks are put on it until [`~PrivateEngine.close`].
        trainable (`dict[str, nn.Parameter]`): its trainable parameters by name.
        optimizer (`torch.optim.Optimizer`): over exactly these.
        loader (`DataLoader`): of Poisson batches.
        dp (`DPConfig`): clipping norm and mode.
        noise_multiplier (`float`): noise over clipping norm.
        expected_batch_size (`float`): what the sum of clipped gradients is divided by.
        generator (`torch.Generator`): source of the noise, on the device of the parameters.

    Attributes:
        steps (`int`): optimizer steps taken.
    """

    def __init__(
        self,
        model: nn.Module,
        trainable: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        loader: DataLoader,
        dp: DPConfig,
        noise_multiplier: float,
        expected_batch_size: float,
        generator: torch.Generator,
    ) -> None:
        self.model = model
        self.trainable = trainable
        self.steps = 0
        self._ghost = dp.grad_sample_mode == "ghost"
        self._start: list[Tensor] = []
        opacus = require("opacus", "Private training")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Secure RNG turned off")
            engine = opacus.PrivacyEngine()
        # The loader draws Poisson batches already, at the exact rate; Opacus would round it to 1 over a whole number.
        hooks, private, *criterion, _ = engine.make_private(
            module=model,
            optimizer=optimizer,
            criterion=PerExampleLosses(),
            data_loader=loader,
            noise_multiplier=noise_multiplier,
            max_grad_norm=dp.max_grad_norm,
            poisson_sampling=False,
            noise_generator=generator,
            grad_sample_mode=dp.grad_sample_mode,
            wrap_model=False,
        )
        hooks.forbid_grad_accumulation()
        private.expected_batch_size = expected_batch_size
        private.attach_step_hook(self._count)  # instead of the engine's accountant, which would know one round only
        self._hooks, self.optimizer = hooks, private
        self._criterion = criterion[0] if criterion else None

    def backward(self, losses: Tensor) -> None:
        """Gradients of every example.

        Args:
            losses (`Tensor` of shape `[examples]`): one loss per example of the physical batch.

        Raises:
            ValueError: for a parameter without a gradient, and for layers that do not see one row per example.
        """
        if not losses.requires_grad:
            raise ValueError("losses do not depend on any trainable parameter: is the adapter merged or disabled?")
        if self._criterion is None:
            losses.mean().backward()
            sizes = {name: _rows(getattr(p, "grad_sample", None)) for name, p in self.trainable.items()}
        else:
            try:
                self._criterion(losses).backward()
            except (AttributeError, RuntimeError) as error:
                # missing norms and norms of different lengths: tell which below, and pass on what is neither
                self._check_rows(self._norm_rows(), len(losses), error)
                raise
            sizes = self._norm_rows()
        self._check_rows(sizes, len(losses))

    def empty_batch(self) -> None:
        """Gradients of no example: the step that follows is noise alone."""
        for parameter in self.trainable.values():
            if self._ghost:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))  # type: ignore[attr-defined]

    def step(self) -> None:
        """Clip, and at the end of a batch add noise, divide, and move the parameters.

        Raises:
            RuntimeError: if the first step changes nothing, as when the optimizer holds other tensors than the model.
        """
        first = self.steps == 0
        self.optimizer.step()
        if first and self._start and self._can_move():
            if all(torch.equal(before, now) for before, now in zip(self._start, self.trainable.values(), strict=True)):
                raise RuntimeError("the first private step changed no parameter, although its gradient is not zero")
        self.optimizer.zero_grad()
        for parameter in self.trainable.values():
            # of the batch just done; kept, they could pass for those of a layer that the next batch does not use
            parameter.__dict__.pop("_norm_sample", None)

    def close(self) -> None:
        """Take hooks and all per-example values off the model, and the noisy gradients too."""
        self._hooks.cleanup()
        strip(self.model)

    def _count(self, _: Any) -> None:
        """Called by the optimizer once per noisy step, after the noise and before the parameters move."""
        self.steps += 1
        moving = any(p.grad is not None and bool(p.grad.any()) for p in self.trainable.values())
        self._start = [p.detach().clone() for p in self.trainable.values()] if self.steps == 1 and moving else []

    def _can_move(self) -> bool:
        return any(float(group.get("lr", 1.0)) > 0 for group in self.optimizer.param_groups)

    def _norm_rows(self) -> dict[str, int]:
        return {name: _rows(getattr(p, "_norm_sample", None)) for name, p in self.trainable.items()}

    def _check_rows(self, sizes: dict[str, int], count: int, cause: Exception | None = None) -> None:
        for name, rows in sizes.items():
            if rows < 0:
                raise ValueError(
                    f"{name} got no gradient: is its adapter merged, disabled or not used by this batch?"
                ) from cause
            if rows != count:
                raise ValueError(
                    f"the layer of {name} sees {rows} rows in a batch of {count} examples: its input must have one row per "
                    "example in front, or the gradients of examples cannot be told apart"
                ) from cause


@contextmanager
def private_engine(model: nn.Module, *args: Any, **kwargs: Any) -> Iterator[PrivateEngine]:
    """A [`PrivateEngine`] that is closed in any case.

    Args:
        model (`nn.Module`): the model, in training mode.
        args (`Any`): further arguments of [`PrivateEngine`].
        kwargs (`Any`): the same by name.
    """
    engine = None
    try:
        engine = PrivateEngine(model, *args, **kwargs)
        yield engine
    finally:
        if engine is not None:
            engine.close()
        else:
            strip(model)


def strip(model: nn.Module) -> None:
    """Remove what Opacus may leave on a model when a step is broken off: activations and gradients of examples.

    Args:
        model (`nn.Module`): the model.
    """
    for module in model.modules():
        for handle in module.__dict__.pop("autograd_grad_sample_hooks", []):
            handle.remove()
        for name in ("activations", "max_batch_len", "ft_compute_sample_grad"):
            module.__dict__.pop(name, None)
    for parameter in model.parameters():
        for name in ("grad_sample", "summed_grad", "_norm_sample", "_current_grad_sample", "_forward_counter"):
            parameter.__dict__.pop(name, None)
        if parameter.requires_grad:
            parameter.grad = None


def _rows(values: Any) -> int:
    """Length of the first dimension, -1 if there is nothing."""
    return len(values) if isinstance(values, Tensor) else -1
