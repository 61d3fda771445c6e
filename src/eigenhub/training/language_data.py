# SPDX-License-Identifier: Apache-2.0
"""Text as batches for a language model: packed or with prompts, in memory or streamed, and a part held out."""

import argparse
import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset, DatasetDict
from torch.nn import Module
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from eigenhub.training.accumulation import endless_windows
from eigenhub.training.corpus import Corpus, load_corpus
from eigenhub.training.gsm8k import exact_match
from eigenhub.training.held_out import HeldOut
from eigenhub.training.options import EMBEDDED
from eigenhub.training.packing import first_blocks
from eigenhub.training.setup import make_loader
from eigenhub.training.text_source import TextColumns, is_local
from eigenhub.training.token_stream import TokenStream
from eigenhub.training.tokenization import tokenize


class LanguageData:
    """
    What one run learns from and is measured on.

    Args:
        args (`argparse.Namespace`): the script's arguments.
        accelerator (`Accelerator`): deals out the rows.
        tokenizer (`PreTrainedTokenizerBase`): with an end-of-sequence and a padding token.
        embedded (`Callable`): the text behind `--dataset embedded`, with the splits `train` and `test`.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        accelerator: Accelerator,
        tokenizer: PreTrainedTokenizerBase,
        embedded: Callable[[], DatasetDict],
    ) -> None:
        self.args, self.accelerator, self.tokenizer, self.embedded = args, accelerator, tokenizer, embedded
        self.corpus = self._load()
        packed = self.corpus.columns.prompt is None
        # Packed rows need no padding, and without an attention mask attention takes its quickest path.
        self.collate = None if packed else DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100)
        self.stream = self._stream() if args.streaming else None
        self.loader = None if args.streaming else self._load_into_memory()
        rows = self._held_out_rows()
        self.held_out = HeldOut(accelerator, rows, args.per_device_batch_size, self.collate)

    def prepare(self, *others: Any) -> tuple[Any, ...]:
        """Prepares the loader together with model and optimizer, as DeepSpeed wants it; returns the others."""
        if self.loader is None:
            self.accelerator.register_for_checkpointing(self.stream)
            return self.accelerator.prepare(*others)
        *prepared, self.loader = self.accelerator.prepare(*others, self.loader)
        return tuple(prepared)

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps that see every row once; to be asked before [`~LanguageData.prepare`]."""
        if self.loader is None:
            raise ValueError("the length of a stream is not known")
        return len(self.loader) // self.accelerator.num_processes / self.args.gradient_accumulation_steps

    @property
    def held_out_name(self) -> str:
        """Where the held-out text comes from."""
        args = self.args
        return f"{args.eval_dataset or args.dataset} {args.eval_split or 'cut from ' + args.dataset_split}"

    @property
    def held_out_title(self) -> str:
        """The same for readers elsewhere."""
        source = self.args.eval_dataset or self.args.dataset
        named = Path(source).name if is_local(source) else source
        return f"{named}, {self.args.eval_split}" if self.args.eval_split else f"{self.dataset_name}, a part held out"

    @property
    def dataset_name(self) -> str:
        """For readers elsewhere, to whom a path on this machine says nothing."""
        if self.args.dataset == EMBEDDED:
            return "sources of Python's standard library"
        return Path(self.args.dataset).name if is_local(self.args.dataset) else self.args.dataset

    def windows(self, first_step: int) -> Generator[list[Any], None, None]:
        """The batches of one step after another; a stream has been put in its place by the checkpoint."""
        size = self.args.gradient_accumulation_steps
        if self.stream is not None:
            return self.stream.windows(size)
        return endless_windows(self.loader, size, first_step)

    def accuracy(self, model: Module) -> dict[str, float]:
        """Exact match of final numbers on the held-out problems, if asked for."""
        args, columns = self.args, self.corpus.columns
        if not args.eval_gsm8k:
            return {}
        if columns.prompt is None or columns.response is None:
            raise ValueError("--eval_gsm8k needs held-out data with a prompt and a response column, got plain text")
        problems = self.corpus.held_out
        problems = problems.take(min(args.eval_samples or len(problems), len(problems)))
        names = (columns.prompt, columns.response)
        options = (args.prompt_template, args.eval_batch_size, args.max_new_tokens)
        share = exact_match(self.accelerator, model, self.tokenizer, problems, names, *options)
        return {"accuracy": share, "evaluated": len(problems)}

    def _load(self) -> Corpus:
        args = self.args
        if args.dataset == EMBEDDED:
            parts = self.embedded()
            return Corpus(parts["train"], parts["test"], TextColumns(text="text"))
        held_out = None
        if args.eval_dataset or args.eval_split:
            config = args.eval_config if args.eval_dataset else args.dataset_config
            held_out = (args.eval_dataset or args.dataset, args.eval_split or "test", config)
        named = (args.prompt_column, args.response_column, args.text_column)
        return load_corpus(args.dataset, args.dataset_split, args.dataset_config, held_out, named, args.streaming)

    def _stream(self) -> TokenStream:
        args = self.args
        if self.corpus.columns.text is None:
            raise ValueError("--streaming is for plain text; prompts and responses are few enough to be loaded")
        where = (self.corpus.columns.text, args.max_length, args.per_device_batch_size)
        return TokenStream(self.accelerator, self.corpus.train, self.tokenizer, *where, seed=args.seed)

    def _load_into_memory(self) -> DataLoader:
        return make_loader(self.args, self.accelerator, self._rows(self.corpus.train), self.collate)

    def _rows(self, rows: Dataset) -> Dataset:
        args = self.args
        layout = (args.max_length, args.prompt_template, args.max_length_each)
        rows = tokenize(rows, self.tokenizer, self.corpus.columns, *layout)
        return rows.with_format("torch") if self.collate is None else rows

    def _held_out_rows(self) -> Dataset:
        args, columns = self.args, self.corpus.columns
        count = max(1, args.eval_tokens // args.max_length)
        if self.stream is not None:
            texts = (row[columns.text] for row in self.corpus.held_out)
            blocks = first_blocks(texts, self.tokenizer, args.max_length, count)
            return Dataset.from_dict({"input_ids": blocks, "labels": blocks}).with_format("torch")
        rows = self._rows(self.corpus.held_out)
        if columns.text is None:
            return rows
        # Spread over the whole text: the beginning alone may be of one kind.
        return rows.select(range(0, len(rows), math.ceil(len(rows) / count)))
