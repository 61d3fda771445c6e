# SPDX-License-Identifier: Apache-2.0
"""Parameter groups for the matrix optimizers: which weights are projected, which get AdamW, and why."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eigenhub.optim.options import ADAMW
from eigenhub.optim.roles import ADAPTER, MATRIX_ROLES, TRANSPOSED_ROLES, parameter_roles


ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Assignment:
    """Where one parameter went.

    Args:
        name (`str`): its first name in the model.
        shape (`tuple[int, ...]`): its shape.
        group (`str`): `"matrix"`, `"matrix, transposed"`, `"adamw"`, `"adamw, no decay"` or `"frozen"`.
        reason (`str`): the rule that decided.
    """

    name: str
    shape: tuple[int, ...]
    group: str
    reason: str


class ParamGroups(list[dict[str, Any]]):
    """Parameter groups, ready for an optimizer, that know how they came about.

    Args:
        groups (`Iterable[dict]`): the groups.
        assignments (`Sequence[Assignment]`): one per parameter.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], assignments: Sequence[Assignment]) -> None:
        super().__init__(groups)
        self.assignments = tuple(assignments)

    def table(self) -> str:
        """Who got what, as a Markdown table."""
        rows = ["| parameter | shape | group | reason |", "| --- | --- | --- | --- |"]
        rows += [f"| {a.name} | {' x '.join(map(str, a.shape))} | {a.group} | {a.reason} |" for a in self.assignments]
        return "\n".join(rows)


def build_param_groups(
    model: nn.Module,
    rank: int | float | None = None,
    target_modules: str | Sequence[str] = ALL_LINEAR,
    exclude: str | Sequence[str] = ("lm_head",),
    include_adapters: bool = False,
    lr_aux: float | None = None,
    weight_decay_aux: float | None = None,
    no_decay: str | Sequence[str] = (),
    matrix_options: Mapping[str, Any] | None = None,
    aux_options: Mapping[str, Any] | None = None,
) -> ParamGroups:
    """Split the trainable parameters of a model into matrices and AdamW parameters.

    Matrices are the weights of `nn.Linear` and of GPT-2's `Conv1D` (in a group of their own, stored transposed) and stacks
    of experts. Embeddings, input or output, tied or not, and adapters are told by identity and never projected by default.

    Args:
        model (`nn.Module`): any model; Hugging Face ones name their embeddings themselves.
        rank (`int` or `float`, *optional*): rank of the matrix groups; the optimizer's default if not given.
        target_modules (`str` or `Sequence[str]`, *optional*, defaults to `"all-linear"`): all of the above; or names of
            modules (`"q_proj"`, also `"layers.0.q_proj"`) or of stacked parameters; or a regular expression for the whole
            name. A name or expression that matches nothing is an error.
        exclude (`str` or `Sequence[str]`, *optional*, defaults to `("lm_head",)`): names of modules that are not projected.
        include_adapters (`bool`, *optional*, defaults to `False`): treat LoRA factors and the like as matrices too.
        lr_aux (`float`, *optional*): step size of the AdamW groups; by default the same as for matrices, which is right for
            [`DCTAdamW`] and far too large for [`Trion`] and [`AuON`].
        weight_decay_aux (`float`, *optional*): weight decay of the AdamW groups; by default that of the optimizer.
        no_decay (`str` or `Sequence[str]`, *optional*, defaults to `()`): names of modules whose AdamW parameters are not
            decayed, beside all vectors.
        matrix_options (`Mapping[str, Any]`, *optional*): further options of the matrix groups.
        aux_options (`Mapping[str, Any]`, *optional*): further options of the AdamW groups.

    Returns:
        `ParamGroups`: a list of groups with [`~ParamGroups.table`].

    Example:

    ```python
    >>> from torch import nn
    >>> from eigenhub.optim import DCTAdamW, build_param_groups
    >>> model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    >>> groups = build_param_groups(model, rank=2, lr_aux=1e-3)
    >>> [assignment.group for assignment in groups.assignments]
    ['adamw', 'matrix', 'adamw, no decay', 'adamw, no decay', 'adamw, no decay']
    >>> optimizer = DCTAdamW(groups, lr=2e-3)
    ```
    """
    named = list(model.named_parameters())
    roles = parameter_roles(model)
    chosen = _targets(named, roles, target_modules, include_adapters)
    members: dict[str, list[Tensor]] = {"matrix": [], "matrix, transposed": [], "adamw": [], "adamw, no decay": []}
    assignments = []
    for name, parameter in named:
        role = roles[parameter]
        if not parameter.requires_grad:
            group, reason = "frozen", "requires no gradient"
        elif parameter in chosen and not _named(name, exclude):
            group = "matrix, transposed" if role in TRANSPOSED_ROLES else "matrix"
            reason = role
        else:
            group = "adamw, no decay" if parameter.ndim < 2 or _named(name, no_decay) else "adamw"
            reason = f"{role}, {'excluded' if parameter in chosen else 'not chosen'}" if role in MATRIX_ROLES else role
        assignments.append(Assignment(name, tuple(parameter.shape), group, reason))
        if group in members:
            members[group].append(parameter)
    return ParamGroups(
        _groups(members, rank, lr_aux, weight_decay_aux, matrix_options or {}, aux_options or {}), assignments
    )


def _groups(
    members: Mapping[str, list[Tensor]],
    rank: int | float | None,
    lr_aux: float | None,
    weight_decay_aux: float | None,
    matrix_options: Mapping[str, Any],
    aux_options: Mapping[str, Any],
) -> list[dict[str, Any]]:
    matrix = ({} if rank is None else {"rank": rank}) | dict(matrix_options)
    auxiliary = {"lr": lr_aux, "weight_decay": weight_decay_aux}
    auxiliary = {key: value for key, value in auxiliary.items() if value is not None} | dict(aux_options)
    options = {
        "matrix": matrix,
        "matrix, transposed": matrix | {"transposed": True},
        "adamw": auxiliary | {"algorithm": ADAMW},
        "adamw, no decay": auxiliary | {"algorithm": ADAMW, "weight_decay": 0.0},
    }
    return [{"params": list(parameters), **options[name]} for name, parameters in members.items() if parameters]


def _targets(
    named: Sequence[tuple[str, Tensor]],
    roles: Mapping[Tensor, str],
    target_modules: str | Sequence[str],
    include_adapters: bool,
) -> set[Tensor]:
    """The parameters that may be matrices and are asked for."""
    possible = [(name, p) for name, p in named if roles[p] in MATRIX_ROLES]
    if include_adapters:
        possible += [(name, p) for name, p in named if roles[p] == ADAPTER and p.ndim == 2]
    if target_modules == ALL_LINEAR:
        return {p for _, p in possible}
    if isinstance(target_modules, str):
        try:
            pattern = re.compile(target_modules)
        except re.error as error:
            raise ValueError(f"`target_modules` {target_modules!r} is no regular expression: {error}") from error
        found = {p for name, p in possible if pattern.fullmatch(_module(name)) or pattern.fullmatch(name)}
        if not found:
            raise ValueError(f"`target_modules` {target_modules!r} matches no matrix of the model")
        return found
    found = set()
    for target in target_modules:
        matches = {p for name, p in possible if _named(name, [target])}
        if not matches:
            raise ValueError(f"`target_modules` entry {target!r} matches no matrix of the model")
        found |= matches
    return found


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _named(name: str, wanted: str | Sequence[str]) -> bool:
    """Whether one of the names is that of the parameter or of a module it lies in, or ends either of them."""
    inside = f".{name}."
    return any(f".{part}." in inside for part in ([wanted] if isinstance(wanted, str) else wanted))
