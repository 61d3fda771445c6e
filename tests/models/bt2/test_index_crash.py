# SPDX-License-Identifier: Apache-2.0
"""A process that is killed at any point loses nothing that was written, and the next one goes on."""

import shutil
import sys

import numpy as np
import pytest

from eigenhub.models.bt2 import index_faiss
from eigenhub.models.bt2.index import CompatibleIndex
from eigenhub.models.bt2.index_log import HEADER, Kind, VectorLog
from eigenhub.models.bt2.index_stamp import STAMP_FILE, IndexStamp
from tests.models.bt2.index_cases import BACKENDS, NEW, NEW_DIM, OLD_DIM, Gallery, none_of
from tests.support.devices import require_package
from tests.support.kills import kill_after
from tests.support.processes import ROOT, child_environment, run


pytestmark = [require_package("faiss"), require_package("lancedb")]

JOB = ROOT / "tests" / "models" / "bt2" / "index_job.py"


def progress_in(folder, backend):
    """Number of writes so far, as seen from outside."""

    def count():
        if not (folder / STAMP_FILE).exists():
            return 0
        if backend == "faiss":
            return sum(path.stat().st_size for path in folder.glob("vectors-*.log")) // 1024
        return sum(1 for _ in (folder / "tables").rglob("*.manifest"))

    return count


@pytest.mark.parametrize("backend", BACKENDS)
def test_sigkill_in_mid_backfill(backend, tmp_path):
    """Killed twice on the way, the third process ends where an undisturbed one would."""
    size, batch = {"faiss": 3000, "lancedb": 600}[backend], 10
    folder = tmp_path / "index"
    command = [sys.executable, str(JOB), str(folder), backend, str(size), str(batch)]
    gallery = Gallery(size)
    shares = []
    for due in (190, 260) if backend == "faiss" else (14, 24):
        progress = progress_in(folder, backend)
        assert kill_after(command, child_environment(), tmp_path, progress, soon=1, due=due)
        with CompatibleIndex.open(folder, identity=NEW) as index:
            done = np.sort(gallery.ids)[: index.status().backfilled]
            assert len(done) % batch == 0
            gallery.assert_answers(index, gallery.mask(done))
            assert set(index.plan()) == set(gallery.ids.tolist()) - set(done.tolist())
            shares.append(index.status().share)
    assert 0 < shares[0] < shares[1] < 1
    run(command, child_environment(), tmp_path)
    with CompatibleIndex.open(folder) as index:
        assert index.status().share == 1 and index.old_scale == 1.1
        gallery.assert_answers(index, ~none_of(gallery))


def test_every_length_of_the_log_is_a_state_between_two_writes(tmp_path):
    """Whatever part of its last write a killed process got to the disk: cut the log at every kind of place."""
    gallery = Gallery(size=60)
    folder = tmp_path / "whole"
    index = gallery.index(folder=folder)
    sizes, states = [index.status().disk_bytes], [none_of(gallery)]

    def note(mask):
        sizes.append(index.status().disk_bytes)
        states.append(mask)

    for begin in (0, 20):
        index.backfill(gallery.ids[begin : begin + 20], gallery.new[begin : begin + 20])
        note(gallery.mask(gallery.ids[: begin + 20]))
    index.rollback(gallery.ids[10:30])
    note(gallery.mask(gallery.ids[[*range(10), *range(30, 40)]]))
    index.close()
    log = (folder / "vectors-0.log").read_bytes()
    inside = {a + offset for a in sizes[:-1] for offset in (1, 3, HEADER.size - 1, HEADER.size, HEADER.size + 9, 100)}
    for length in sorted({*sizes, *inside, *range(sizes[0], len(log), 211)} & set(range(sizes[0], len(log) + 1))):
        cut = tmp_path / "cut"
        shutil.copytree(folder, cut, ignore=shutil.ignore_patterns("lock"))
        (cut / "vectors-0.log").write_bytes(log[:length])
        with CompatibleIndex.open(cut) as again:
            whole = max(i for i, size in enumerate(sizes) if size <= length)
            gallery.assert_answers(again, states[whole])
            assert again.status().disk_bytes == sizes[whole]
            again.backfill(again.plan(), gallery.encode)  # writes go on behind the last whole one
        with CompatibleIndex.open(cut) as again:
            gallery.assert_answers(again, ~none_of(gallery))
        shutil.rmtree(cut)


def test_zeros_at_the_end_are_the_room_of_a_write_that_never_came(tmp_path):
    """Some file systems grow a file before its content arrives."""
    gallery = Gallery(size=20)
    gallery.index(folder=tmp_path).close()
    with (tmp_path / "vectors-0.log").open("ab") as file:
        file.write(bytes(500))
    with CompatibleIndex.open(tmp_path) as index:
        gallery.assert_answers(index, none_of(gallery))


