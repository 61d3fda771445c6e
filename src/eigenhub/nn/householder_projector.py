# SPDX-License-Identifier: Apache-2.0
"""Put the Householder projector into linear layers of any model, and take it out again."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

from eigenhub.nn.low_rank_orthogonal import LowRankOrthogonal, OrthogonalFactors


LEAVES = ("folded", "factored")


def apply_householder_projector(
    model: nn.Module,
    target_modules: str | Sequence[str],
    rank: int,
    gain: str | float = "mean",
    init: str = "nearest",
    singular_values: str = "fixed",
    parameterization: str = "thin",
    generator: torch.Generator | None = None,
) -> dict[str, LowRankOrthogonal]:
    """Replaces the weights of linear layers by [`LowRankOrthogonal`] ones of given rank, in place.

    The layers stay `nn.Linear` (or 1 x 1 `nn.Conv2d`); what trains are their vectors,
    `parametrizations.weight.original0` ($U$), `original1` ($V$) and, if learned, `original2` (logarithms of the singular
    values). Give the vectors no weight decay: their lengths carry no meaning.

    Args:
        model (`nn.Module`): any model.
        target_modules (`str` or `Sequence[str]`): PEFT's rules: a regular expression for the whole name of a module, or
            endings of names (`"qkv"`, also `"blocks.0.qkv"`). An entry that matches nothing is an error.
        rank (`int`): number of directions per layer.
        gain (`str` or `float`, *optional*, defaults to `"mean"`): see [`LowRankOrthogonal`].
        init (`str`, *optional*, defaults to `"nearest"`): `"nearest"` to the present weights, or `"random"`.
        singular_values (`str`, *optional*, defaults to `"fixed"`): `"fixed"` or `"learned"`.
        parameterization (`str`, *optional*, defaults to `"thin"`): see [`HouseholderFrame`].
        generator (`torch.Generator`, *optional*): source of random frames.

    Returns:
        `dict[str, LowRankOrthogonal]`: the parametrization of each layer by its name.

    Raises:
        ValueError: nothing matches, a match is no linear layer, shares its weight or is too small for the rank. The model is
            then as it was.

    Example:

    ```python
    >>> import torch
    >>> from torch import nn
    >>> from eigenhub.nn.householder_projector import apply_householder_projector, remove_householder_projector
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> list(apply_householder_projector(model, ["0"], rank=3))
    ['0']
    >>> torch.linalg.matrix_rank(model[0].weight).item()
    3
    >>> remove_householder_projector(model)
    ['0']
    ```
    """
    chosen = matching_modules(model, target_modules)
    made = {}
    for name, module in chosen.items():
        d_out, d_in = module.weight.shape[:2]
        try:
            made[name] = LowRankOrthogonal(
                d_out, d_in, rank, gain, singular_values, parameterization, init, generator
            ).to(module.weight.device)
            _check_weight(module.weight, gain)
        except ValueError as error:
            raise ValueError(f"module {name!r}: {error}") from error
    for name, projector in made.items():
        register_parametrization(chosen[name], "weight", projector)
    return made


def remove_householder_projector(model: nn.Module, leave: str = "folded") -> list[str]:
    """Takes every projector out of a model, in place; what the model computes stays.

    Args:
        model (`nn.Module`): a model with projectors.
        leave (`str`, *optional*, defaults to `"folded"`): `"folded"`: ordinary dense weights; `"factored"`: two thin linear
            layers in sequence, which cost `(d_in + d_out) rank` in place of `d_in d_out` per row (linear layers only).

    Returns:
        `list[str]`: names of the layers.
    """
    if leave not in LEAVES:
        raise ValueError(f"`leave` must be one of {', '.join(LEAVES)}; got {leave!r}")
    found = {name: module for name, module in model.named_modules() if projector_of(module) is not None}
    if not found:
        raise ValueError("the model has no Householder projector")
    if leave == "folded":
        for module in found.values():
            remove_parametrizations(module, "weight", leave_parametrized=True)
        return list(found)
    for name, module in found.items():
        if not isinstance(module, nn.Linear) or not name:
            raise ValueError(f"`leave='factored'` needs linear layers inside of a model, got {name!r}: {type(module)}")
    for name, module in found.items():
        model.set_submodule(name, _factored(module))
    return list(found)


def projector_of(module: nn.Module) -> LowRankOrthogonal | None:
    """The projector of a layer, if its weight is one.

    Args:
        module (`nn.Module`): a layer.
    """
    if not is_parametrized(module, "weight"):
        return None
    last = module.parametrizations["weight"][-1]  # type: ignore[index]  # torch types it loosely
    return last if isinstance(last, LowRankOrthogonal) else None


def projector_factors(module: nn.Module) -> OrthogonalFactors:
    """Factors of the projected weight of a layer; the columns of `right` are its directions.

    Args:
        module (`nn.Module`): a layer to which [`apply_householder_projector`] was applied.
    """
    projector = projector_of(module)
    if projector is None:
        raise ValueError(f"{module} has no Householder projector")
    return projector.factors(*_originals(module))


def matching_modules(model: nn.Module, target_modules: str | Sequence[str]) -> dict[str, Any]:
    """Linear layers by name, chosen by PEFT's rules.

    Args:
        model (`nn.Module`): any model.
        target_modules (`str` or `Sequence[str]`): regular expression, or endings of names.
    """
    named = dict(model.named_modules())
    if isinstance(target_modules, str):
        try:
            pattern = re.compile(target_modules)
        except re.error as error:
            raise ValueError(f"`target_modules` {target_modules!r} is no regular expression: {error}") from error
        hits = {target_modules: [name for name in named if pattern.fullmatch(name)]}
    else:
        hits = {t: [name for name in named if name == t or name.endswith(f".{t}")] for t in target_modules}
    missing = [target for target, names in hits.items() if not names]
    if missing or not hits:
        raise ValueError(f"`target_modules` {missing or target_modules!r} matches no module of the model")
    chosen = {name: named[name] for name in named if any(name in names for names in hits.values())}
    _check_layers(model, chosen)
    return chosen


def _check_layers(model: nn.Module, chosen: dict[str, nn.Module]) -> None:
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for name, module in chosen.items():
        pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
        if not isinstance(module, nn.Linear) and not pointwise:
            raise ValueError(
                f"module {name!r} must be a linear layer or a 1 x 1 convolution, got {type(module).__name__}"
            )
        if is_parametrized(module, "weight"):
            raise ValueError(f"module {name!r} has a parametrized weight already")
        shared = owners.get(id(module.weight), [])
        if len(shared) > 1:
            raise ValueError(f"module {name!r} shares its weight: {', '.join(shared)}")


def _check_weight(weight: Any, gain: str | float) -> None:
    if not weight.is_floating_point():
        raise ValueError(f"a weight of dtype {weight.dtype} cannot be projected")
    if not torch.isfinite(weight).all():
        raise ValueError("`weight` has entries that are NaN or infinite")
    if gain == "mean" and not weight.any():
        raise ValueError("`gain='mean'` of a weight of zeros is zero: give a number, 'unit' or 'equalized'")


def _originals(module: nn.Module) -> list[Tensor]:
    holder: Any = module.parametrizations["weight"]  # type: ignore[index]  # torch types it loosely
    return [getattr(holder, f"original{i}") for i in range(holder.ntensors)]


@torch.no_grad()
def _factored(module: nn.Linear) -> nn.Sequential:
    u, values, v = projector_factors(module)
    like: dict[str, Any] = {"device": module.weight.device, "dtype": module.weight.dtype}
    read = nn.Linear(v.shape[0], v.shape[1], bias=False, **like)
    write = nn.Linear(u.shape[1], u.shape[0], bias=module.bias is not None, **like)
    read.weight.copy_(v.mT)
    write.weight.copy_(u * values)
    if module.bias is not None:
        write.bias.copy_(module.bias)
    return nn.Sequential(read, write).train(module.training)
