# SPDX-License-Identifier: Apache-2.0
"""What has changed between two runs of the same benchmark, and whether the spread of the rows explains it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any


#: Kinds whose growth is a loss of ours.
COMPARED = ("ratio", "excess", "size")
THRESHOLD = 0.15
Row = dict[str, Any]
Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Change:
    """One row of both runs.

    Args:
        section (`str`): title of the report.
        what (`str`): of the row.
        setting (`str`): of the row, without what was measured.
        kind (`str`): of the row.
        before (`float`): stored value.
        after (`float`): value now.
        spreads (`list`): stored spread and the spread now, each two numbers or `None`.
        share (`float`): relative change, 0.2 for a fifth more time.
        beyond (`bool`, *optional*): whether the spreads of both runs lie apart; `None` where a row has none.
    """

    section: str
    what: str
    setting: str
    kind: str
    before: float
    after: float
    spreads: list[list[float] | None]
    share: float
    beyond: bool | None

    @property
    def verdict(self) -> str:
        """`"regression"` or `"improvement"`; else that it lies within the spread, or that no spread is known."""
        if self.beyond is None:
            return "no spread known"
        if not self.beyond:
            return "within the spread"
        return "regression" if self.share > 0 else "improvement"


def identities(rows: list[Row]) -> list[tuple[str, str, int]]:
    """What a row is called in every run; equal names are numbered."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for row in rows:
        name = row["what"], row["setting"].split(";")[0].strip()
        found.append((*name, seen[name]))
        seen[name] += 1
    return found


def spread_of(row: Row) -> list[float] | None:
    """Quartiles, or the range where there are none."""
    return row.get("quartiles") or row.get("range")


def change_of(section: str, old: Row, new: Row) -> Change:
    """How a row has changed.

    Args:
        section (`str`): title of the report.
        old (`dict`): stored row.
        new (`dict`): row of the same name and kind.
    """
    offset = 1 if new["kind"] == "excess" else 0
    share = (new["value"] + offset) / (old["value"] + offset) - 1
    a, b = spread_of(old), spread_of(new)
    beyond = None if a is None or b is None else b[0] > a[1] or b[1] < a[0]
    (name,) = identities([new])
    return Change(section, *name[:2], new["kind"], old["value"], new["value"], [a, b], share, beyond)


@dataclass(frozen=True)
class Comparison:
    """All rows of a benchmark beside the stored ones.

    Args:
        changes (`list[Change]`): of rows that both runs have.
        gone (`list[str]`): rows that only the stored run has.
        added (`list[str]`): rows that only this run has.
    """

    changes: list[Change]
    gone: list[str]
    added: list[str]

    @property
    def worst(self) -> float | None:
        """Largest relative growth, `None` if nothing is compared."""
        return max((change.share for change in self.changes), default=None)

    @property
    def large(self) -> list[Change]:
        """Changes by more than the threshold, the worst first."""
        return sorted((c for c in self.changes if abs(c.share) > THRESHOLD), key=lambda c: -c.share)


def compare(old: Sections, new: Sections) -> Comparison:
    """Compare the rows whose growth is a loss, those of one kind and name with one another.

    Args:
        old (`dict`): stored reports by slug.
        new (`dict`): the reports now.
    """
    before, after = _by_name(old), _by_name(new)
    changes = [change_of(new[name[0]]["title"], before[name], row) for name, row in after.items() if name in before]
    gone, added = (
        ["; ".join(name[1:3]) for name in a if name not in b] for a, b in ((before, after), (after, before))
    )
    return Comparison(changes, gone, added)


def _by_name(sections: Sections) -> dict[tuple[Any, ...], Row]:
    return {
        (slug, *name, row["kind"]): row
        for slug, content in sections.items()
        for name, row in zip(identities(content["rows"]), content["rows"], strict=True)
        if row["kind"] in COMPARED
    }
