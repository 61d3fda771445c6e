# SPDX-License-Identifier: Apache-2.0
"""Momentum scaled by the root mean square of a cosh (AuON), plain or after Newton-Schulz steps (arXiv 2509.24320)."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from eigenhub.optim.adamw import compute_dtype_of, state_dtype_of
from eigenhub.optim.auon_step import AuonStep
from eigenhub.optim.base import MatrixOptimizer
from eigenhub.optim.brake import MAX_GAMMA
from eigenhub.optim.options import (
    MATRIX,
    check_choice,
    check_count,
    check_flags,
    check_orthogonalised,
    check_range,
    dtype_name,
)
from eigenhub.optim.sharding import first_flattened, zeros_beside


VARIANTS = ("normalized", "package", "rms")
ADJUSTMENTS = (None, "none", "original", "match_rms_adamw")
DEFAULT_LR = {"normalized": 0.02, "package": 0.1, "rms": 0.02}


class AuON(MatrixOptimizer):
    r"""Nesterov momentum, divided by one number per matrix.

    With the running mean $m \leftarrow \mu m + (1-\mu) g$ and $d = (1-\mu) g + \mu m$, $X = d / \lVert d \rVert_F$ and
    $\rho = \sqrt{\mathrm{mean}\cosh(\gamma X)^2}$:

    | `variant` | update | what it is, since $\rho$ = 1 to 0.06 % for matrices of 64 x 64 and larger |
    | --- | --- | --- |
    | `"normalized"` (the paper) | $X / \rho \cdot \sqrt{\max(1, R/C)}$ | momentum SGD normalised per matrix |
    | `"package"` (the released code) | $d / \rho$ | momentum SGD |
    | `"rms"` (ours, experimental) | $X \sqrt{(1 + e^{2\gamma^2})/2} / \rho(d / \mathrm{rms}(d))$ | normalised, heavy tails braked |

    It does not orthogonalise: the update is a positive multiple of $d$. Use it as a control beside Muon. Parameters with
    fewer than `min_ndim` dimensions, and groups with `algorithm="adamw"`, get AdamW; make groups with
    [`build_param_groups`].

    Args:
        params (`Iterable`): parameters or groups; every option below may be set per group.
        lr (`float`, *optional*): step size; 0.02, or 0.1 for the variant `"package"`.
        momentum (`float`, *optional*, defaults to 0.95): $\mu$ in [0, 1).
        nesterov (`bool`, *optional*, defaults to `True`): `False` takes $d = m$.
        weight_decay (`float`, *optional*, defaults to 0.0): decoupled weight decay.
        gamma (`float`, *optional*): steepness in [0, 40]; 1.0, 1.5 or 0.5 by variant. 0 switches the brake off.
        variant (`str`, *optional*, defaults to `"normalized"`): see the table.
        ns_steps (`int`, *optional*, defaults to 0): Newton-Schulz iterations before the brake, see [`HybridAuON`].
        ns_dtype (`torch.dtype` or `str`, *optional*): dtype of these iterations; float32 by default.
        adjust_lr (`str`, *optional*): factor of the step size by shape: `"original"` sqrt(max(1, R/C)),
            `"match_rms_adamw"` (updates of root mean square 0.2 `lr`), `"none"`. By default that of the variant.
        transposed (`bool`, *optional*, defaults to `False`): weights of this group are stored as (inputs, outputs).
        per_matrix (`bool`, *optional*, defaults to `False`): normalise each matrix of a 3-D stack by itself.
        eps (`float`, *optional*, defaults to 1e-10): AdamW's, for the other parameters.
        norm_eps (`float`, *optional*, defaults to 1e-7): added to the norm; updates shrink for norms below it.
        betas (`tuple[float, float]`, *optional*, defaults to `(0.9, 0.95)`): AdamW's.
        min_ndim (`int`, *optional*, defaults to 2): parameters with fewer dimensions get AdamW.
        allow_flat (`bool`, *optional*, defaults to `False`): accept weights that FSDP1 or DeepSpeed have flattened, where
            one norm is taken over many matrices.
        state_dtype (`torch.dtype` or `str`, *optional*): dtype of the momentum; that of the parameter by default.
        maximize (`bool`, *optional*, defaults to `False`): go up instead of down.
        foreach (`bool`, *optional*): `False` treats every parameter alone.
        memory_budget (`int`, *optional*): bytes of directions held at a time; 16 MiB on CPUs, 256 MiB elsewhere.
        algorithm (`str`, *optional*, defaults to `"matrix"`): `"adamw"` makes a group plain AdamW.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.optim import AuON
    >>> weight = torch.nn.Parameter(torch.ones(8, 4))
    >>> optimizer = AuON([weight])
    >>> weight.square().sum().backward()
    >>> optimizer.step()
    >>> sorted(optimizer.state[weight])
    ['momentum_buffer']
    ```

    Reference: Maity, "AuON: A Linear-time Alternative to (Semi-)Orthogonal Momentum Updates". The released code writes the
    Nesterov mixture over `p.grad`; here gradients are only read.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor | None = None,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        gamma: float | None = None,
        variant: str = "normalized",
        ns_steps: int = 0,
        ns_dtype: torch.dtype | str | None = None,
        adjust_lr: str | None = None,
        transposed: bool = False,
        per_matrix: bool = False,
        eps: float = 1e-10,
        norm_eps: float = 1e-7,
        betas: tuple[float, float] = (0.9, 0.95),
        min_ndim: int = 2,
        allow_flat: bool = False,
        state_dtype: torch.dtype | str | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        memory_budget: int | None = None,
        algorithm: str = MATRIX,
    ) -> None:
        defaults = {name: value for name, value in locals().items() if name not in ("self", "params", "__class__")}
        defaults |= {"state_dtype": dtype_name(state_dtype), "ns_dtype": dtype_name(ns_dtype)}
        if lr is None:
            check_choice(defaults, "variant", VARIANTS)
            defaults["lr"] = DEFAULT_LR[variant]
        super().__init__(params, defaults)

    def _check_group(self, group: dict[str, Any]) -> None:
        check_choice(group, "variant", VARIANTS)
        check_choice(group, "adjust_lr", ADJUSTMENTS)
        check_orthogonalised(group, least_steps=0)
        check_flags(group, "nesterov", "per_matrix", "allow_flat")
        check_range(group, "norm_eps", 0.0)
        check_count(group, "min_ndim", 0)
        if group["gamma"] is not None:
            check_range(group, "gamma", 0.0, MAX_GAMMA)
        if group["variant"] == "rms" and group["ns_steps"]:
            raise ValueError("`variant='rms'` is defined without Newton-Schulz iterations: set `ns_steps=0`")
        if group["adjust_lr"] == "match_rms_adamw" and group["variant"] == "package" and group["ns_steps"] == 0:
            raise ValueError(
                "`adjust_lr='match_rms_adamw'` needs updates of known size: not the plain package variant"
            )

    def takes(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        flat = group["allow_flat"] and group["ns_steps"] == 0
        return parameter.ndim >= group["min_ndim"] or (flat and parameter.ndim == 1)

    def refuse_flattened(self, group: dict[str, Any], had_matrices: bool) -> None:
        if not group["allow_flat"]:
            super().refuse_flattened(group, had_matrices)
        elif group["ns_steps"] and first_flattened(group["params"]) is not None:
            raise RuntimeError("Newton-Schulz iterations need matrices: `allow_flat` works with `ns_steps=0` only")

    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor], lr: float) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                dtype = state_dtype_of(parameter, group["state_dtype"])
                self.state[parameter]["momentum_buffer"] = zeros_beside(parameter, dtype)
        budget = self._budget(group, parameters[0].device)
        pending: list[Tensor] = []
        size = 0
        for parameter in parameters:
            own = parameter.numel() * compute_dtype_of(parameter).itemsize
            if pending and (group["foreach"] is False or size + own > budget):
                AuonStep(self, group, pending, lr).run()
                pending, size = [], 0
            pending.append(parameter)
            size += own
        AuonStep(self, group, pending, lr).run()


class HybridAuON(AuON):
    r"""AuON on the output of `ns_steps` Newton-Schulz iterations: with five it is Muon without its shape factor.

    The update is $\mathrm{NS}_k(d) / \rho(\mathrm{NS}_k(d))$ in both variants, which differ in their defaults.

    Args:
        params (`Iterable`): parameters or groups.
        ns_steps (`int`, *optional*): iterations; 1 for the variant `"normalized"` (the paper), 5 for `"package"`.
        variant (`str`, *optional*, defaults to `"normalized"`): `"normalized"` or `"package"`.
        lr (`float`, *optional*, defaults to 0.02): step size.
        kwargs (`Any`): further options of [`AuON`].
    """

    def __init__(
        self,
        params: ParamsT,
        ns_steps: int | None = None,
        variant: str = "normalized",
        lr: float | Tensor = 0.02,
        **kwargs: Any,
    ) -> None:
        if ns_steps is None:
            ns_steps = 5 if variant == "package" else 1
        super().__init__(params, lr=lr, ns_steps=ns_steps, variant=variant, **kwargs)

    def _check_group(self, group: dict[str, Any]) -> None:
        check_choice(group, "variant", ("normalized", "package"))
        super()._check_group(group)
