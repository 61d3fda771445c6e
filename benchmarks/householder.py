# SPDX-License-Identifier: Apache-2.0
"""Householder frames and StyleGAN2 against other forms of the same: reflections, parametrizations, a generator's step.

python benchmarks/householder.py            # about five minutes on one idle core
python benchmarks/householder.py --short    # fewer rounds, smaller images; saves nothing

All times are processor times of one thread, which on a busy machine are nearly those of an idle one. The contenders of a
ratio take turns, and are checked to agree before they are timed.
"""

import torch
from support.arguments import arguments
from support.householder_speed import long_rows, other_rows, thin_rows
from support.householder_speed_generator import STEP_BOUND, affine_rows, parameter_rows, projector_rows, step_rows
from support.householder_start import start_rows
from support.report import save
from transformers.utils import logging


NOTE = (
    "Ratios of processor times of one thread: medians with quartiles. Torch's parametrizations stand at their faster value of "
    "`use_trivialization`, the dense reflections of the official code make all columns whether wanted or not. The numbers of "
    "parameters are counts, cosines are cosines."
)


def main() -> None:
    short = not arguments(__doc__, "full", "fewer rounds, smaller images; prints only").parse_args().full
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    # First, while nothing has filled the memory with gigabytes: that changes what an allocation costs, for some more than others.
    # In a sitting nothing has either, since every benchmark has a process of its own.
    rows = step_rows(32 if short else 256, 1, 2 if short else 3, None if short else STEP_BOUND)
    rows += step_rows(16 if short else 64, 4, 2 if short else 3)
    rows += projector_rows(32 if short else 256, 3 if short else 11)
    rows += thin_rows(3 if short else 25)
    rows += long_rows(2 if short else 3, k=64 if short else 512)
    rows += other_rows(3 if short else 15)
    rows += affine_rows(3 if short else 15) + parameter_rows() + start_rows()
    title = "Householder projector: what frames, projectors and StyleGAN2 cost"
    save("householder", title, rows, ["peft", "transformers", "eigenhub"], keep=not short, note=NOTE)


if __name__ == "__main__":
    main()
