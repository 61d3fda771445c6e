# SPDX-License-Identifier: Apache-2.0
"""A model's vectors of a data set, kept under the ids of its items: whatever order they are asked for in."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from eigenhub.files import naming, open_tensors, write_tensors


@dataclass(frozen=True)
class ItemVectors:
    """
    Vectors by item id.

    Args:
        ids (`tuple[str, ...]`): stable and unique ids, which must not depend on order or place.
        vectors (`Tensor` of shape `(items, dim)`): one row per id, finite and not zero.
        source (`str`): which model wrote them, on which view; see [`weights_fingerprint`].

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.bt2 import ItemVectors
    >>> kept = ItemVectors(("a", "b"), torch.eye(2), source="old model")
    >>> kept.of(["b", "a"]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    ```
    """

    ids: tuple[str, ...]
    vectors: Tensor
    source: str

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.ids) != len(self.vectors):
            raise ValueError(
                f"`vectors` must be a row for each of {len(self.ids)} ids, got {tuple(self.vectors.shape)}"
            )
        if len(self._rows) < len(self.ids):
            twice = sorted({name for name in self.ids if self.ids.count(name) > 1})
            raise ValueError(f"`ids` must be unique, but stand more than once: {_shown(twice)}")
        finite = torch.isfinite(self.vectors).all(dim=-1)
        for problem, good in (("not finite", finite), ("zero", ~finite | (self.vectors != 0).any(dim=-1))):
            if not good.all():
                bad = [self.ids[row] for row in (~good).nonzero().flatten().tolist()]
                raise ValueError(f"`vectors` are {problem} for {len(bad)} items: {_shown(bad)}")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def of(self, ids: Sequence[str]) -> Tensor:
        """The vectors of some items, in the order asked for.

        Args:
            ids (`Sequence[str]`): ids of items that are here.
        """
        if missing := [name for name in ids if name not in self._rows]:
            raise ValueError(f"no vectors for {len(missing)} of {len(ids)} items: {_shown(missing)}")
        return self.vectors[[self._rows[name] for name in ids]]

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file by one rename, so that a torn file never bears the name.

        Args:
            path (`str | Path`): the file.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = torch.frombuffer(bytearray("\n".join(self.ids).encode()), dtype=torch.uint8)
        write_tensors(path, {"vectors": self.vectors, "ids": names}, {"source": self.source})

    @classmethod
    def load(cls, path: str | Path) -> "ItemVectors":
        """Reads what [`ItemVectors.save`] wrote.

        Args:
            path (`str | Path`): the file.
        """
        with naming(path), open_tensors(path) as file:
            if missing := {"vectors", "ids"} - set(file.keys()):
                raise ValueError(f"{path} holds no {' and no '.join(sorted(missing))}")
            names, vectors = file.get_tensor("ids"), file.get_tensor("vectors")
            if names.dtype != torch.uint8 or names.ndim != 1 or not vectors.is_floating_point():
                raise ValueError(f"`ids` must be bytes and `vectors` floats, got {names.dtype} and {vectors.dtype}")
            ids = tuple(names.numpy().tobytes().decode().split("\n"))
            return cls(ids, vectors, (file.metadata() or {}).get("source", ""))


def cached_vectors(
    path: str | Path, source: str, ids: Sequence[str], compute: Callable[[], Tensor], write: bool = True
) -> ItemVectors:
    """Vectors from a file if the same source wrote them for all these items, else computed now and kept.

    Args:
        path (`str | Path`): the file.
        source (`str`): identity of model and view; vectors of another one are replaced.
        ids (`Sequence[str]`): items that are needed.
        compute (`Callable[[], Tensor]`): gives their vectors, in order.
        write (`bool`, *optional*, defaults to `True`): False on all processes but one.
    """
    path = Path(path)
    if path.is_file():
        kept = ItemVectors.load(path)
        if kept.source == source and set(ids) <= set(kept.ids):
            return kept
    fresh = ItemVectors(tuple(ids), compute().float().cpu(), source)
    if write:
        fresh.save(path)
    return fresh


def weights_fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits of the weights and buffers of a model, the same wherever it was loaded from.

    Args:
        model (`nn.Module`): any model.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
