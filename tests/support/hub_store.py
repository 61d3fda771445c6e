# SPDX-License-Identifier: Apache-2.0
"""Repositories of the stand-in Hub: contents on disk by hash, commits and references in memory."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.support.git_objects import Entry, commit_id, lfs_entry, regular_entry, tree_ids


KINDS = ("model", "dataset", "space")
# What the Hub's default .gitattributes sends to LFS, as far as our clients meet it. `datasets` deletes its temporary
# parquet shard right after pre-upload, so parquet must never be answered with "regular".
LFS_SUFFIXES = frozenset(
    ".arrow .bin .jpg .npy .npz .onnx .parquet .pkl .png .pt .pth .safetensors .webp .zip".split()
)
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES))


class HubError(Exception):
    """A refusal with the status and the error code that the real clients translate into their exceptions."""

    def __init__(self, status: int, code: str, message: str, commit: str | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.commit = status, code, message, commit


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    files: dict[str, Entry]
    title: str
    message: str
    date: datetime


@dataclass
class Repo:
    """One repository: its commits by id, and branches and tags by name."""

    id: str
    kind: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit:
        """Commit of a branch, a tag, or a full or abbreviated commit id."""
        target = self.branches.get(revision) or self.tags.get(revision)
        if target is None and len(revision) >= 7:
            target = next((commit for commit in self.commits if commit.startswith(revision)), None)
        if target is None:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[target]

    def entry(self, revision: str, path: str) -> tuple[Commit, Entry]:
        commit = self.resolve(revision)
        if path not in commit.files:
            raise HubError(404, "EntryNotFound", "Entry not found", commit.id)
        return commit, commit.files[path]

    def commit(self, branch: str, files: dict[str, Entry], title: str, message: str = "") -> Commit:
        """Record `files` as the new head of `branch`."""
        if branch not in self.branches and self.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        parent, date = self.branches.get(branch), datetime.now(UTC)
        oid = commit_id(tree_ids(files)[""], parent, f"{title}\n\n{message}".strip(), date)
        commit = Commit(oid, parent, dict(files), title, message, date)
        self.commits[oid] = commit
        self.branches[branch] = oid
        return commit

    def history(self, revision: str) -> list[Commit]:
        """Commits reachable from `revision`, latest first."""
        commits, commit = [], self.resolve(revision)
        while True:
            commits.append(commit)
            if commit.parent is None:
                return commits
            commit = self.commits[commit.parent]


class HubStore:
    """All repositories under one folder."""

    def __init__(self, root: Path):
        self.objects = root / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.repos: dict[tuple[str, str], Repo] = {}

    def create(self, kind: str, repo_id: str, private: bool = False) -> Repo:
        if kind not in KINDS:
            raise HubError(400, "BadRequest", f"Unknown repository type {kind!r}, expected one of {KINDS}")
        if (kind, repo_id) in self.repos:
            raise HubError(409, "RepoExists", f"You already created this {kind} repo: {repo_id}")
        repo = self.repos[kind, repo_id] = Repo(repo_id, kind, private)
        repo.commit("main", {".gitattributes": self.add(GITATTRIBUTES.encode())}, "initial commit")
        return repo

    def repo(self, kind: str, repo_id: str) -> Repo:
        if (kind, repo_id) not in self.repos:
            raise HubError(404, "RepoNotFound", "Repository not found")
        return self.repos[kind, repo_id]

    def add(self, content: bytes) -> Entry:
        """Keep a regular file."""
        entry = regular_entry(content)
        (self.objects / entry.key).write_bytes(content)
        return entry

    def add_lfs(self, sha256: str, content: bytes) -> None:
        """Keep the uploaded content of an LFS file under its announced hash."""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(400, "BadRequest", f"The uploaded content does not have the announced sha256 {sha256}")
        (self.objects / sha256).write_bytes(content)

    def lfs(self, sha256: str) -> Entry:
        """Entry of an LFS file that was uploaded before the commit that names it."""
        if not self.has(sha256):
            raise HubError(400, "BadRequest", f"LFS object {sha256} was not uploaded before the commit")
        return lfs_entry(sha256, (self.objects / sha256).stat().st_size)

    def has(self, key: str) -> bool:
        return (self.objects / key).is_file()

    def path(self, entry: Entry) -> Path:
        return self.objects / entry.key


def upload_mode(path: str) -> str:
    return "lfs" if Path(path).suffix in LFS_SUFFIXES else "regular"
