# SPDX-License-Identifier: Apache-2.0
"""One door to everything that computes, opened by the first event, long after the page.

Events run in threads. Threads that import the same modules in different orders wait for each other's locks until Python
hands out half-initialised ones; with a single first module there is a single order.
"""

from calibration import (
    calibrate,
    calibrated_world,
    given_prompts,
    prompts_of,
    write_files,
)
from figures import histogram_figure, roc_figure, spectra_figure, spectrum_figure
from matrices import checked_matrix, read_matrix, scores_of
from run_figures import dropped_figure, flips_figure, shares_figure, study_figure
from running import train_pair
from scoring import require_prompt, score_prompts
from study import read_study
from verdicts import checked_calibration, judged
from world import example


__all__ = [
    "calibrate",
    "calibrated_world",
    "checked_calibration",
    "checked_matrix",
    "dropped_figure",
    "example",
    "flips_figure",
    "given_prompts",
    "histogram_figure",
    "judged",
    "prompts_of",
    "read_matrix",
    "read_study",
    "require_prompt",
    "roc_figure",
    "score_prompts",
    "scores_of",
    "shares_figure",
    "spectra_figure",
    "spectrum_figure",
    "study_figure",
    "train_pair",
    "write_files",
]
