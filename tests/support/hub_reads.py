# SPDX-License-Identifier: Apache-2.0
"""Reading routes of the stand-in Hub: repository info, trees, references, history and files."""

from datetime import datetime
from typing import Any
from urllib.parse import unquote

import yaml
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tests.support.git_objects import Entry, lfs_pointer, tree_ids
from tests.support.hub_store import Commit, HubError, HubStore, Repo


USER = "tester"


def requested_repo(request: Request) -> Repo:
    """Repository named by the path, whose first parts are `{kind}s/{namespace}/{name}`."""
    store: HubStore = request.app.state.store
    kind = request.path_params.get("kinds", "models").removesuffix("s")
    repo = store.repo(kind, repo_id(request))
    if repo.private and "authorization" not in request.headers:
        # as for one that does not exist: nobody learns that there is something to see
        raise HubError(401, "RepoNotFound", "Repository not found")
    return repo


def repo_id(request: Request) -> str:
    return "{namespace}/{name}".format(**request.path_params)


def requested_revision(request: Request) -> str:
    return unquote(request.path_params.get("revision", "main"))


def front_matter(text: str) -> Any:
    """Parsed YAML block at the top of a card, `None` where there is none; raises `yaml.YAMLError` if it is broken."""
    if not text.startswith("---\n") or "\n---" not in text[3:]:
        return None
    return yaml.safe_load(text[4 : text.index("\n---", 3)])


def card_data(store: HubStore, commit: Commit) -> dict[str, Any]:
    entry = commit.files.get("README.md")
    data = front_matter(store.path(entry).read_text()) if entry else None
    return data if isinstance(data, dict) else {}


def stamp(date: datetime) -> str:
    """The one form of a date that huggingface_hub parses."""
    return date.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lfs_info(entry: Entry) -> dict[str, Any]:
    if entry.sha256 is None:
        return {}
    pointer_size = len(lfs_pointer(entry.sha256, entry.size))
    return {"lfs": {"oid": entry.sha256, "sha256": entry.sha256, "size": entry.size, "pointerSize": pointer_size}}


def path_info(path: str, commit: Commit, folders: dict[str, str]) -> dict[str, Any] | None:
    """Entry of a tree listing: a file, a folder, or `None`."""
    if path in commit.files:
        entry = commit.files[path]
        return {"type": "file", "path": path, "oid": entry.oid, "size": entry.size, **lfs_info(entry)}
    return {"type": "directory", "path": path, "oid": folders[path], "size": 0} if path in folders else None


def last_commit(repo: Repo, commit: Commit, path: str) -> dict[str, Any]:
    """Last change of `path`, which `expand=True` asks for."""
    history = repo.history(commit.id)
    for newer, older in zip(history, history[1:], strict=False):
        if newer.files.get(path) != older.files.get(path):
            break
    else:
        newer = history[-1]
    return {"lastCommit": {"id": newer.id, "title": newer.title, "date": stamp(newer.date)}}


async def whoami(request: Request) -> Response:
    if "authorization" not in request.headers:
        raise HubError(401, "Unauthorized", "Invalid username or password.")
    return JSONResponse({"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": {"type": "access_token"}})


async def info(request: Request) -> Response:
    repo = requested_repo(request)
    commit = repo.resolve(requested_revision(request))
    card = card_data(request.app.state.store, commit)
    siblings = [
        {"rfilename": path, "size": entry.size, "blobId": entry.oid, **lfs_info(entry)}
        for path, entry in sorted(commit.files.items())
    ]
    return JSONResponse(
        {
            "_id": commit.id[:24],
            "id": repo.id,
            "author": repo.id.split("/")[0],
            "sha": commit.id,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "createdAt": stamp(repo.history(commit.id)[-1].date),
            "lastModified": stamp(commit.date),
            "tags": card.get("tags", []),
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
            "sdk": card.get("sdk"),
            "cardData": card,
            "siblings": siblings,
        }
    )


async def tree(request: Request) -> Response:
    repo = requested_repo(request)
    commit = repo.resolve(requested_revision(request))
    folders = tree_ids(commit.files)
    top = unquote(request.path_params.get("path", "")).strip("/")
    if top not in folders:
        raise HubError(404, "EntryNotFound", f"{top} does not exist on {commit.id}", commit.id)
    recursive = request.query_params.get("recursive", "false").lower() in ("true", "1")
    prefix = f"{top}/" if top else ""
    below = [path for path in sorted({*commit.files, *folders}) if path and path.startswith(prefix)]
    listed = [path for path in below if recursive or "/" not in path.removeprefix(prefix)]
    expand = request.query_params.get("expand", "false").lower() in ("true", "1")
    return JSONResponse([describe(repo, commit, path, folders, expand) for path in listed])


def describe(repo: Repo, commit: Commit, path: str, folders: dict[str, str], expand: bool) -> dict[str, Any] | None:
    found = path_info(path, commit, folders)
    return found | last_commit(repo, commit, path) if found and expand else found


async def paths_info(request: Request) -> Response:
    repo = requested_repo(request)
    commit = repo.resolve(requested_revision(request))
    form = await request.form()
    paths, expand = [str(path) for path in form.getlist("paths")], str(form.get("expand", "")).lower() == "true"
    folders = tree_ids(commit.files)
    return JSONResponse([found for path in paths if (found := describe(repo, commit, path, folders, expand))])


async def refs(request: Request) -> Response:
    repo = requested_repo(request)

    def listing(folder: str, references: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": c} for n, c in references.items()]

    return JSONResponse(
        {"branches": listing("heads", repo.branches), "tags": listing("tags", repo.tags), "converts": []}
    )


async def commits(request: Request) -> Response:
    return JSONResponse(
        [
            {"id": c.id, "title": c.title, "message": c.message, "authors": [{"user": USER}], "date": stamp(c.date)}
            for c in requested_repo(request).history(requested_revision(request))
        ]
    )


async def resolve(request: Request) -> Response:
    """File contents; `FileResponse` answers range requests and HEAD."""
    repo = requested_repo(request)
    commit, entry = repo.entry(requested_revision(request), unquote(request.path_params["path"]))
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.key}"', "Accept-Ranges": "bytes"}
    if entry.sha256:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    return FileResponse(request.app.state.store.path(entry), headers=headers)
