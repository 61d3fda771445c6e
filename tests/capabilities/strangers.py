# SPDX-License-Identifier: Apache-2.0
"""One fresh process in which `eigenhub` cannot be imported, and which loads what every method exports."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor

from tests.capabilities.cells import PATIENCE, Failed, first_line
from tests.support.processes import run_python


if TYPE_CHECKING:
    from tests.capabilities.probes import Probes

PROGRAM = """
import importlib.util, json, os, sys
import torch, transformers
from safetensors.torch import load_file

assert importlib.util.find_spec("eigenhub") is None

def load(entry):
    auto, folder = getattr(transformers, entry["auto"]), entry["folder"]
    if entry["base"]:
        from peft import PeftModel
        return PeftModel.from_pretrained(auto.from_pretrained(entry["base"]), folder)
    if "auto_map" in json.load(open(os.path.join(folder, "config.json"))):
        return auto.from_pretrained(folder, trust_remote_code=True)
    return auto.from_pretrained(folder)

def gap(entry):
    tensors = load_file(os.path.join(entry["asked"], "asked.safetensors"))
    expected = tensors.pop("expected")
    with torch.no_grad():
        return float((getattr(load(entry).eval()(**tensors), entry["output"]) - expected).abs().max())

verdicts = {}
for entry in json.load(open(sys.argv[1])):
    try:
        difference = gap(entry)
        verdicts[entry["slug"]] = "" if difference <= 1e-5 else f"the outputs differ by {difference:.1e}"
    except Exception as error:
        verdicts[entry["slug"]] = f"{type(error).__name__}: " + str(error).strip().splitlines()[0]
print(json.dumps(verdicts))
"""


@dataclass(frozen=True)
class Export:
    """An exported form, and what it must compute.

    Args:
        folder (`Path`): what is loaded.
        auto (`str`): Auto class of transformers.
        inputs (`dict[str, Tensor]`): arguments of the forward pass.
        expected (`Tensor`): what the author's model computes.
        base (`Path`, *optional*): base model of an adapter.
        output (`str`, *optional*, defaults to `"logits"`): field of the output.
    """

    folder: Path
    auto: str
    inputs: dict[str, Tensor]
    expected: Tensor
    base: Path | None = None
    output: str = "logits"


class Strangers:
    """Verdicts by method; the process starts when the first is asked for.

    Args:
        probes (`Sequence[Probes]`): methods that export.
        folder (`Path`): where they export to.
    """

    def __init__(self, probes: Sequence["Probes"], folder: Path) -> None:
        self.probes, self.folder = list(probes), folder
        self.verdicts: dict[str, str] | None = None

    def check(self, slug: str) -> None:
        """Raise unless the export of a method was loaded and computes the same."""
        if self.verdicts is None:
            self.verdicts = self._load_all()
        if self.verdicts[slug]:
            raise Failed(self.verdicts[slug])

    def _load_all(self) -> dict[str, str]:
        failed, entries = {}, []
        for probes in self.probes:
            place = self.folder / probes.slug
            place.mkdir(parents=True)
            try:
                entries.append(self._written(probes, place))
            except Exception as error:
                failed[probes.slug] = f"the export failed: {first_line(error)}"
        manifest = self.folder / "manifest.json"
        manifest.write_text(json.dumps(entries, default=str))
        environment = {"HF_MODULES_CACHE": str(self.folder / "modules")}
        return failed | read_as_a_stranger(manifest, self.folder, environment)

    def _written(self, probes: "Probes", place: Path) -> dict[str, str]:
        export = probes.export_to(place)
        save_file({**export.inputs, "expected": export.expected.contiguous()}, place / "asked.safetensors")
        entry = {k: v for k, v in asdict(export).items() if k not in ("inputs", "expected")}
        return entry | {"slug": probes.slug, "asked": str(place)}


def read_as_a_stranger(manifest: Path, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    finished = run_python(
        PROGRAM,
        str(manifest),
        folder=folder,
        environment=os.environ | environment,
        block=("eigenhub",),
        timeout=PATIENCE,
    )
    return finished.result
