# SPDX-License-Identifier: Apache-2.0
"""BT2's index and text head: backfill against raw upserts, mixed against pure search, the fit, the cost of the head.

python benchmarks/bt2_index.py            # with a million vectors, about ten minutes and 8 GB on two cores
python benchmarks/bt2_index.py --short    # twenty thousand; saves nothing
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import lancedb
import numpy as np
import pyarrow as pa
import torch
from support.arguments import arguments
from support.report import row, save
from support.timing import interleaved, ratio
from transformers import BertConfig, BertModel

from eigenhub.models.bt2 import CompatibleIndex, EncoderIdentity, TeacherVectors, fit_head
from eigenhub.nn import FoldedHead


OLD_DIM, NEW_DIM = 384, 416
BATCH = 1000
OLD = EncoderIdentity("old", OLD_DIM)
NEW = EncoderIdentity("new", NEW_DIM, compatible_with=OLD)
UPSERT_BOUND = 1 / 0.8  # at least 80 % of the rate of the raw index
SEARCH_BOUND, HEAD_BOUND, FIT_BOUND = 1.15, 1.01, 10.0


def unit_rows(count: int, width: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class RawFaiss:
    """The index as one would use it without this package: remove, then add."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.index = faiss.IndexIDMap2(faiss.IndexFlatIP(NEW_DIM))
        self.index.add_with_ids(vectors, np.arange(len(vectors)))

    def upsert(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self.index.remove_ids(ids)
        self.index.add_with_ids(vectors, ids)


class RawLance:
    """A LanceDB table and its own `merge_insert`."""

    def __init__(self, vectors: np.ndarray, folder: Path) -> None:
        table = self.rows(np.arange(len(vectors)), vectors)
        self.table = lancedb.connect(folder).create_table("raw", table)

    @staticmethod
    def rows(ids: np.ndarray, vectors: np.ndarray) -> pa.Table:
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), NEW_DIM)
        return pa.table({"id": ids, "generation": np.zeros(len(ids), np.int16), "vector": column})

    def upsert(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        change = self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        change.execute(self.rows(ids, vectors))


def batches(count: int, upsert: Callable[[np.ndarray, np.ndarray], Any], vectors: np.ndarray) -> Callable[[], None]:
    """A call that upserts the next batch of ids, other ones each time."""
    order = np.random.default_rng(1).permutation(count)
    place = 0

    def call() -> None:
        nonlocal place
        ids = order[place : place + BATCH]
        place += BATCH
        upsert(ids, vectors[ids])

    return call


def backfill_rows(backend: str, count: int, rounds: int) -> list[dict[str, Any]]:
    """Backfill on the disk against upserts of the raw index, batch by batch in turn; then the rest, and the search."""
    old, new = unit_rows(count, OLD_DIM, 0), unit_rows(count, NEW_DIM, 1)
    setting = f"{backend}, {count:,} vectors, {OLD_DIM} to {NEW_DIM}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        raw = RawFaiss(new) if backend == "faiss" else RawLance(new, folder / "raw")
        begin = time.perf_counter()
        index = CompatibleIndex.from_old(
            old, np.arange(count), OLD, new_identity=NEW, folder=folder / "index", backend=backend
        )
        made = time.perf_counter() - begin
        index.backfill([0], new[:1])  # makes room for the new coordinates, once
        calls = {
            "ours": batches(count, lambda ids, rows: index.backfill(ids, rows, batch_size=BATCH), new),
            "raw": batches(count, raw.upsert, new),
        }
        seconds = interleaved(calls, rounds, f"backfill, {setting}")
        found = ratio(seconds, "ours", "raw")
        rate = BATCH / np.median(seconds["ours"])
        rows = [
            row("durable backfill over raw upsert", setting, found.pop("ratio"), UPSERT_BOUND, **found),
            row("backfill, vectors per second", setting, rate, kind="time", digits=4),
            row("making the index, seconds", setting, made, kind="time"),
        ]
        del raw
        return [*rows, *search_rows(index, new, setting)]


def search_rows(index: CompatibleIndex, new: np.ndarray, setting: str) -> list[dict[str, Any]]:
    """Single queries in the mixed index against the same index when it is whole."""
    queries = unit_rows(64, NEW_DIM, 2)

    def one_by_one() -> None:
        for query in queries[:8]:
            index.search(query, k=10, identity=NEW)

    share = index.status().share
    ids = index.plan("ids")
    mixed, whole = [], []
    for _ in range(5):  # forth and back, so that a busy moment hits both
        mixed += interleaved({"mixed": one_by_one}, 4, f"search, {setting}")["mixed"]
        index.backfill(ids, new[ids], batch_size=50_000)
        whole += interleaved({"whole": one_by_one}, 4, f"search, {setting}")["whole"]
        index.rollback(ids)
    found = ratio({"mixed": mixed, "whole": whole}, "mixed", "whole")
    what = f"search, {share:.0%} backfilled over 100 %"
    return [
        row(what, setting, found.pop("ratio"), SEARCH_BOUND, **found),
        row("one search, milliseconds", setting, 1000 * float(np.median(mixed)) / 8, kind="time"),
    ]


def fit_rows() -> list[dict[str, Any]]:
    """The whole fit of a head, and what the folded head adds to encoding."""
    sides = [unit_rows(2400, OLD_DIM, seed) for seed in range(4)]
    begin = time.process_time()
    head = fit_head(TeacherVectors(*sides))
    spent = time.process_time() - begin
    what, setting = "fit-head, processor seconds", "2,400 pairs, 384 dimensions, 32 added"
    rows = [row(what, setting, spent, FIT_BOUND, "time")]
    config = BertConfig(hidden_size=OLD_DIM, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    trunk, folded = BertModel(config).eval(), FoldedHead(head).eval()
    tokens, vectors = torch.randint(1000, (32, 48)), torch.randn(32, OLD_DIM)

    @torch.inference_mode()
    def encode() -> None:
        trunk(tokens)

    @torch.inference_mode()
    def apply_head() -> None:
        folded(vectors)

    seconds = interleaved({"encode": encode, "head": apply_head}, 10, "encoding")
    share = ratio(seconds, "head", "encode")["ratio"]
    setting = "6 layers of width 384, 32 texts of 48 tokens"
    return [*rows, row("encoding with the folded head over without", setting, 1 + share, HEAD_BOUND, digits=5)]


def main() -> None:
    short = not arguments(__doc__, "full", "twenty thousand vectors; prints only").parse_args().full
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rows = fit_rows()
    for backend, count, rounds in (
        ("faiss", 20_000, 10),
        ("lancedb", 20_000, 10),
        *(() if short else (("lancedb", 200_000, 20), ("faiss", 1_000_000, 10))),
    ):
        rows += backfill_rows(backend, count, rounds)
    packages = ["faiss-cpu", "lancedb", "sentence-transformers", "numpy"]
    save("bt2_index", "BT²: index and head", rows, packages, keep=not short)


if __name__ == "__main__":
    main()
