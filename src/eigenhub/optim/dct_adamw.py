# SPDX-License-Identifier: Apache-2.0
"""AdamW with its moments in a subspace spanned by cosines (arXiv 2505.17967)."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from eigenhub.optim.adam_step import AdamStep
from eigenhub.optim.adamw import compute_dtype_of, state_dtype_of
from eigenhub.optim.base import MatrixOptimizer
from eigenhub.optim.batching import Item, make_batches
from eigenhub.optim.error_feedback import ERROR_FEEDBACK, create_error_feedback
from eigenhub.optim.layout import MatrixLayout
from eigenhub.optim.options import MATRIX, check_choice, check_count, check_flags, check_subspace, dtype_name


class DCTAdamW(MatrixOptimizer):
    r"""AdamW whose moments live in a low-dimensional subspace that costs no decomposition and is never stored.

    For a gradient $G$ (R, C) with R >= C the basis $B$ is one orthonormal cosine matrix of width C, shared by all layers of
    that width. Every `update_proj_gap` steps the columns of $S = GB$ with the largest norms are chosen, and Adam runs on
    these columns:

    $$a = S_{:,I}, \quad m \leftarrow \beta_1 m + (1-\beta_1)a, \quad v \leftarrow \beta_2 v + (1-\beta_2)a^2, \quad
    \theta \leftarrow (1 - \eta\lambda)\theta - \eta \frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon} B_I^\top.$$

    A wide matrix (R < C) is treated as its transpose. State per matrix: two moments (R, r), r indices and a step count; the
    transform is an FFT, or a product where that is faster. At small scale the cosines are no better aligned with gradients
    than a random basis (`basis="random"`); what is gained is that nothing has to be decomposed or stored.

    Parameters that are no matrices, and groups with `rank=None` or `algorithm="adamw"`, get plain AdamW. Make groups with
    [`build_param_groups`]: embeddings and heads should not be projected.

    Args:
        params (`Iterable`): parameters or groups; every option below may be set per group.
        lr (`float`, *optional*, defaults to 1e-3): step size.
        betas (`tuple[float, float]`, *optional*, defaults to `(0.9, 0.999)`): decay of the moments. With frequent changes of
            subspace a smaller second one (0.95 to 0.99) is advisable: a column that enters late has a moment of one step
            under a bias correction of many, which multiplies its step by up to $(1-\beta_1)/\sqrt{1-\beta_2}$.
        eps (`float`, *optional*, defaults to 1e-8): added to the root of the second moment.
        weight_decay (`float`, *optional*, defaults to 0.0): decoupled weight decay.
        rank (`int` or `float`, *optional*, defaults to 0.25): dimension of the subspace, as a number or as a fraction of the
            width; clamped to the width. `None`: plain AdamW.
        update_proj_gap (`int`, *optional*, defaults to 1): steps between two choices of the subspace.
        rotate (`bool`, *optional*, defaults to `True`): carry the moments of columns that stay chosen; `False` leaves the
            moments where they are, so that they meet other columns.
        error_feedback (`str`, *optional*): `"fp32"`, `"bf16"` or `"int8"` adds what a projection has left out to the next
            gradient, at the price of a buffer as large as the matrix. It makes consecutive subspaces avoid each other.
        basis (`str`, *optional*, defaults to `"dct2"`): `"dct2"`, `"dct3"`, or the controls `"random"` and `"identity"`.
        score_norm (`int`, *optional*, defaults to 1): 1 or 2; 2 gives the best subset, 1 is the authors' choice.
        transform (`str`, *optional*, defaults to `"auto"`): `"auto"`, `"fft"` or `"matmul"`; never changes the result but
            in rounding.
        project (`str`, *optional*, defaults to `"auto"`): `"right"` transforms rows, `"left"` columns, `"auto"` the shorter
            side. Under FSDP2 `"right"` needs no redistribution of wide matrices.
        residual (`str`, *optional*): `"fira"` adds the part of the gradient outside of the subspace, scaled row by row as
            Adam has scaled the inside, at the same memory. Not together with `error_feedback`.
        state_dtype (`torch.dtype` or `str`, *optional*): dtype of the moments; that of the parameter by default.
        maximize (`bool`, *optional*, defaults to `False`): go up instead of down.
        per_slot_bias_correction (`bool`, *optional*, defaults to `False`): count steps per column instead of per matrix.
        error_on_nonfinite (`bool`, *optional*, defaults to `False`): raise if a gradient with error feedback is not finite;
            otherwise such a matrix skips the step, with one warning, since the buffer would carry it for ever.
        foreach (`bool`, *optional*): `True` stacks equal matrices, `False` treats every matrix alone; by default they are
            stacked on accelerators and share only the transform on a CPU.
        compile (`bool`, *optional*, defaults to `False`): compile what happens inside the subspace.
        memory_budget (`int`, *optional*): bytes of the largest temporary; 16 MiB on CPUs, 256 MiB elsewhere. With error
            feedback the sum of one gradient and its feedback is held as well.
        algorithm (`str`, *optional*, defaults to `"matrix"`): `"adamw"` makes a group plain AdamW.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.optim import DCTAdamW
    >>> weight = torch.nn.Parameter(torch.ones(8, 4))
    >>> optimizer = DCTAdamW([weight], lr=0.1, rank=2)
    >>> weight.square().sum().backward()
    >>> optimizer.step()
    >>> optimizer.state[weight]["exp_avg"].shape
    torch.Size([8, 2])
    ```

    Reference: Modoranu et al., "SVD-Free Low-Rank Adaptive Gradient Optimization for Large Language Models"; the residual
    is that of Fira (Chen et al., 2024). The released code keeps its subspace outside of the state, destroys its moments
    when it rotates them in place, and quantises to 16 levels; here the state resumes exactly.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        rank: int | float | None = 0.25,
        update_proj_gap: int = 1,
        rotate: bool = True,
        error_feedback: str | None = None,
        basis: str = "dct2",
        score_norm: int = 1,
        transform: str = "auto",
        project: str = "auto",
        residual: str | None = None,
        state_dtype: torch.dtype | str | None = None,
        maximize: bool = False,
        per_slot_bias_correction: bool = False,
        error_on_nonfinite: bool = False,
        foreach: bool | None = None,
        compile: bool = False,
        memory_budget: int | None = None,
        algorithm: str = MATRIX,
    ) -> None:
        defaults = {name: value for name, value in locals().items() if name not in ("self", "params", "__class__")}
        super().__init__(params, defaults | {"state_dtype": dtype_name(state_dtype)})

    def is_matrix_group(self, group: dict[str, Any]) -> bool:
        return super().is_matrix_group(group) and group["rank"] is not None

    def _check_group(self, group: dict[str, Any]) -> None:
        check_subspace(group)
        check_count(group, "update_proj_gap", 1)
        check_flags(group, "rotate", "per_slot_bias_correction", "error_on_nonfinite", "compile")
        check_choice(group, "error_feedback", (None, *ERROR_FEEDBACK))
        check_choice(group, "residual", (None, "fira"))
        if group["residual"] is not None and group["error_feedback"] is not None:
            raise ValueError("`residual` and `error_feedback` both use what the projection leaves out: choose one")
        if group["residual"] is not None and group["per_slot_bias_correction"]:
            raise ValueError(
                "`residual` is defined for one bias correction per matrix: drop `per_slot_bias_correction`"
            )

    # Inside of a compiled `step` as well: traced through, the writes into views of the transforms come out wrong.
    @torch.compiler.disable
    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor], lr: float) -> None:
        items = [self._item(parameter, group) for parameter in parameters]
        torch._foreach_add_([item.state["step"] for item in items], 1)

        def key(item: Item) -> tuple[Any, ...]:
            return (item.state["step"].item(), compute_dtype_of(item.parameter), item.state["indices"].shape[-1])

        budget = self._budget(group, parameters[0].device)
        cells = budget // compute_dtype_of(parameters[0]).itemsize
        for batch in make_batches(items, key, cells, group["foreach"]):
            AdamStep(self, group, batch, lr, budget).run()

    def _item(self, parameter: Tensor, group: dict[str, Any]) -> Item:
        state = self.state[parameter]
        layout = self._layout(parameter, group["project"])
        rows = layout.view(cast(Tensor, parameter.grad))
        if not state:
            self._create_state(parameter, state, layout, rows.shape[:2], group)
        return Item(parameter, state, layout, -rows if group["maximize"] else rows)

    def _create_state(
        self, parameter: Tensor, state: dict[str, Any], layout: MatrixLayout, extent: torch.Size, group: dict[str, Any]
    ) -> None:
        rank = layout.rank(group["rank"])
        dtype = state_dtype_of(parameter, group["state_dtype"])
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"] = layout.zeros(extent, rank, dtype)
        state["exp_avg_sq"] = layout.zeros(extent, rank, dtype)
        state["indices"] = layout.per_matrix(extent, rank, torch.int64)
        layout.matrix_view(state["indices"]).copy_(torch.arange(rank))  # any set will do for moments of zero
        if group["error_feedback"] is not None:
            create_error_feedback(state, layout, extent, group["error_feedback"])
        if group["residual"] is not None:
            state["residual_norm"] = layout.per_matrix(extent, None, torch.float32)
        if group["per_slot_bias_correction"]:
            state["slot_steps"] = layout.per_matrix(extent, rank, torch.float32)
