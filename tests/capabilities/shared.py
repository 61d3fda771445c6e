# SPDX-License-Identifier: Apache-2.0
"""Processes that cost more to start than to use, shared by the probes of all methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.capabilities.group import Group
from tests.capabilities.probes import Probes
from tests.capabilities.spaces import Spaces
from tests.capabilities.strangers import Strangers


@dataclass(frozen=True)
class Shared:
    """What every probe may use.

    Args:
        group (`Group`): two processes with DDP and FSDP2.
        strangers (`Strangers`): a process without this package.
        spaces (`Spaces`): a process that builds the Spaces.
    """

    group: Group
    strangers: Strangers
    spaces: Spaces


def share(all_probes: Sequence[Probes], folder: Path) -> None:
    """Give all probes the same processes."""
    slugs = [probes.slug for probes in all_probes]
    group, strangers = Group(slugs, folder / "group"), Strangers(all_probes, folder / "exports")
    shared = Shared(group, strangers, Spaces(slugs, folder / "spaces"))
    for probes in all_probes:
        probes.shared = shared
