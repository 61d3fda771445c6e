# SPDX-License-Identifier: Apache-2.0
"""The stamp of a store: a small JSON file that says whose vectors it holds and how they stand there."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eigenhub.files import check_entries, field_kinds, naming, read_json, write_text
from eigenhub.models.bt2.index_backend import Layout
from eigenhub.models.bt2.index_identity import EncoderIdentity, as_identity


STAMP_FILE = "stamp.json"
FORMAT = 1


@dataclass(frozen=True)
class IndexStamp:
    """
    What a store says about itself.

    Args:
        backend (`str`): `"faiss"` or `"lancedb"`.
        generations (`tuple[EncoderIdentity, ...]`): encoders in the order in which they came; the last is the newest.
        old_scale (`float`, *optional*, defaults to 1.0): factor of the vectors of all but the newest.
        normalized_on_entry (`bool`, *optional*, defaults to `False`): whether the old vectors came without unit norm.
        laid_out (`int`, *optional*, defaults to 1): generations that the index has room for; one less than there are
            until the first vector of the newest arrives, because its room costs memory.
        state (`dict[str, Any]`, *optional*, defaults to `{}`): what the backend keeps here.
    """

    backend: str
    generations: tuple[EncoderIdentity, ...]
    old_scale: float = 1.0
    normalized_on_entry: bool = False
    laid_out: int = 1
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def newest(self) -> EncoderIdentity:
        """The encoder that items are backfilled to."""
        return self.generations[-1]

    @property
    def layout(self) -> Layout:
        """How the vectors stand in the index."""
        return Layout(tuple(encoder.dim for encoder in self.generations[: self.laid_out]), self.old_scale)

    def save(self, folder: Path) -> None:
        """Replace the file in one step, so that no reader and no crash finds half of it."""
        write_text(folder / STAMP_FILE, json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> "IndexStamp":
        """The stamp of a store."""
        path = folder / STAMP_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no index: {STAMP_FILE} is missing")
        content = read_json(path, {"format": int})
        if content.pop("format") != FORMAT:
            raise ValueError(f"{path} was written by another version of this package")
        with naming(path):
            kinds = field_kinds(cls)
            check_entries(content, kinds)
            if unknown := sorted(content.keys() - kinds.keys()):
                raise ValueError(f"the entry `{unknown[0]}` is unknown; known are {', '.join(kinds)}")
            generations = tuple(as_identity(encoder, "generations") for encoder in content.pop("generations"))
            if not 1 <= content["laid_out"] <= len(generations):
                raise ValueError(f"`laid_out` must be from 1 to {len(generations)}, got {content['laid_out']}")
        return cls(generations=generations, **content)
