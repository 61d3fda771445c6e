# SPDX-License-Identifier: Apache-2.0
"""One door to everything that computes, opened by the first event, long after the page.

Events run in threads. Threads that import the same modules in different orders wait for each other's locks until Python
hands out half-initialised ones; with a single first module there is a single order.
"""

from adapter_reports import adapter_tiles, layer_records, layer_table, ledger_records, provenance
from adapters import load_adapter, load_file
from federation import class_counts, client_rows
from figures import (
    accuracy_figure,
    bytes_figure,
    comparison_figure,
    condition_figure,
    distance_figure,
    epsilon_figure,
    pair_figure,
    singular_figure,
    spectra_figure,
    split_figure,
)
from privacy import privacy_words
from refactoring import refactor, write_refactored
from reports import comparison_table, pair_sentence, progress_sentence, run_tiles
from running import federate, run_pair


__all__ = [
    "accuracy_figure",
    "adapter_tiles",
    "bytes_figure",
    "class_counts",
    "client_rows",
    "comparison_figure",
    "comparison_table",
    "condition_figure",
    "distance_figure",
    "epsilon_figure",
    "federate",
    "layer_records",
    "layer_table",
    "ledger_records",
    "load_adapter",
    "load_file",
    "pair_figure",
    "pair_sentence",
    "privacy_words",
    "progress_sentence",
    "provenance",
    "refactor",
    "run_pair",
    "run_tiles",
    "singular_figure",
    "spectra_figure",
    "split_figure",
    "write_refactored",
]
