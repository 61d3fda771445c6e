# SPDX-License-Identifier: Apache-2.0
"""Parsed YAML as checked dataclasses, with the place in every error."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from huggingface_hub.errors import StrictDataclassError


T = TypeVar("T")


class SchemaError(ValueError):
    """A file that breaks its schema; the message names the file and the place in it."""


def build(cls: Callable[..., T], data: Any, where: str, error: type[SchemaError] = SchemaError) -> T:
    """`cls(**data)` after a look at the names.

    Args:
        cls (`type`): a dataclass under `@strict`, which checks the types.
        data (`Any`): what `yaml.safe_load` returned.
        where (`str`): place for error messages.
        error (`type`, *optional*, defaults to `SchemaError`): what to raise.
    """
    if not isinstance(data, Mapping):
        raise error(f"{where}: expected a mapping, got {data!r}")
    allowed = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    required = [n for n, f in allowed.items() if f.default is MISSING and f.default_factory is MISSING]
    if unknown := [key for key in data if key not in allowed]:
        raise error(f"{where}: unknown {unknown}; allowed: {', '.join(allowed)}")
    if missing := [name for name in required if name not in data]:
        raise error(f"{where}: missing {', '.join(missing)}")
    try:
        return cls(**data)
    except StrictDataclassError as problem:
        raise error(f"{where}: {' '.join(str(problem).split())}") from problem
