# SPDX-License-Identifier: Apache-2.0
"""What is tried with every program."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A way to launch.

    Args:
        key (`str`): name on the command line and in the file.
        title (`str`): head of the column.
        legend (`str`): what is done, and what makes a yes.
    """

    key: str
    title: str
    legend: str


COLUMNS = (
    Column(
        "one",
        "1 process",
        "Ends well, every loss is finite, and what it saved loads in a fresh process.",
    ),
    Column(
        "two",
        "2 processes",
        "The same with torchrun and gloo, on the same rows per step: one accumulated batch less for one process more. Where "
        "that is promised, every saved weight equals that of one process within the tolerance, and so do configurations, losses "
        "and figures; elsewhere the result loads in a fresh process.",
    ),
    Column("fsdp2", "FSDP2 × 2", "As before under `fsdp2.yaml`, in full precision."),
    Column("zero2", "ZeRO-2 × 2", "As before under `deepspeed_zero2.yaml`, in full precision."),
    Column("zero3", "ZeRO-3 × 2", "As before under `deepspeed_zero3.yaml`, in full precision."),
    Column(
        "kill",
        "SIGKILL, resume",
        "One process is killed after its first checkpoint and resumed; losses and every saved weight equal those of the "
        "straight run to the bit.",
    ),
)
