# SPDX-License-Identifier: Apache-2.0
"""Factories for `Trainer(optimizer_cls_and_kwargs=(Factory, kwargs))`: they see the model, not bare parameters."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from eigenhub.optim.auon import AuON, HybridAuON
from eigenhub.optim.base import MatrixOptimizer
from eigenhub.optim.dct_adamw import DCTAdamW
from eigenhub.optim.groups import build_param_groups
from eigenhub.optim.trion import Trion


if TYPE_CHECKING:
    from transformers import TrainingArguments

GROUP_OPTIONS = tuple(name for name in inspect.signature(build_param_groups).parameters if name != "model")


def factory_kwargs_from(args: "TrainingArguments") -> dict[str, Any]:
    """Step size, weight decay, betas and eps of the training arguments, which `Trainer` does not hand to factories.

    Args:
        args (`TrainingArguments`): arguments of the run.

    Returns:
        `dict`: keyword arguments for a factory, to be joined with its own.
    """
    return {
        "lr": args.learning_rate,
        "weight_decay": args.weight_decay,
        "betas": (args.adam_beta1, args.adam_beta2),
        "eps": args.adam_epsilon,
    }


def make_optimizer(optimizer: type[MatrixOptimizer], model: nn.Module, options: Mapping[str, Any]) -> MatrixOptimizer:
    """An optimizer on the groups of [`build_param_groups`].

    Args:
        optimizer (`type`): class of the optimizer.
        model (`nn.Module`): what is trained.
        options (`Mapping[str, Any]`): options of the groups and of the optimizer, told apart by name; `rank` is an
            optimizer option, so that the AdamW groups show it too.
    """
    group_options = {k: v for k, v in options.items() if k in GROUP_OPTIONS and k != "rank"}
    own = {k: v for k, v in options.items() if k not in group_options}
    return optimizer(build_param_groups(model, **group_options), **own)


class MatrixOptimizerFactory:
    """Base of the factories; `Trainer` makes one without arguments and calls it with the model and the keywords."""

    optimizer: ClassVar[type[MatrixOptimizer]]

    def __call__(self, model: nn.Module, **kwargs: Any) -> MatrixOptimizer:
        """The optimizer for a model.

        Args:
            model (`nn.Module`): what is trained.
            kwargs (`Any`): options of the optimizer and of [`build_param_groups`]. `Trainer` passes on nothing from its
                arguments: state `lr` here, or take [`factory_kwargs_from`].
        """
        return make_optimizer(self.optimizer, model, kwargs)


class DCTAdamWFactory(MatrixOptimizerFactory):
    """Makes a [`DCTAdamW`].

    Example:

    ```python
    >>> from eigenhub.optim import DCTAdamWFactory
    >>> optimizer_cls_and_kwargs = (DCTAdamWFactory, {"lr": 1e-3, "rank": 0.25})  # for Trainer(...)
    ```
    """

    optimizer = DCTAdamW


class TrionFactory(MatrixOptimizerFactory):
    """Makes a [`Trion`]; give `lr_aux`, the step size of everything that is no matrix."""

    optimizer = Trion


class AuONFactory(MatrixOptimizerFactory):
    """Makes an [`AuON`], or with `ns_steps` above 0 a [`HybridAuON`]; give `lr_aux`."""

    optimizer = AuON

    def __call__(self, model: nn.Module, **kwargs: Any) -> MatrixOptimizer:
        return make_optimizer(HybridAuON if kwargs.get("ns_steps") else AuON, model, kwargs)
