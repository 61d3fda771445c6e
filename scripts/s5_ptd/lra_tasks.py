# SPDX-License-Identifier: Apache-2.0
"""From the name of a task to rows in memory, batches, and what a model has to know about its input."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from lra_options import TASKS
from torch import Tensor
from torch.utils.data import Subset, random_split
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase


#: Of grey CIFAR-10, from the arena's own pipeline; of the others the middle of the range.
GREY_CIFAR = (122.6 / 255, 61.0 / 255)
MIDDLE = (0.5, 0.5)
COLOUR_CIFAR = ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))
#: Of the splits, so that they agree with those of the S4 and S5 repositories where the order of the rows does.
SPLIT_SEED = 42
Rows = Sequence[Mapping[str, Any]]


@dataclass
class TaskData:
    """
    What one run learns from and is measured on.

    Args:
        train (`Sequence`): rows to learn from.
        validation (`Sequence` or `None`): rows to choose weights by.
        test (`Sequence`): rows to report.
        collate (`Callable`): makes a batch, with the arguments of the model, of a list of rows.
        inputs (`dict`): settings of the configuration that depend on the data.
        label_names (`list[str]`): classes; empty for a regression.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): saved beside the model.
        preprocessing (`dict`, *optional*): how raw input becomes the model's, for the reader of the card.
    """

    train: Rows
    validation: Rows | None
    test: Rows
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]
    inputs: dict[str, Any]
    label_names: list[str]
    tokenizer: PreTrainedTokenizerBase | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)


def load_task(args: argparse.Namespace) -> TaskData:
    """The data of `args.task`."""
    return {
        "listops": _listops,
        "listops_small": _listops,
        "text": _imdb,
        "retrieval": _retrieval,
        "image": partial(_cifar, grey=True),
        "scifar": partial(_cifar, grey=False),
        "pathfinder": _pathfinder,
        "pathx": _pathfinder,
        "speech": _speech,
        "digits": _digits,
        "pathfinder_small": _small_pathfinder,
        "pendulum": _pendulum,
    }[args.task](args)


def _held_out(rows: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    """Rows to learn from, and a share of them to choose by; `None` where that share is 0."""
    count = int(args.validation_share * len(rows))
    if count == 0:
        return rows, None
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    first, second = random_split(rows, [len(rows) - count, count], generator=generator)
    return first, second


def _listops(args: argparse.Namespace) -> TaskData:
    from lra_sources import read_listops

    from eigenhub.embedded.listops import SMALL, ListOpsRecipe, load_listops
    from eigenhub.embedded.listops_tokenizer import listops_tokenizer

    if args.data_dir is not None:
        splits = read_listops(args.data_dir.expanduser())
    else:
        splits = load_listops(SMALL if args.task == "listops_small" else ListOpsRecipe())
    tokenizer = listops_tokenizer(_length(args))
    parts = {name: _tokens(rows, tokenizer) for name, rows in splits.items()}
    return _text_task(
        parts["train"], parts["validation"], parts["test"], tokenizer, DataCollatorWithPadding(tokenizer)
    )


def _imdb(args: argparse.Namespace) -> TaskData:
    from lra_sources import read_imdb

    splits = read_imdb(_source(args, "stanfordnlp/imdb"))
    tokenizer = _byte_tokenizer(args)
    parts = {name: _tokens(rows, tokenizer) for name, rows in splits.items()}
    train, validation = _held_out(parts["train"], args)
    return _text_task(train, validation, parts["test"], tokenizer, DataCollatorWithPadding(tokenizer))


def _retrieval(args: argparse.Namespace) -> TaskData:
    from lra_sources import read_aan

    tokenizer = _byte_tokenizer(args)
    splits = read_aan(args.data_dir.expanduser())
    parts = {name: _token_pairs(rows, tokenizer) for name, rows in splits.items()}
    return _text_task(
        parts["train"], parts["validation"], parts["test"], tokenizer, partial(pad_pairs, tokenizer.pad_token_id)
    )


def _length(args: argparse.Namespace) -> int:
    return args.max_length or TASKS[args.task].max_length or 0


def _source(args: argparse.Namespace, hub_id: str) -> str:
    return hub_id if args.data_dir is None else str(args.data_dir)


def _byte_tokenizer(args: argparse.Namespace) -> PreTrainedTokenizerBase:
    from eigenhub.embedded.byte_tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer(_length(args))
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def _tokens(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    def encode(batch: dict[str, list]) -> dict[str, list]:
        return {"input_ids": encode_texts(tokenizer, batch["text"])}

    return rows.map(encode, batched=True, remove_columns=["text"], desc="tokenizing")


def _token_pairs(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    def encode(batch: dict[str, list]) -> dict[str, list]:
        return {name: encode_texts(tokenizer, batch[name]) for name in ("first", "second")}

    return rows.map(encode, batched=True, desc="tokenizing")


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text, cut to the tokenizer's length, with an end-of-sequence token behind."""
    length, end = tokenizer.model_max_length, tokenizer.eos_token_id
    rows = tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
    # The arena's tokenizer of ListOps appends it by itself, and cuts before it; that of bytes does neither.
    return [row if row and row[-1] == end else [*row[: length - 1], end] for row in rows]


