# SPDX-License-Identifier: Apache-2.0
"""Damage that is the same for every loader of a format: cuts, flipped bits, other types, other entries, payloads."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load, save

from tests.reliability.loader import Corruption, Loader


TEXT_KINDS = ("json", "yaml", "jsonl", "tsv")  # "tsv" stands for every table of text
DEPTH = 100_000
#: Values that no entry should survive unseen, or at least not with a raw error.
STRANGE: tuple[Any, ...] = (None, [], {}, "x", -1, 10**400, float("nan"), True, [[]], {"a": {}}, "../../../victim")


class Payload:
    """A pickle of this makes a folder when it is loaded by `pickle`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def corruptions(loader: Loader, good: bytes, marker: Path, flips: int) -> Iterator[Corruption]:
    """All damage that applies to a format.

    Args:
        loader (`Loader`): tells the format.
        good (`bytes`): content of a good file.
        marker (`Path`): what a payload would make.
        flips (`int`): number of files with flipped bits.
    """
    yield from cut(good, loader.cuts)
    yield from flipped(good, flips)
    yield from foreign(loader.kind, marker)
    if loader.kind == "json":
        yield from changed_objects(json.loads(good), lambda value: json.dumps(value).encode(), loader.optional)
        yield from strange_json()
    elif loader.kind == "yaml":
        yield from changed_objects(yaml.safe_load(good), lambda value: yaml.safe_dump(value).encode(), loader.optional)
        yield from strange_yaml()
    elif loader.kind == "safetensors":
        yield from changed_tensors(good, loader)
        yield from strange_headers()


def cut(good: bytes, refused: bool) -> Iterator[Corruption]:
    """Files that end too early."""
    whole = len(good.rstrip())
    for length in sorted({0, 1, 7, 8, whole // 4, whole // 2, whole - 1}):
        if length < whole:
            yield Corruption(f"cut to {length} of {len(good)} bytes", good[:length], refused)


def flipped(good: bytes, count: int) -> Iterator[Corruption]:
    """One bit is another one; where a format has no checksum, nobody can see that in a number."""
    draws = random.Random(0)
    for _ in range(count):
        data = bytearray(good)
        place, bit = draws.randrange(len(data)), draws.randrange(8)
        data[place] ^= 1 << bit
        yield Corruption(f"bit {bit} of byte {place} flipped", bytes(data), False)


def foreign(kind: str, marker: Path) -> Iterator[Corruption]:
    """Files of another kind, among them pickles that run something when they are unpickled."""
    strict = kind not in ("jsonl", "tsv", "log")
    yield Corruption("zeros", bytes(64), strict)
    yield Corruption("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), strict)
    yield Corruption("no UTF-8", b"\xff\xfe{\xfa}\n", kind != "log")
    for protocol in (0, 4):
        yield Corruption(f"payload in protocol {protocol}", pickle.dumps(Payload(marker), protocol), strict)
    if kind in TEXT_KINDS:
        return
    yield from archives(marker)


def archives(marker: Path) -> Iterator[Corruption]:
    """What `torch.save` writes, with a payload, and a small archive that unpacks into a large one."""
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"G": Payload(marker), "g_ema": Payload(marker)}, file, _use_new_zipfile_serialization=zipped)
        yield Corruption(f"payload in a torch file, zipped={zipped}", file.getvalue(), True)
    yield Corruption("zip bomb", zip_bomb(), True)


@cache
def zip_bomb(mebibytes: int = 8) -> bytes:
    """A torch file whose one storage is compressed a thousandfold."""
    numbers = torch.zeros(mebibytes << 18)
    file, squeezed = io.BytesIO(), io.BytesIO()
    torch.save({"g_ema": {"input.input": numbers}}, file)
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    return squeezed.getvalue()


def changed_objects(good: dict[str, Any], dump: Any, optional: tuple[str, ...]) -> Iterator[Corruption]:
    """An entry less, one more, and each of another type."""
    if not isinstance(good, dict):
        return
    for name in good:
        rest = {key: value for key, value in good.items() if key != name}
        yield Corruption(f"without {name}", dump(rest), name not in optional)
        for value in STRANGE:
            yield Corruption(f"{name} = {str(value)[:20]}", dump(good | {name: value}), False)
    yield Corruption("one entry more", dump(good | {"an_entry_of_nobody": 1}), False)
    for value in (None, 3, "text", [], [good]):
        yield Corruption(f"{type(value).__name__} instead", dump(value), value is not None or "" not in optional)


def strange_json() -> Iterator[Corruption]:
    """JSON that only a parser could love."""
    yield Corruption("deep lists", b"[" * DEPTH, True)
    yield Corruption("deep objects", b'{"a":' * DEPTH, True)
    yield Corruption("deep and closed", b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, True)
    yield Corruption("a number of 10,000 digits", b'{"a": ' + b"9" * 10_000 + b"}", True)
    yield Corruption("lone surrogate", b'{"\\ud800": 1}', False)


def strange_yaml() -> Iterator[Corruption]:
    """YAML that nests, grows or makes objects."""
    yield Corruption("deep lists", b"[" * (DEPTH // 50), True)
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    yield Corruption("billion laughs", "\n".join(lines).encode(), True)
    yield Corruption("python object", b"!!python/object/apply:os.mkdir [owned]", True)
    yield Corruption("itself", b"&a [*a]", True)


def strange_headers() -> Iterator[Corruption]:
    """Lengths and headers of safetensors that cannot be."""
    for length in (1 << 62, (1 << 64) - 1, 100):
        yield Corruption(f"header of {length} bytes", struct.pack("<Q", length) + b"{}", True)
    deep = b'{"a":' * 1000
    yield Corruption("deep header", struct.pack("<Q", len(deep)) + deep, True)
    entry = {"x": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 1 << 62]}}
    huge = json.dumps(entry).encode()
    yield Corruption("tensor of 2^80 numbers", struct.pack("<Q", len(huge)) + huge, True)


def changed_tensors(good: bytes, loader: Loader) -> Iterator[Corruption]:
    """A tensor less, one more, and each of another shape, dtype or with NaN."""
    tensors = load(good)
    metadata = json.loads(good[8 : 8 + struct.unpack("<Q", good[:8])[0]]).get("__metadata__")

    def dump(changed: dict[str, torch.Tensor]) -> bytes:
        return save(tensors | changed, metadata)

    for name, tensor in tensors.items():
        rest = {key: value for key, value in tensors.items() if key != name}
        yield Corruption(f"without {name}", save(rest, metadata), name not in loader.optional)
        yield Corruption(
            f"{name} with a row more", dump({name: torch.cat([tensor.reshape(-1), tensor.reshape(-1)])}), loader.shapes
        )
        yield Corruption(f"{name} empty", dump({name: tensor.new_zeros(0)}), loader.shapes)
        yield Corruption(f"{name} of integers", dump({name: torch.ones(tensor.shape, dtype=torch.int64)}), False)
        if tensor.is_floating_point():
            yield Corruption(f"{name} not finite", dump({name: torch.full_like(tensor, torch.nan)}), False)
    yield Corruption("one tensor more", dump({"a_tensor_of_nobody": torch.zeros(2)}), False)
    yield Corruption("no tensor", save({}, metadata), not loader.optional)
    yield Corruption("no metadata", save(tensors), False)