def test_damage_in_the_middle_is_not_cut_off(tmp_path):
    gallery = Gallery(size=40)
    index = gallery.index(folder=tmp_path)
    middle = index.status().disk_bytes
    for part in (slice(0, 20), slice(20, 40)):
        index.backfill(gallery.ids[part], gallery.new[part])
    index.close()
    log = bytearray((tmp_path / "vectors-0.log").read_bytes())
    for place in (middle + HEADER.size + 200, middle + 1):  # in the vectors of a write, and in its header
        broken = log.copy()
        broken[place] ^= 1
        (tmp_path / "vectors-0.log").write_bytes(broken)
        with pytest.raises(OSError, match=rf"vectors-0.log is damaged at byte {middle}: restore it from a copy"):
            CompatibleIndex.open(tmp_path)
    (tmp_path / "vectors-0.log").write_bytes(log)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", ["from_old", "first vector", "old_scale", "compact"])
def test_killed_between_the_vectors_and_the_stamp(backend, step, tmp_path, monkeypatch):
    """The stamp is written last; without it the step has not happened, and it can be done again."""
    gallery = Gallery(size=80)

    def killed(*_):
        raise KeyboardInterrupt

    def make():
        return gallery.index(folder=tmp_path, backend=backend)

    if step == "from_old":
        with monkeypatch.context() as patch:
            patch.setattr(IndexStamp, "save", killed)
            with pytest.raises(KeyboardInterrupt):
                make()
        gallery.assert_answers(make(), none_of(gallery))
        return
    index = make()
    mask = none_of(gallery)
    if step != "first vector":
        index.backfill(gallery.ids[:30], gallery.new[:30])
        mask = gallery.mask(gallery.ids[:30])
    change = {
        "first vector": lambda: index.backfill(gallery.ids[:30], gallery.new[:30]),
        "old_scale": lambda: index.set_old_scale(1.5),
        "compact": lambda: index.compact(),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(IndexStamp, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            change()
    index.close()
    index = CompatibleIndex.open(tmp_path)
    gallery.assert_answers(index, mask)
    change()
    if step == "compact":
        index.close()
        index = CompatibleIndex.open(tmp_path)
    gallery.assert_answers(index, gallery.mask(gallery.ids[:30]), 1.5 if step == "old_scale" else 1.0)
    index.backfill(index.plan(), gallery.encode)
    gallery.assert_answers(index, ~none_of(gallery))
    leftovers = {path.name for path in tmp_path.glob("vectors-*.log")} | {
        path.name for path in tmp_path.glob("tables/*")
    }
    assert len(leftovers) == (1 if backend == "faiss" else 2)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    gallery = Gallery(size=40)
    index = gallery.index(folder=tmp_path)
    index.backfill(gallery.ids[:10], gallery.new[:10])
    size = (tmp_path / "vectors-0.log").stat().st_size
    write = VectorLog._write

    def full(self, part):
        write(self, part[: len(part) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VectorLog, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        index.backfill(gallery.ids[10:20], gallery.new[10:20])
    monkeypatch.undo()
    assert (tmp_path / "vectors-0.log").stat().st_size == size
    gallery.assert_answers(index, gallery.mask(gallery.ids[:10]))
    assert index.backfill(gallery.ids[10:20], gallery.new[10:20]) == (10, 0)
    gallery.assert_answers(index, gallery.mask(gallery.ids[:20]))


def test_no_memory_for_a_wider_index_leaves_the_old_one(monkeypatch):
    gallery = Gallery(size=40)
    index = gallery.index()

    def too_large(*_):
        raise MemoryError

    monkeypatch.setattr(index_faiss, "FaissSearch", too_large)
    with pytest.raises(MemoryError):
        index.backfill(gallery.ids[:10], gallery.new[:10])
    monkeypatch.undo()
    gallery.assert_answers(index, none_of(gallery))
    assert index.backfill(gallery.ids[:10], gallery.new[:10]) == (10, 0)
    gallery.assert_answers(index, gallery.mask(gallery.ids[:10]))


def test_the_log_gives_back_what_was_put(tmp_path):
    log = VectorLog(tmp_path / "log")
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(count, width)).astype(np.float32) for count, width in ((5, OLD_DIM), (7, NEW_DIM))]
    records = [log.append(Kind.PUT, np.arange(len(part)), part, g) for g, part in enumerate(parts)]
    log.append(Kind.REMOVE, np.array([3]))
    log.close()
    log = VectorLog(tmp_path / "log", read_only=True)
    found = list(log.replay())
    assert [(r.kind, r.generation, r.dim, r.start) for r in found[:2]] == [
        (r.kind, r.generation, r.dim, r.start) for r in records
    ]
    assert (found[2].kind, found[2].ids.tolist()) == (Kind.REMOVE, [3])
    for record, part in zip(records, parts, strict=True):
        np.testing.assert_array_equal(log.read(record.starts[::-1], record.dim), part[::-1])
    assert list(log.replay()) == []
