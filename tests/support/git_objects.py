# SPDX-License-Identifier: Apache-2.0
"""Object ids as git computes them, so that the stand-in of the Hub hands out real blob, tree and commit ids."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


AUTHOR = "tester <tester@localhost>"


@dataclass(frozen=True)
class Entry:
    """One file of a commit.

    Args:
        oid (`str`):
            git blob id of what git stores: the content itself, or the LFS pointer.
        size (`int`):
            Size of the content in bytes.
        sha256 (`str`, *optional*):
            Hash of the content of an LFS file; `None` for a regular file.
    """

    oid: str
    size: int
    sha256: str | None = None

    @property
    def key(self) -> str:
        """What the Hub sends as ETag and compares on upload: sha256 for LFS files, the blob id for the others."""
        return self.sha256 or self.oid


def object_id(kind: str, payload: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(payload)}\0".encode() + payload).hexdigest()


def regular_entry(content: bytes) -> Entry:
    return Entry(object_id("blob", content), len(content))


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def lfs_entry(sha256: str, size: int) -> Entry:
    return Entry(object_id("blob", lfs_pointer(sha256, size)), size, sha256)


def tree_ids(files: Mapping[str, Entry]) -> dict[str, str]:
    """Ids of every folder of a commit by its path; the root is the empty path."""
    ids: dict[str, str] = {}
    _tree_id("", files, ids)
    return ids


def _tree_id(folder: str, files: Mapping[str, Entry], ids: dict[str, str]) -> str:
    children: dict[str, tuple[str, str]] = {}
    prefix = f"{folder}/" if folder else ""
    for path, entry in files.items():
        if not path.startswith(prefix):
            continue
        name, slash, _ = path.removeprefix(prefix).partition("/")
        if not slash:
            children[name] = ("100644", entry.oid)
        elif name not in children:
            children[name] = ("40000", _tree_id(prefix + name, files, ids))
    # git sorts a folder as if its name ended in a slash
    ordered = sorted(children.items(), key=lambda item: item[0] + "/" * (item[1][0] == "40000"))
    payload = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(oid) for name, (mode, oid) in ordered)
    ids[folder] = object_id("tree", payload)
    return ids[folder]


def commit_id(tree: str, parent: str | None, message: str, date: datetime) -> str:
    stamp = f"{AUTHOR} {int(date.timestamp())} +0000"
    lines = [f"tree {tree}", *([f"parent {parent}"] if parent else []), f"author {stamp}", f"committer {stamp}"]
    return object_id("commit", ("\n".join(lines) + f"\n\n{message}\n").encode())
