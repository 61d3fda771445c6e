# SPDX-License-Identifier: Apache-2.0
"""A stream continues at the very batch where it stood, in every process, across pieces and epochs."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset, load_dataset

from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.training.token_stream import TokenStream
from tests.support.distributed import run_function


BLOCK, BATCH, PIECE, SIZE = 8, 2, 3, 2


def write_rows(folder: Path, number: int = 40) -> None:
    """Rows `<00>`, `<01>`, ... of uneven length in two files, so that each of two processes gets one."""
    rows = [json.dumps({"text": f"<{i:02d}>" * (1 + i % 5)}) + "\n" for i in range(number)]
    for part in range(2):
        (folder / f"rows{part}.jsonl").write_text("".join(rows[part::2]))


def make_stream(folder: str, accelerator: Accelerator, seed: int = 0) -> TokenStream:
    files = sorted(map(str, Path(folder).glob("*.jsonl")))
    rows = load_dataset("json", data_files=files, split="train", streaming=True)
    return TokenStream(accelerator, rows, byte_tokenizer(), "text", BLOCK, BATCH, seed, PIECE)


def read(stream: TokenStream, number: int) -> list[list]:
    windows = stream.windows(SIZE)
    return [[batch["input_ids"].tolist() for batch in next(windows)] for _ in range(number)]


def continued(folder: str, taken: list[int]) -> dict:
    """For each number of windows taken before: whether a fresh stream goes on like the old one."""
    accelerator = Accelerator(cpu=True)
    straight = read(make_stream(folder, accelerator), max(taken) + 15)
    same = {}
    for number in taken:
        stream = make_stream(folder, accelerator)
        read(stream, number)
        state = json.loads(json.dumps(stream.state_dict()))
        fresh = make_stream(folder, accelerator)
        fresh.load_state_dict(state)
        same[number] = read(fresh, 15) == straight[number : number + 15]
    return {"same": same, "first": straight[0], "epochs": stream._epoch}


# 3 batches are a piece and 2 a window, so these stand at all places of a piece; 25 windows are more than an epoch
TAKEN = [0, 1, 2, 3, 4, 7, 25]


def test_continues_where_it_stood(tmp_path: Path) -> None:
    write_rows(tmp_path)
    found = continued(str(tmp_path), TAKEN)
    assert found["epochs"] > 0, "the test does not reach a second epoch"
    assert found["same"] == dict.fromkeys(TAKEN, True)


@pytest.mark.slow
def test_two_processes_read_different_rows_and_continue(tmp_path: Path) -> None:
    write_rows(tmp_path)
    first, second = run_function(continued, nproc=2, folder=str(tmp_path), taken=TAKEN)
    assert all(first["same"].values()) and all(second["same"].values())
    assert first["first"] != second["first"]


def test_an_epoch_is_every_token_once(tmp_path: Path) -> None:
    write_rows(tmp_path)
    stream = make_stream(str(tmp_path), Accelerator(cpu=True))
    texts = [row["text"] for row in stream.rows]
    whole = "".join(text + "\0" for text in texts).encode()
    pieces = len(whole) // (BLOCK * BATCH * PIECE)
    read_back = [ids for window in read(stream, pieces * PIECE // SIZE) for batch in window for ids in batch]
    expected = [list(whole[start : start + BLOCK]) for start in range(0, len(read_back) * BLOCK, BLOCK)]
    # within a piece the order is shuffled
    size = BATCH * PIECE
    for start in range(0, len(read_back) // size * size, size):
        assert sorted(read_back[start : start + size]) == sorted(expected[start : start + size])
    assert read_back != expected


def test_seed_changes_the_order(tmp_path: Path) -> None:
    write_rows(tmp_path)
    accelerator = Accelerator(cpu=True)
    orders = [read(make_stream(str(tmp_path), accelerator, seed), 6) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_labels_are_the_inputs(tmp_path: Path) -> None:
    write_rows(tmp_path)
    (batch, *_) = next(make_stream(str(tmp_path), Accelerator(cpu=True)).windows(SIZE))
    assert batch["input_ids"].shape == (BATCH, BLOCK)
    assert torch.equal(batch["input_ids"], batch["labels"])


def test_no_rows_is_an_error() -> None:
    rows = Dataset.from_dict({"text": ["a"]}).to_iterable_dataset().filter(lambda row: False)
    stream = TokenStream(Accelerator(cpu=True), rows, byte_tokenizer(), "text", BLOCK, BATCH)
    with pytest.raises(ValueError, match="no rows"):
        next(stream.windows(1))
