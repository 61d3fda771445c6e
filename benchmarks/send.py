# SPDX-License-Identifier: Apache-2.0
"""EigenScore against its published forms, the scorer against generation alone, SenD against plain training.

python benchmarks/send.py            # under three minutes on one idle core
python benchmarks/send.py --short    # fewer answers and rounds; saves nothing

All times are processor times of one thread, which on a busy machine are nearly those of an idle one. The contenders of a
ratio take turns, or their fastest of several timings count. The forms of EigenScore are checked to agree before they are
timed.
"""

import torch
from support.arguments import arguments
from support.report import save
from support.send_scoring import CASES, scoring
from support.send_spectra import errors, few_answers, many_answers
from support.send_steps import MODELS, training
from transformers.utils import logging


NOTE = (
    "Ratios of processor times of one thread: medians with quartiles where rounds are given, else of the fastest timings. "
    "The scorer's models are untrained, so that all answers differ and have full length."
)


def main() -> None:
    short = not arguments(__doc__, "full", "fewer answers and rounds; prints only").parse_args().full
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    rows = few_answers(4096)
    rows += many_answers((10, 100, 500) if short else (10, 100, 500, 1000, 2000, 5000))
    rows += errors(500 if short else 2000, 2 if short else 6)
    for case in CASES[: 1 if short else None]:
        rows += scoring(case, 2 if short else 3)
    for name in MODELS:
        rows += training(name, 3 if short else 15)
    packages = ["transformers", "eigenhub"]
    save("send", "EigenScore and SenD: what they cost", rows, packages, keep=not short, note=NOTE)


if __name__ == "__main__":
    main()
