# SPDX-License-Identifier: Apache-2.0
"""Orthogonalised low-rank momentum whose subspace is chosen among cosines (Trion)."""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from eigenhub.linalg.newton_schulz import COEFFICIENTS, newton_schulz, newton_schulz_factor
from eigenhub.optim.adamw import compute_dtype_of, state_dtype_of
from eigenhub.optim.base import MatrixOptimizer
from eigenhub.optim.batching import Item, Run, make_batches
from eigenhub.optim.options import MATRIX, check_choice, check_count, check_range, check_subspace, dtype_name
from eigenhub.optim.subspace_step import SubspaceStep


SCALES = ("spectral", "none", "match_rms_adamw", "dion")


def shape_scale(scale: str, rows: int, columns: int) -> float:
    """Factor of the step size for a weight that maps `columns` inputs to `rows` outputs.

    Args:
        scale (`str`): `"spectral"` sqrt(max(1, R/C)); `"none"` 1; `"match_rms_adamw"` 0.2 sqrt(max(R, C)); `"dion"`
            sqrt(R/C).
        rows (`int`): R, outputs.
        columns (`int`): C, inputs.
    """
    if scale == "spectral":
        return math.sqrt(max(1.0, rows / columns))
    if scale == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    if scale == "dion":
        return math.sqrt(rows / columns)
    if scale == "none":
        return 1.0
    raise ValueError(f"`scale` must be one of {', '.join(SCALES)}, got {scale!r}")


