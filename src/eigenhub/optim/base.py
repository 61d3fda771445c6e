# SPDX-License-Identifier: Apache-2.0
"""What the optimizers share: one object for matrices and AdamW parameters, whose state survives a reload as it is."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from eigenhub.optim.adamw import adamw_step
from eigenhub.optim.blocks import default_budget
from eigenhub.optim.layout import MatrixLayout
from eigenhub.optim.options import ADAMW, check_adamw
from eigenhub.optim.sharding import first_flattened


class MatrixOptimizer(Optimizer):
    """Base of the optimizers that treat matrices (2-D parameters and 3-D stacks) in a way of their own.

    Every option is a key of the parameter group. All other parameters, and groups with `algorithm="adamw"`, get AdamW with
    the `lr`, `betas`, `eps` and `weight_decay` of their group. State is created at the first gradient of each parameter
    and holds tensors only.

    Attributes:
        collect_statistics (`bool`): whether steps fill [`~MatrixOptimizer.statistics`].
        skipped_steps (`int`): how often a matrix has sat out a step because its gradient was not finite.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._prepare()
        super().__init__(params, defaults)

    def _prepare(self) -> None:
        self.collect_statistics = False
        self._statistics: dict[Tensor, dict[str, Tensor | float]] = {}
        self._layouts: dict[Tensor, MatrixLayout] = {}
        self._had_matrices: list[bool] = []
        self.skipped_steps = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_layouts" not in self.__dict__:  # unpickled or copied: __init__ has not run, and only the state travels
            self._prepare()
        super().__setstate__(state)
        for group in self.param_groups:  # a state that was saved before an option existed
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        self._had_matrices = [any(p.ndim >= 2 for p in group["params"]) for group in self.param_groups]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options are checked here, its parameters when they have gradients."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            check_adamw(group)
            self._check_group(group)
        except (ValueError, TypeError):
            self.param_groups.pop()
            raise
        self._had_matrices.append(any(p.ndim >= 2 for p in group["params"]))

    @abstractmethod
    def _check_group(self, group: dict[str, Any]) -> None:
        """Raise `ValueError` for options that this optimizer does not take."""

    @abstractmethod
    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor], lr: float) -> None:
        """Update the matrices of one group, all of which have gradients."""

    def is_matrix_group(self, group: dict[str, Any]) -> bool:
        """Whether the matrices of a group get this optimizer's own rule."""
        return group["algorithm"] != ADAMW

    def takes(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        """Whether a parameter of a matrix group gets this optimizer's own rule, rather than AdamW."""
        return parameter.ndim in (2, 3)

    def refuse_flattened(self, group: dict[str, Any], had_matrices: bool) -> None:
        """Raise if the matrices of a group are now vectors: they would silently become AdamW parameters."""
        parameters = group["params"]
        if first_flattened(parameters) is not None or (had_matrices and all(p.ndim < 2 for p in parameters)):
            raise RuntimeError(
                "the matrices of this group have been flattened to vectors (FSDP1 or DeepSpeed ZeRO), so there is nothing "
                "left to treat as a matrix: use FSDP2 (`fully_shard`, `fsdp_version: 2`), DDP or `ZeroRedundancyOptimizer`"
            )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient; gradients are only read.

        Args:
            closure (`Callable`, *optional*): evaluates the model again and returns the loss.

        Returns:
            The loss of `closure`, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._statistics.clear()
        for group, had_matrices in zip(self.param_groups, self._had_matrices, strict=True):
            if self.is_matrix_group(group):
                self.refuse_flattened(group, had_matrices)
            self.step_parameters(group, [p for p in group["params"] if p.grad is not None])
        return loss

    def step_parameters(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update some parameters of one group.

        Args:
            group (`dict`): the group.
            parameters (`list[Tensor]`): those of its parameters that have gradients.
        """
        _refuse_unusual(parameters)
        lr = float(group["lr"])
        own = self.is_matrix_group(group)
        matrices = [p for p in parameters if own and self.takes(p, group)]
        chosen = set(matrices)
        others = [p for p in parameters if p not in chosen]
        if others:
            adamw_step(others, [self.state[p] for p in others], group, lr)
        if matrices:
            self._step_matrices(group, matrices, lr)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; every tensor keeps the dtype it was saved in.

        The base class casts all of them to the dtype of the parameter, which turns column 1025 into 1024 for bf16 weights.

        Args:
            state_dict (`dict`): from [`~torch.optim.Optimizer.state_dict`].
        """
        super().load_state_dict(state_dict)
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for i, parameter in zip(ids, parameters, strict=True):
            for key, value in state_dict["state"].get(i, {}).items():
                if torch.is_tensor(value):
                    device = value.device if key == "step" else parameter.device
                    self.state[parameter][key] = value.detach().to(device, copy=True)

    def statistics(self) -> dict[Tensor, dict[str, float]]:
        """What the last step did to each matrix, if `collect_statistics` was set before it.

        Returns:
            `dict`: by parameter, named numbers.
        """
        return {p: {name: float(value) for name, value in row.items()} for p, row in self._statistics.items()}

    def _layout(self, parameter: Tensor, project: str) -> MatrixLayout:
        layout = self._layouts.get(parameter)
        if layout is None or not layout.fits(parameter, project):
            layout = self._layouts[parameter] = MatrixLayout(parameter, project)
        return layout

    def _budget(self, group: dict[str, Any], device: torch.device) -> int:
        return group["memory_budget"] or default_budget(device)

    def record(self, parameter: Tensor, row: dict[str, Tensor | float]) -> None:
        """Add numbers to the statistics of one parameter."""
        self._statistics.setdefault(parameter, {}).update(row)

    def note_skipped(self, count: int) -> None:
        """Count matrices that sat out this step, and warn the first time."""
        if self.skipped_steps == 0:
            warnings.warn(
                f"{count} gradients with error feedback are not finite: these matrices skip the step (reported once; see "
                "`skipped_steps`)",
                stacklevel=2,
            )
        self.skipped_steps += count


def _refuse_unusual(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        if parameter.is_complex():
            raise TypeError(f"complex parameters are not supported, got {parameter.dtype}: train two real ones")
        if parameter.grad is not None and parameter.grad.is_sparse:
            raise TypeError("sparse gradients are not supported: use `torch.optim.SparseAdam` for this parameter")