def _text_task(
    train: Rows, validation: Rows | None, test: Rows, tokenizer: PreTrainedTokenizerBase, collate: Callable
) -> TaskData:
    rows = train.dataset if isinstance(train, Subset) else train
    inputs = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return TaskData(train, validation, test, collate, inputs, rows.features["labels"].names, tokenizer)  # type: ignore[attr-defined]


def pad_pairs(pad: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Both texts of every row, filled up on the right to the longest of all, `(rows, 2, length)`."""
    texts = [row[name] for row in rows for name in ("first", "second")]
    longest = max(map(len, texts))
    filled = torch.tensor([[*text, *[pad] * (longest - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    return {
        "input_ids": filled.view(len(rows), 2, longest),
        "attention_mask": mask.view(len(rows), 2, longest),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


class Pixels(torch.utils.data.Dataset):
    """
    Images in memory, a byte per pixel and channel.

    Args:
        pixels (`Tensor` of shape `(images, channels, height, width)`): bytes.
        labels (`Tensor` of shape `(images,)`): classes.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixels": self.pixels[index], "labels": self.labels[index]}


def normalise_images(mean: Any, std: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Bytes as floats of about zero mean and unit size."""
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (mean, std))
    pixels = torch.stack([row["pixels"] for row in rows]) / 255
    return {"pixel_values": (pixels - mean) / std, "labels": torch.tensor([row["labels"] for row in rows])}


def _image_task(
    train: Rows, validation: Rows | None, test: Rows, names: list[str], scale: tuple, channels: int
) -> TaskData:
    collate = partial(normalise_images, *scale)
    scaling = {"rescale_factor": 1 / 255, "image_mean": scale[0], "image_std": scale[1]}
    return TaskData(train, validation, test, collate, {"input_size": channels}, names, preprocessing=scaling)


def _cifar(args: argparse.Namespace, grey: bool) -> TaskData:
    from lra_sources import read_cifar

    splits, names = read_cifar(_source(args, "uoft-cs/cifar10"), grey)
    train, validation = _held_out(Pixels(*splits["train"]), args)
    scale, channels = (GREY_CIFAR, 1) if grey else (COLOUR_CIFAR, 3)
    return _image_task(train, validation, Pixels(*splits["test"]), names, scale, channels)


def _pathfinder(args: argparse.Namespace) -> TaskData:
    """Eight tenths to learn from, one to choose by, one to test: the release has no splits of its own."""
    from lra_sources import PathfinderFiles

    rows = PathfinderFiles(args.data_dir.expanduser())
    tenth = len(rows) // 10
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    parts = random_split(rows, [len(rows) - 2 * tenth, tenth, tenth], generator=generator)
    return _image_task(*parts, ["two curves", "one curve"], MIDDLE, 1)


def _speech(args: argparse.Namespace) -> TaskData:
    from lra_sources import WORDS, read_speech

    splits = read_speech(None if args.data_dir is None else args.data_dir.expanduser())
    mean, std = _loudness(splits["train"])
    scaling = {"sampling_rate": 16_000, "rescale_factor": 2**-15, "mean": mean, "std": std}
    collate = partial(normalise_speech, mean, std)
    parts = (splits[name] for name in ("train", "validation", "test"))
    return TaskData(*parts, collate, {"input_size": 1}, list(WORDS), preprocessing=scaling)


def _loudness(rows: Any, count: int = 2000) -> tuple[float, float]:
    """Mean and standard deviation of the samples, from recordings spread over the training data."""
    step = max(1, len(rows) // count)
    samples = torch.stack([rows[index]["samples"] for index in range(0, len(rows), step)]).double() / 2**15
    return samples.mean().item(), samples.std().item()


def normalise_speech(mean: float, std: float, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """16-bit samples as floats of about zero mean and unit size."""
    samples = torch.stack([row["samples"] for row in rows]).float() / 2**15
    return {"input_values": (samples - mean) / std, "labels": torch.tensor([row["labels"] for row in rows])}


def stack(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Rows of tensors as a batch."""
    return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}


def _digits(args: argparse.Namespace) -> TaskData:
    from eigenhub.embedded.digits import as_rows
    from eigenhub.embedded.sequential_digits import load_sequential_digits

    return _embedded_images(load_sequential_digits(), as_rows, args)


def _small_pathfinder(args: argparse.Namespace) -> TaskData:
    from eigenhub.embedded.digits import as_rows
    from eigenhub.embedded.pathfinder import PathfinderRecipe, load_pathfinder

    return _embedded_images(load_pathfinder(PathfinderRecipe(size=16)), as_rows, args)


def _embedded_images(splits: Any, as_rows: Callable, args: argparse.Namespace) -> TaskData:
    train, validation = _held_out(as_rows(splits["train"]), args)
    names = splits["train"].features["labels"].names
    return TaskData(train, validation, as_rows(splits["test"]), stack, {"input_size": 1}, names)


def _pendulum(args: argparse.Namespace) -> TaskData:
    from eigenhub.embedded.digits import as_rows
    from eigenhub.embedded.pendulum import load_pendulum

    splits = load_pendulum().rename_column("values", "input_values")
    train, validation = _held_out(as_rows(splits["train"]), args)
    return TaskData(train, validation, as_rows(splits["test"]), stack, {"input_size": 1}, [])
