# SPDX-License-Identifier: Apache-2.0
"""One door to everything that computes, opened by the first event, long after the page.

Events run in threads. Threads that import the same modules in different orders wait for each other's locks until Python
hands out half-initialised ones; with a single first module there is a single order.
"""

from braking import MAX_SIDE, apply_brake
from captured import rank_of, table, verdict
from figures import BASIS_COLORS, brake_figure, energy_figure, memory_figure, singular_figure
from language_models import load_model
from measuring import measure
from standings import report
from state_check import check
from state_sizes import basis_bytes, records, shapes_of


__all__ = [
    "BASIS_COLORS",
    "MAX_SIDE",
    "apply_brake",
    "basis_bytes",
    "brake_figure",
    "check",
    "energy_figure",
    "load_model",
    "measure",
    "memory_figure",
    "rank_of",
    "records",
    "report",
    "shapes_of",
    "singular_figure",
    "table",
    "verdict",
]
