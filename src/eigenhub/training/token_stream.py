# SPDX-License-Identifier: Apache-2.0
"""Batches of token blocks from a data set that is read while training, with a position that can be saved and restored.

The order is shuffled piece by piece: some batches' worth of blocks are read, put in an order that the seed and the number
of the piece fix, and handed out. So the position is that of the data set at the beginning of the piece and the number of
batches handed out since; a shuffle buffer, whose content no position describes, could not be restored exactly.
"""

from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from eigenhub.training.packing import Packer


DOCUMENTS = 32


class TokenStream:
    """
    Endless batches `{"input_ids", "labels"}` of shape `[batch, block]`.

    Register it with `accelerator.register_for_checkpointing`: its state holds the positions of all processes.

    Args:
        accelerator (`Accelerator`): every process reads its own part of the rows, batches go to its device.
        rows (`IterableDataset`): the whole data set, the same in all processes.
        tokenizer (`PreTrainedTokenizerBase`): needs an end-of-sequence token.
        column (`str`): where the text is.
        block (`int`): tokens per block.
        batch_size (`int`): blocks per batch.
        seed (`int`, *optional*, defaults to 0): seed of the order.
        piece (`int`, *optional*, defaults to 32): batches that are shuffled together.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        rows: IterableDataset,
        tokenizer: PreTrainedTokenizerBase,
        column: str,
        block: int,
        batch_size: int,
        seed: int = 0,
        piece: int = 32,
    ) -> None:
        self.accelerator = accelerator
        self.rows = split_dataset_by_node(rows, accelerator.process_index, accelerator.num_processes)
        self.packer = Packer(tokenizer, block)
        self.column, self.batch_size, self.piece, self.seed = column, batch_size, piece, seed
        self._number = self._epoch = self._handed_out = 0
        self._begin = self._position()
        self._reader: Iterator[dict[str, str]] | None = None

    def windows(self, size: int) -> Generator[list[dict[str, Tensor]], None, None]:
        """The batches of one optimizer step after another, `size` of them at a time."""
        batches = self._batches()
        while True:
            yield list(islice(batches, size))

    def state_dict(self) -> dict[str, Any]:
        """The positions of all processes; collective."""
        state = {**self._begin, "handed_out": self._handed_out}
        return {"processes": gather_object([state])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where the process of the same rank stood."""
        own = dict(state["processes"][self.accelerator.process_index])
        self._handed_out = own.pop("handed_out")
        self._begin = own
        self.packer.rest = list(own["rest"])
        self._number, self._epoch = own["number"], own["epoch"]
        self.rows.set_epoch(self._epoch)
        if own["rows"] is not None:
            self.rows.load_state_dict(own["rows"])
        self._reader = None

    def _position(self) -> dict[str, Any]:
        return {"rows": None, "rest": list(self.packer.rest), "number": self._number, "epoch": self._epoch}

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        while True:
            blocks = torch.tensor(self._read_piece(), device=self.accelerator.device)  # [blocks, tokens]
            generator = torch.Generator().manual_seed(1_000_003 * self.seed + self._number)
            order = torch.randperm(len(blocks), generator=generator).to(blocks.device)
            for rows in order.split(self.batch_size)[self._handed_out :]:
                self._handed_out += 1
                yield {"input_ids": blocks[rows], "labels": blocks[rows]}
            self._number += 1
            self._handed_out = 0
            self._begin = {**self._position(), "rows": self.rows.state_dict()}

    def _read_piece(self) -> list[list[int]]:
        wanted = self.piece * self.batch_size
        while self.packer.full_blocks() < wanted:
            self.packer.add(self._read_texts())
        return self.packer.cut(wanted)

    def _read_texts(self) -> list[str]:
        if self._reader is None:
            self._reader = iter(self.rows)
        texts = [row[self.column] for row in islice(self._reader, DOCUMENTS)]
        if not texts:
            self._epoch += 1
            self.rows.set_epoch(self._epoch)  # also forgets the position that the last epoch began from
            self._reader = iter(self.rows)
            texts = [row[self.column] for row in islice(self._reader, DOCUMENTS)]
            if not texts:
                raise ValueError("the streamed data set has no rows for this process")
        return texts
