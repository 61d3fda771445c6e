# SPDX-License-Identifier: Apache-2.0
"""How the fused scan cuts a batch of sequences into blocks, and blocks into chunks.

A block is a run of steps of one sequence, or several short sequences whole, and small enough for the cache. Its chunks
are runs of a few steps whose recurrences go side by side, see `eigenhub.linalg.scan_recurrence`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch


# An odd number of steps: slices of a block then lie an odd multiple of a row apart, which spreads them over the sets
# of the cache, where a power of two would pile them onto a few.
CHUNK_SIZE = 17
# Complex numbers in one slice: enough to hide the cost of a call, few enough that a block of 17 stays in a core's
# cache.
SLICE = 8192
# Accelerators want calls that are few and large; a block is then some 36 MB. Reasoned, not measured.
ACCELERATOR_SLICE = 2**18


def chunk_steps(length: int, chunk_size: int) -> int:
    """Steps of a chunk in sequences of this length.

    Args:
        length (`int`): at least 1.
        chunk_size (`int`): what the caller asks for, or 0 to leave it to us.
    """
    return min(chunk_size or CHUNK_SIZE, length)


@dataclass(frozen=True)
class Block:
    """Rows and steps of one block, and whether the direction of travel enters its rows here."""

    rows: slice
    steps: slice
    entering: bool

    def has(self, step: int) -> bool:
        """Whether this step of the sequences is in the block.

        Args:
            step (`int`): counted from the start of the sequences.
        """
        return self.steps.start <= step < self.steps.stop


@dataclass(frozen=True)
class Layout:
    """The cut of a batch into blocks.

    Args:
        batch (`int`): number of sequences.
        length (`int`): their length, at least 1.
        states (`int`): complex states.
        chunk (`int`): steps of a chunk.
        chunks (`int`): chunks of one sequence in a block.
        group (`int`): sequences in a block.
    """

    batch: int
    length: int
    states: int
    chunk: int
    chunks: int
    group: int

    @classmethod
    def of(cls, batch: int, length: int, states: int, chunk_size: int, device: torch.device) -> "Layout":
        """The cut for these sizes; `chunk_size` 0 leaves the choice to us.

        Args:
            batch (`int`): number of sequences.
            length (`int`): their length, at least 1.
            states (`int`): complex states.
            chunk_size (`int`): steps of a chunk, or 0.
            device (`torch.device`): where the work is done.
        """
        chunk = chunk_steps(length, chunk_size)
        rows = max(1, (SLICE if device.type == "cpu" else ACCELERATOR_SLICE) // states)
        chunks = min(rows, -(-length // chunk))
        whole = chunks * chunk >= length
        return cls(batch, length, states, chunk, chunks, max(1, min(batch, rows // chunks)) if whole else 1)

    @property
    def all_chunks(self) -> int:
        """Chunks of a whole sequence; the last one may be short."""
        return -(-self.length // self.chunk)

    def blocks(self, backwards: bool) -> Iterator[Block]:
        """All blocks; those of one sequence follow one another in time, or against it.

        Args:
            backwards (`bool`): against time.
        """
        starts = range(0, self.length, self.chunks * self.chunk)
        for row in range(0, self.batch, self.group):
            rows = slice(row, min(row + self.group, self.batch))
            for index, start in enumerate(reversed(starts) if backwards else starts):
                stop = min(start + self.chunks * self.chunk, self.length)
                yield Block(rows, slice(start, stop), index == 0)

    def chunks_of(self, block: Block) -> slice:
        """The chunks of a block among those of its sequences.

        Args:
            block (`Block`): one of `blocks`.
        """
        return slice(block.steps.start // self.chunk, -(-block.steps.stop // self.chunk))
