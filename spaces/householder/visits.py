# SPDX-License-Identifier: Apache-2.0
"""What a visitor has chosen, and what the visit has gathered. Nothing here is shared between visits, and nothing is heavy."""

from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
from names import BASES, EDITS, MAX_NAME, NOISE_MODES


@dataclass(frozen=True)
class Shift:
    """
    An edit that stays while the next one is made.

    Args:
        layer (`str`): which layer or range.
        edit (`str`): `"ws"` or `"style"`.
        vector (`tuple[float, ...]`): what is added to its style latents.
    """

    layer: str
    edit: str
    vector: tuple[float, ...]


@dataclass(frozen=True)
class Choice:
    """
    One sample, and one way to edit it.

    Args:
        model (`str`): an embedded name, a Hub id or a folder.
        number (`int`): seed of the sample.
        psi (`float`): truncation.
        noise (`str`): `"const"`, `"random"` or `"none"`.
        label (`int`): class, for conditional generators.
        layer (`str`): such as `"b8.conv0"`, or a range such as `"b8.conv0+b8.conv1"`.
        basis (`str`): see `names.BASES`.
        edit (`str`): `"ws"` or `"style"`.
        other (`str`): the same generator before projection; empty for none.
    """

    model: str
    number: int
    psi: float
    noise: str
    label: int
    layer: str
    basis: str
    edit: str
    other: str

    @classmethod
    def of(
        cls,
        model: str | None,
        number: float | None,
        psi: float,
        noise: str,
        label: float | None,
        layer: str | None,
        basis: str | None,
        edit: str,
        other: str | None,
    ) -> "Choice":
        """What stands in the controls, or a message for the visitor."""
        name = (model or "").strip()
        if not name:
            raise gr.Error("Name a generator: an embedded one, a Hub id or a folder.")
        for what, value, allowed in (("noise", noise, NOISE_MODES), ("basis", basis or "jacobian", BASES)):
            if value not in allowed:
                raise gr.Error(f"The {what} must be one of {', '.join(allowed)}, got {value!r}.")
        if edit not in EDITS:
            raise gr.Error(f"The edit must be one of {', '.join(EDITS)}, got {edit!r}.")
        if not 0 <= float(psi) <= 1.5:
            raise gr.Error(f"The truncation must be between 0 and 1.5, got {psi}.")
        seed, kind = int(number or 0), int(label or 0)
        if not 0 <= seed < 2**31:
            raise gr.Error(f"The number of the sample must be between 0 and {2**31 - 1}, got {seed}.")
        return cls(name, seed, float(psi), noise, kind, layer or "", basis or "", edit, (other or "").strip())

    @property
    def place(self) -> tuple[str, str, str]:
        """What the names of directions belong to."""
        return self.model, self.layer, self.basis


@dataclass(frozen=True)
class Visit:
    """
    What a visit has gathered.

    Args:
        names (`dict`): names of directions by number, by model, layer and basis; the last to be named comes last.
        saved (`dict`): directions that were loaded, by model and layer.
        kept (`tuple[Shift, ...]`): edits that stay.
    """

    names: dict[tuple[str, str, str], dict[int, str]] = field(default_factory=dict)
    saved: dict[tuple[str, str], Any] = field(default_factory=dict)
    kept: tuple[Shift, ...] = ()

    def named(self, place: tuple[str, str, str], k: int, name: str) -> "Visit":
        """With one more name; an empty one takes the old name away."""
        rest = {key: value for key, value in self.names.items() if key != place}
        here = {n: text for n, text in self.names.get(place, {}).items() if n != k}
        name = " ".join(name.split())[:MAX_NAME]
        if name:
            here[k] = name
        return replace(self, names=rest | ({place: dict(sorted(here.items()))} if here else {}))

    def name_of(self, place: tuple[str, str, str], k: int) -> str:
        """The name of a direction; empty if it has none."""
        return self.names.get(place, {}).get(k, "")

    def names_in(self, model: str, layer: str) -> list[str]:
        """All names of a layer, whatever their basis."""
        found = [
            text for (m, at, _), here in self.names.items() if (m, at) == (model, layer) for text in here.values()
        ]
        return list(dict.fromkeys(found))
