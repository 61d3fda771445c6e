# SPDX-License-Identifier: Apache-2.0
"""Readers whose errors name the file: a `ValueError` for what is in it, an `OSError` for a file that cannot be opened."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints


if TYPE_CHECKING:
    from torch import Tensor


Kind = type | tuple[type, ...]
#: Lists in lists of a YAML file.
DEEPEST = 50


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Every `ValueError` of the block begins with the name of a file.

    Args:
        path (`str`): the file whose content is checked in the block.
    """
    try:
        yield
    except ValueError as error:
        if str(error).startswith(os.fspath(path)):
            raise
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def read_text(path: str | os.PathLike, encoding: str = "utf-8") -> str:
    """The text of a file.

    Args:
        path (`str`): the file.
        encoding (`str`, *optional*, defaults to `"utf-8"`): how it is written.

    Raises:
        ValueError: the bytes are no text of this encoding.
    """
    try:
        return Path(path).read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not text in {encoding}: {error}") from error


def read_json(path: str | os.PathLike, entries: Mapping[str, Kind] | None = None, kind: Kind = dict) -> Any:
    """The value in a JSON file.

    Args:
        path (`str`): the file.
        entries (`Mapping[str, type]`, *optional*): names that the object must have, and of which type each is.
        kind (`type`, *optional*, defaults to `dict`): of the value.

    Raises:
        ValueError: no JSON, another type, or an entry that is missing or of another type.

    Example:

    ```python
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from eigenhub.files import read_json

    >>> path = Path(mkdtemp()) / "run.json"
    >>> _ = path.write_text('{"step": 3}')
    >>> read_json(path, {"step": int})
    {'step': 3}
    ```
    """
    text = read_text(path)
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{os.fspath(path)} is not JSON that can be read: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not JSON: {error}") from error
    if not _is(value, kind):
        raise ValueError(f"{os.fspath(path)} must hold JSON of type {_named(kind)}, got {type(value).__name__}")
    with naming(path):
        check_entries(value, entries or {})
    return value


def check_entries(content: Mapping[str, Any], entries: Mapping[str, Kind]) -> None:
    """Raise a `ValueError` that names an entry of a mapping which is missing or of another type.

    Args:
        content (`Mapping`): what was read.
        entries (`Mapping[str, type]`): what has to be there.
    """
    for name, kind in entries.items():
        if name not in content:
            raise ValueError(f"the entry `{name}` is missing")
        if not _is(content[name], kind):
            raise ValueError(f"`{name}` must be of type {_named(kind)}, got {type(content[name]).__name__}")


def field_kinds(dataclass: type) -> dict[str, Kind]:
    """Types of the fields of a dataclass as they come out of JSON, for [`check_entries`].

    Args:
        dataclass (`type`): the class.
    """
    hints = get_type_hints(dataclass)
    return {field.name: tuple(_json_kinds(hints[field.name])) for field in fields(dataclass)}


def read_yaml(path: str | os.PathLike) -> Any:
    """The value in a YAML file without anchors: a few bytes of them can stand for more than the memory holds.

    Args:
        path (`str`): the file.

    Raises:
        ValueError: no YAML, or one that needs more than plain values.
    """
    import yaml

    class PlainLoader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not taken here")
            return super().compose_node(parent, index)

        def fetch_flow_collection_start(self, token: Any) -> None:
            if self.flow_level == DEEPEST:  # the scanner takes the square of the depth
                raise yaml.YAMLError("it is nested too deeply")
            super().fetch_flow_collection_start(token)

    text = read_text(path)
    try:
        return yaml.load(text, PlainLoader)
    except RecursionError as error:
        raise ValueError(f"{os.fspath(path)} is not YAML that can be read: it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{os.fspath(path)} is not YAML: {error}") from error


@contextmanager
def open_tensors(path: str | os.PathLike, device: str = "cpu") -> Iterator[Any]:
    """`safetensors.safe_open` for PyTorch; what is wrong in the block becomes a `ValueError` that names the file.

    Args:
        path (`str`): the file.
        device (`str`, *optional*, defaults to `"cpu"`): where tensors go.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)} is not a safetensors file that can be read: {error}") from error


def read_tensors(path: str | os.PathLike) -> dict[str, "Tensor"]:
    """All tensors of a safetensors file, on the CPU.

    Args:
        path (`str`): the file.
    """
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def _is(value: Any, kind: Kind) -> bool:
    """`isinstance`, but true and false are no numbers."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return isinstance(value, kinds) and (bool in kinds or object in kinds or not isinstance(value, bool))


def _json_kinds(hint: Any) -> Iterator[type]:
    origin = get_origin(hint) or hint
    if origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _json_kinds(part)
    elif origin in (Any, Literal):
        yield object
    else:
        yield from {float: (int, float), tuple: (tuple, list)}.get(origin, (origin,))
        if is_dataclass(origin):
            yield dict


def _named(kind: Kind) -> str:
    return " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
