# SPDX-License-Identifier: Apache-2.0
"""Orthogonalised low-rank momentum whose subspace is chosen among cosines (Trion)."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from eigenhub.linalg.newton_schulz import COEFFICIENTS
from eigenhub.optim.adamw import compute_dtype_of, state_dtype_of
from eigenhub.optim.base import MatrixOptimizer
from eigenhub.optim.batching import Item, make_batches
from eigenhub.optim.blocks import add_rows_
from eigenhub.optim.options import MATRIX, check_choice, check_flags, check_orthogonalised, check_subspace, dtype_name
from eigenhub.optim.trion_step import SCALES, TrionStep


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
        check_orthogonalised(group, least_steps=1)
        check_choice(group, "scale", SCALES)
        check_choice(group, "ns_coefficients", tuple(COEFFICIENTS))
        check_flags(group, "rank_rms_correction")

    # Inside of a compiled `step` as well: traced through, the writes into views of the transforms come out wrong.
    @torch.compiler.disable
    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor], lr: float) -> None:
        budget = self._budget(group, parameters[0].device)
        items = [self._item(parameter, group, budget) for parameter in parameters]

        def key(item: Item) -> tuple[Any, ...]:
            return (compute_dtype_of(item.parameter), item.state["indices"].shape[-1])

        cells = budget // compute_dtype_of(parameters[0]).itemsize
        for batch in make_batches(items, key, cells, group["foreach"]):
            TrionStep(self, group, batch, lr, budget).run()

    def _item(self, parameter: Tensor, group: dict[str, Any], budget: int) -> Item:
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
        # In the buffer's own precision, if that is half, the sum would lose small gradients.
        rows = add_rows_(buffer.to(dtype), gradient, budget, sign)
        return Item(parameter, state, layout, rows, fresh)
