# SPDX-License-Identifier: Apache-2.0
"""Results files: what was measured here, how, and beside it what was published.

One YAML file per method (`hub_cards/<slug>/results.yaml`) or per saved checkpoint (`results.yaml` in its folder):

```yaml
method: sorsa
measured:
  - id: digits-rank8              # a published figure for the same row carries the same id
    method: sorsa                 # what was run: this method or a peer
    task: image-classification    # task name of the Hub
    dataset: {id: sklearn/digits, name: Handwritten digits, split: test}
    metric: accuracy
    value: 0.963
    spread: 0.004                 # standard deviation over the seeds; left out for a single seed
    seeds: [0, 1, 2]
    setting: ViT, rank 8, 200 steps
    command: eigenhub demo sorsa
    hardware: 2 CPU cores
    date: 2026-01-31
    versions: {torch: 2.13.0, peft: 0.21.2}
published:
  - id: digits-rank8
    method: sorsa
    task: image-classification
    dataset: {id: sklearn/digits, name: Handwritten digits}
    metric: accuracy
    value: 0.97
    setting: as above, 1 seed
    source: {name: "A paper, table 1", url: "https://arxiv.org/abs/..."}
    verified: figure read in the paper; not run here, needs a GPU
findings:
  - Final accuracy is not better than PiSSA's within the spread.
```
"""

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from huggingface_hub.dataclasses import strict

from eigenhub.files import read_yaml, write_text
from eigenhub.hub.schema import SchemaError, build


T = TypeVar("T")


class ResultsError(SchemaError):
    """A results file that breaks the schema; the message names the file and the place in it."""


@strict
@dataclass
class DatasetRef:
    """What was evaluated on. `task_id` names a leaderboard task of the Hub, if the dataset has one."""

    id: str
    name: str
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    task_id: str | None = None


@strict
@dataclass
class Source:
    """Where a published figure stands."""

    name: str
    url: str


@strict
@dataclass
class Figure:
    """What a measured and a published figure have in common."""

    id: str
    method: str
    task: str
    dataset: DatasetRef
    metric: str
    value: int | float
    setting: str

    def validate_value(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"`value` must be finite, got {self.value}")

    @property
    def row(self) -> tuple[str, ...]:
        """What two figures with one id must share."""
        return (self.method, self.task, self.dataset.id, self.metric)


@strict
@dataclass
class Measured(Figure):
    """A figure that a command of this repository produced."""

    seeds: list[int]
    command: str
    hardware: str
    date: str
    versions: dict[str, str]
    spread: int | float | None = None

    def validate_seeds(self) -> None:
        if not self.seeds:
            raise ValueError("`seeds` must name at least one seed")
        if (len(self.seeds) > 1) != (self.spread is not None):
            raise ValueError(f"`spread` goes with two or more seeds; got spread {self.spread}, seeds {self.seeds}")
        if self.spread is not None and not (math.isfinite(self.spread) and self.spread >= 0):
            raise ValueError(f"`spread` must be finite and not negative, got {self.spread}")

    def validate_date(self) -> None:
        datetime.date.fromisoformat(self.date)

    def validate_versions(self) -> None:
        if not self.versions:
            raise ValueError("`versions` must name at least one package")


@strict
@dataclass
class Published(Figure):
    """A figure from somewhere else; `verified` says what we know about it."""

    source: Source
    verified: str


@strict
@dataclass
class Results:
    """All figures of one method, or of one checkpoint made with it."""

    method: str
    measured: list[Measured]
    published: list[Published] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def validate_ids(self) -> None:
        own, foreign = _by_id(self.measured, "measured"), _by_id(self.published, "published")
        for name in own.keys() & foreign.keys():
            if own[name].row != foreign[name].row:
                raise ValueError(
                    f"id {name!r} names {own[name].row} in `measured`, {foreign[name].row} in `published`"
                )

    def rows(self) -> list[tuple[Figure, Measured | None, Published | None]]:
        """Figures side by side: measured ones in order with their published twin, then the rest."""
        twins = {p.id: p for p in self.published}
        rows: list[tuple[Figure, Measured | None, Published | None]] = []
        rows += [(m, m, twins.pop(m.id, None)) for m in self.measured]
        rows += [(p, None, p) for p in twins.values()]
        return rows


def _by_id(figures: list[Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for figure in figures:
        if figure.id in found:
            raise ValueError(f"id {figure.id!r} stands twice in `{where}`")
        found[figure.id] = figure
    return found


def _build(cls: Callable[..., T], data: Any, where: str) -> T:
    return build(cls, data, where, ResultsError)


def _figure(cls: type[T], data: Any, where: str) -> T:
    if not isinstance(data, Mapping):
        raise ResultsError(f"{where}: expected a mapping, got {data!r}")
    data = dict(data)
    if "dataset" in data:
        data["dataset"] = _build(DatasetRef, data["dataset"], f"{where}.dataset")
    if "source" in data:
        data["source"] = _build(Source, data["source"], f"{where}.source")
    if isinstance(data.get("date"), datetime.date):  # YAML reads an unquoted date as one
        data["date"] = data["date"].isoformat()
    return _build(cls, data, where)


def parse_results(data: Any, where: str = "results") -> Results:
    """Check parsed YAML against the schema.

    Args:
        data (`Any`): what `yaml.safe_load` returned.
        where (`str`, *optional*, defaults to `"results"`): name for error messages, usually the path.

    Returns:
        `Results`: the figures.
    """
    if not isinstance(data, Mapping):
        raise ResultsError(f"{where}: expected a mapping, got {data!r}")
    data = dict(data)
    for key, cls in (("measured", Measured), ("published", Published)):
        if isinstance(data.get(key), list):
            data[key] = [_figure(cls, entry, f"{where}: {key}[{i}]") for i, entry in enumerate(data[key])]
    return _build(Results, data, where)


def load_results(path: str | Path) -> Results:
    """Read and check a results file.

    Args:
        path (`str | Path`): the YAML file.

    Returns:
        `Results`: its figures.
    """
    path = Path(path)
    try:
        data = read_yaml(path)
    except ValueError as error:
        raise ResultsError(str(error)) from error
    return parse_results(data, str(path))


def save_results(results: Results, path: str | Path) -> None:
    """Write a results file that `load_results` reads back equal.

    Args:
        results (`Results`): the figures.
        path (`str | Path`): the YAML file, overwritten.
    """
    text = yaml.safe_dump(_without_none(asdict(results)), sort_keys=False, allow_unicode=True, width=119)
    write_text(path, text)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value
