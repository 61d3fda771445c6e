# SPDX-License-Identifier: Apache-2.0
"""Data of the tests: real sets beside the repository, where present, and tiny generated ones."""

import random
from pathlib import Path

from tests.support.processes import ROOT


SHARED_DATA = ROOT.parent / "shared" / "data"

TEXTS = (
    "the cat sat on the mat",
    "a dog ran to the park",
    "the sun is hot and red",
    "she has ten red hens",
    "he fed the dog a bun",
    "ten cats sat in the sun",
)


def shared_data(relative: str) -> Path:
    """Path of a real data set below `../shared/data`; it exists under `devices.require_shared_data(relative)`."""
    return SHARED_DATA / relative


def counting_rows(
    number: int, length: int = 16, vocabulary: int = 64, first: int = 4, seed: int = 0
) -> list[list[int]]:
    """Token rows that count upwards modulo the vocabulary from random starts: a model learns them in a few steps.

    Ids below `first` stay free for special tokens.
    """
    generator = random.Random(seed)
    span = vocabulary - first
    starts = [generator.randrange(span) for _ in range(number)]
    return [[first + (start + step) % span for step in range(length)] for start in starts]