class Trion(MatrixOptimizer):
    r"""Dion with the power iteration and its QR replaced by a choice of cosines and a Newton-Schulz iteration.

    With momentum $M$, gradient $G$ and the cosine basis $B$ of [`DCTAdamW`], every step does

    $$\tilde B = M + G, \quad b = (\tilde B B)_{:,I}, \quad M \leftarrow \tilde B - (1 - \mu)\, b B_I^\top, \quad
    \theta \leftarrow (1 - \eta\lambda)\theta - \eta\, s(R, C)\, \mathrm{NS}(b)\, B_I^\top,$$

    where NS approximates the polar factor of the narrow matrix $b$ (R, r). What is not chosen stays in $M$ undiminished
    until it is. The state is one full momentum buffer, as in Muon; what is saved against Dion and Muon is computation.

    Parameters that are no matrices, and groups with `rank=None` or `algorithm="adamw"`, get AdamW; its step size should be
    far smaller than that of the matrices, so make groups with [`build_param_groups`].

    Args:
        params (`Iterable`): parameters or groups; every option below may be set per group.
        lr (`float`, *optional*, defaults to 0.01): step size. The root mean square of an update grows with
            sqrt(r / min(R, C)), so it does not carry over between ranks, unless `rank_rms_correction` is on.
        momentum (`float`, *optional*, defaults to 0.95): what is left in the buffer of the chosen part, in [0, 1).
        weight_decay (`float`, *optional*, defaults to 0.01): decoupled weight decay.
        rank (`int` or `float`, *optional*, defaults to 0.25): as in [`DCTAdamW`].
        scale (`str`, *optional*, defaults to `"spectral"`): see [`shape_scale`].
        rank_rms_correction (`bool`, *optional*, defaults to `False`): divide by sqrt(r / min(R, C)).
        ns_steps (`int`, *optional*, defaults to 5): Newton-Schulz iterations.
        ns_coefficients (`str`, *optional*, defaults to `"fixed"`): `"fixed"` or `"per_step"`.
        ns_dtype (`torch.dtype` or `str`, *optional*): dtype of the iteration; float32 by default. `"bfloat16"` is quicker
            on accelerators and amplifies rounding in directions that `b` does not have.
        transposed (`bool`, *optional*, defaults to `False`): weights of this group are stored as (inputs, outputs), as in
            GPT-2's `Conv1D`.
        betas (`tuple[float, float]`, *optional*, defaults to `(0.9, 0.95)`): AdamW's, for the other parameters.
        eps (`float`, *optional*, defaults to 1e-10): AdamW's.
        basis (`str`, *optional*, defaults to `"dct2"`): as in [`DCTAdamW`].
        score_norm (`int`, *optional*, defaults to 1): as in [`DCTAdamW`].
        transform (`str`, *optional*, defaults to `"auto"`): as in [`DCTAdamW`].
        project (`str`, *optional*, defaults to `"auto"`): as in [`DCTAdamW`].
        state_dtype (`torch.dtype` or `str`, *optional*): dtype of the momentum; that of the parameter by default.
        maximize (`bool`, *optional*, defaults to `False`): go up instead of down.
        foreach (`bool`, *optional*): `True` stacks equal matrices, `False` treats every matrix alone; by default they are
            stacked on accelerators and share only the transform on a CPU.
        memory_budget (`int`, *optional*): bytes of the largest temporary; 16 MiB on CPUs, 256 MiB elsewhere.
        algorithm (`str`, *optional*, defaults to `"matrix"`): `"adamw"` makes a group plain AdamW.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.optim import Trion
    >>> weight = torch.nn.Parameter(torch.ones(8, 4))
    >>> optimizer = Trion([weight], rank=2)
    >>> weight.square().sum().backward()
    >>> optimizer.step()
    >>> optimizer.state[weight]["momentum_buffer"].shape
    torch.Size([8, 4])
    ```

    Reference: arXiv 2505.17967, later versions. The released class stops on undefined names at its first step, and in its
    FFT mode reconstructs wide matrices from the wrong vectors.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        rank: int | float | None = 0.25,
        scale: str = "spectral",
        rank_rms_correction: bool = False,
        ns_steps: int = 5,
        ns_coefficients: str = "fixed",
        ns_dtype: torch.dtype | str | None = None,
        transposed: bool = False,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-10,
        basis: str = "dct2",
        score_norm: int = 1,
        transform: str = "auto",
        project: str = "auto",
        state_dtype: torch.dtype | str | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        memory_budget: int | None = None,
        algorithm: str = MATRIX,
    ) -> None:
        defaults = {name: value for name, value in locals().items() if name not in ("self", "params", "__class__")}
        names = {"state_dtype": dtype_name(state_dtype), "ns_dtype": dtype_name(ns_dtype)}
        super().__init__(params, defaults | names)

    def is_matrix_group(self, group: dict[str, Any]) -> bool:
        return super().is_matrix_group(group) and group["rank"] is not None

    def _check_group(self, group: dict[str, Any]) -> None:
        check_subspace(group)
        check_range(group, "momentum", 0.0, 1.0, open_end=True)
        check_choice(group, "scale", SCALES)
        check_count(group, "ns_steps", 1)
        check_choice(group, "ns_coefficients", tuple(COEFFICIENTS))
        check_choice(group, "ns_dtype", (None, "float32", "bfloat16", "float16", "float64"))

    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor], lr: float) -> None:
        items = [self._item(parameter, group) for parameter in parameters]

        def key(item: Item) -> tuple[Any, ...]:
            return (compute_dtype_of(item.parameter), item.state["indices"].shape[-1])

        budget = self._budget(group, parameters[0].device)
        cells = budget // compute_dtype_of(parameters[0]).itemsize
        for batch in make_batches(items, key, cells, group["foreach"]):
            TrionStep(self, group, batch, lr, budget).run()

    def _item(self, parameter: Tensor, group: dict[str, Any]) -> Item:
        state = self.state[parameter]
        layout = self._layout(parameter, group["project"])
        gradient = layout.view(cast(Tensor, parameter.grad))
        fresh = not state
        if fresh:
            rank = layout.rank(group["rank"])
            dtype = state_dtype_of(parameter, group["state_dtype"])
            state["momentum_buffer"] = layout.zeros(gradient.shape[:2], layout.width, dtype)
            state["indices"] = layout.per_matrix(gradient.shape[:2], rank, torch.int64)
        buffer = layout.view(state["momentum_buffer"])
        dtype = compute_dtype_of(parameter)
        sign = -1 if group["maximize"] else 1
        if buffer.dtype == dtype:
            rows = buffer.add_(gradient, alpha=sign)
        else:  # in the buffer's own precision the sum would lose small gradients
            rows = torch.add(buffer.to(dtype), gradient, alpha=sign)
        return Item(parameter, state, layout, rows, fresh)


class TrionStep(SubspaceStep):
    """One step of one batch; the rows of its items are momentum plus gradient."""

    def run(self) -> None:
        """Update state and parameters."""
        if not self.batch.runs:
            return
        self.project(choose=True)
        directions = self._orthogonalised()
        if self.optimizer.collect_statistics:
            self.collect(directions, self.lr, first=self.batch.items[0].fresh)
        self.expand(self.inside, self._keep_momentum)
        self.decay()
        self.expand(directions, self._add)

    def _orthogonalised(self) -> list[Tensor]:
        steps, coefficients = self.group["ns_steps"], self.group["ns_coefficients"]
        if self.batch.sharding is None:
            dtype = getattr(torch, self.group["ns_dtype"]) if self.group["ns_dtype"] else None
            return [newton_schulz(b, steps, coefficients, dtype) for b in self.inside]
        # Rows lie on several processes: their Gram matrix is all that has to be known in common.
        gram = self.batch.sum_(torch.cat([b.mT @ b for b in self.inside]))
        factors = self.per_run(newton_schulz_factor(gram, steps, coefficients))
        return [b @ factor for b, factor in zip(self.inside, factors, strict=True)]

    def _keep_momentum(self, run: Run, piece: slice, inside: Tensor) -> None:
        for item, part in zip(run.items, inside.split(run.counts), strict=True):
            stored = item.layout.view(item.state["momentum_buffer"])[:, piece]
            rows = item.rows[:, piece]
            if stored.data_ptr() == rows.data_ptr() and stored.dtype == rows.dtype:
                stored.add_(part, alpha=self.group["momentum"] - 1)
            else:
                stored.copy_(rows.add(part, alpha=self.group["momentum"] - 1))

    def _add(self, run: Run, piece: slice, update: Tensor) -> None:
        for item, part in zip(run.items, update.split(run.counts), strict=True):
            item.layout.add_(item.parameter, part, piece.start, -self.lr * self._scale(item))

    def _scale(self, item: Item) -> float:
        rows, columns = item.layout.shape[-2:]
        if self.group["transposed"]:
            rows, columns = columns, rows
        scale = shape_scale(self.group["scale"], rows, columns)
        if self.group["rank_rms_correction"]:
            scale /= math.sqrt(self.indices.shape[-1] / min(rows, columns))
        return scale
