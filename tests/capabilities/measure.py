# SPDX-License-Identifier: Apache-2.0
"""Every cell of the table, one after the other; a probe that fails is a cell like any other."""

import io
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from tqdm import tqdm

from tests.capabilities.cells import Cell, cell_of
from tests.capabilities.columns import COLUMNS
from tests.capabilities.probes import Probes
from tests.capabilities.shared import share


Table = dict[str, dict[str, Cell]]


def measure(all_probes: Sequence[Probes], columns: Sequence[str], quiet: bool = False) -> Table:
    """Run the probes.

    Args:
        all_probes (`Sequence[Probes]`): of the methods to measure.
        columns (`Sequence[str]`): keys of the columns to measure.
        quiet (`bool`, *optional*, defaults to `False`): no progress bar.

    Returns:
        `dict`: cells by slug and key of the column.
    """
    table: Table = {probes.slug: {} for probes in all_probes}
    with tempfile.TemporaryDirectory(prefix="capabilities-") as place:
        share(all_probes, Path(place))
        cells = [(probes, column.key) for column in COLUMNS if column.key in columns for probes in all_probes]
        progress = tqdm(cells, unit="cell", disable=quiet)
        for probes, key in progress:
            progress.set_postfix_str(f"{probes.slug} {key}")
            folder = Path(place) / probes.slug / key
            folder.mkdir(parents=True)
            with redirect_stdout(io.StringIO()):  # `Trainer` prints its figures
                table[probes.slug][key] = cell_of(probe_of(probes, key, folder))
    return table


def probe_of(probes: Probes, key: str, folder: Path) -> Callable[[], str | None]:
    """A probe as a function without arguments; a column for which nobody has written one is a no as well."""
    probe = getattr(probes, key, None)
    if probe is None:

        def probe(_folder: Path) -> str | None:
            raise NotImplementedError(f"there is no probe `{key}` for {probes.slug}")

    return lambda: probe(folder)
