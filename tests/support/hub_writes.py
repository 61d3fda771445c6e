# SPDX-License-Identifier: Apache-2.0
"""Writing routes of the stand-in Hub: repositories, commits, LFS objects, branches and tags."""

import base64
import json
from typing import Any
from urllib.parse import unquote

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.git_objects import Entry
from tests.support.hub_reads import USER, front_matter, requested_repo, requested_revision
from tests.support.hub_store import HubError, HubStore, upload_mode


COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SPACE_SDKS = ("gradio", "docker", "static", "streamlit")


def repo_url(request: Request, kind: str, name: str) -> str:
    return f"{request.base_url}{'' if kind == 'model' else kind + 's/'}{name}"


async def create_repo(request: Request) -> Response:
    payload = await request.json()
    kind, name = payload.get("type") or "model", f"{payload.get('organization') or USER}/{payload['name']}"
    url = repo_url(request, kind, name)
    try:
        request.app.state.store.create(kind, name, private=payload.get("visibility") == "private")
    except HubError as error:
        if error.status != 409:
            raise
        # with `exist_ok` the client reads the address out of the refusal
        return JSONResponse({"error": error.message, "url": url}, 409)
    return JSONResponse({"url": url, "name": name, "id": name})


def space_errors(metadata: dict[str, Any]) -> list[str]:
    errors = []
    if metadata.get("sdk") not in SPACE_SDKS:
        errors.append(f'"sdk" must be one of {SPACE_SDKS}, got {metadata.get("sdk")!r}')
    errors += [
        f'"{key}" must be one of {COLORS}, got {metadata[key]!r}'
        for key in ("colorFrom", "colorTo")
        if metadata.get(key, "red") not in COLORS
    ]
    if len(metadata.get("short_description") or "") > 60:
        errors.append('"short_description" must be at most 60 characters long')
    return errors


async def validate_yaml(request: Request) -> Response:
    payload = await request.json()
    try:
        metadata = front_matter(payload["content"])
    except yaml.YAMLError as error:
        return JSONResponse({"errors": [{"message": f"bad YAML: {error}"}], "warnings": []}, 400)
    if metadata is None:
        warning = {"message": "empty or missing yaml metadata in repo card"}
        return JSONResponse({"errors": [], "warnings": [warning]})
    errors = [] if isinstance(metadata, dict) else ["the metadata must be a mapping"]
    if not errors and payload.get("repoType") == "space":
        errors = space_errors(metadata)
    return JSONResponse({"errors": [{"message": text} for text in errors], "warnings": []}, 400 if errors else 200)


async def preupload(request: Request) -> Response:
    files = requested_repo(request).resolve(requested_revision(request)).files

    def answer(path: str) -> dict[str, Any]:
        known = files[path].key if path in files else None
        return {"path": path, "uploadMode": upload_mode(path), "shouldIgnore": False, "oid": known}

    return JSONResponse({"files": [answer(file["path"]) for file in (await request.json())["files"]]})


async def lfs_batch(request: Request) -> Response:
    requested_repo(request)
    store: HubStore = request.app.state.store

    def answer(oid: str, size: int) -> dict[str, Any]:
        upload = {} if store.has(oid) else {"actions": {"upload": {"href": f"{request.base_url}lfs-objects/{oid}"}}}
        return {"oid": oid, "size": size, **upload}

    objects = [answer(item["oid"], item["size"]) for item in (await request.json())["objects"]]
    return JSONResponse({"transfer": "basic", "objects": objects})


async def lfs_put(request: Request) -> Response:
    request.app.state.store.add_lfs(request.path_params["oid"], await request.body())
    return Response()


async def commit(request: Request) -> Response:
    repo, branch = requested_repo(request), requested_revision(request)
    if "create_pr" in request.query_params:
        raise HubError(501, "NotImplemented", "The stand-in Hub has no pull requests")
    head = repo.resolve(branch)
    operations = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
    header = next(operation["value"] for operation in operations if operation["key"] == "header")
    if header.get("parentCommit", head.id) != head.id:
        raise HubError(412, "PreconditionFailed", "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for operation in operations:
        apply(operation["key"], operation["value"], files, request.app.state.store, head.id)
    made = repo.commit(branch, files, header["summary"], header.get("description", ""))
    url = f"{repo_url(request, repo.kind, repo.id)}/commit/{made.id}"
    return JSONResponse({"success": True, "commitUrl": url, "commitOid": made.id, "hookOutput": ""})


def apply(key: str, value: dict[str, Any], files: dict[str, Entry], store: HubStore, head: str) -> None:
    """Carry one line of a commit out on the listing `files`."""
    if key == "file":
        files[value["path"]] = store.add(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        files[value["path"]] = store.lfs(value["oid"])
    elif key in ("deletedFile", "deletedFolder"):
        prefix = value["path"].rstrip("/") + "/"
        gone = [path for path in files if path == value["path"] or key == "deletedFolder" and path.startswith(prefix)]
        if not gone:
            raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {value['path']}", head)
        for path in gone:
            del files[path]
    elif key != "header":
        raise HubError(400, "BadRequest", f"Unknown commit operation {key!r}")


async def branch(request: Request) -> Response:
    repo, name = requested_repo(request), unquote(request.path_params["branch"])
    if request.method == "DELETE":
        return remove(repo.branches, name, protected="main")
    payload = json.loads(await request.body() or b"{}")
    return point(repo.branches, name, repo.resolve(payload.get("startingPoint", "main")).id)


async def tag(request: Request) -> Response:
    repo, name = requested_repo(request), requested_revision(request)
    if request.method == "DELETE":
        return remove(repo.tags, name)
    return point(repo.tags, (await request.json())["tag"], repo.resolve(name).id)


def point(references: dict[str, str], name: str, target: str) -> Response:
    if name in references:
        raise HubError(409, "RefExists", f"Reference already exists: {name}")
    references[name] = target
    return JSONResponse({"success": True})


def remove(references: dict[str, str], name: str, protected: str | None = None) -> Response:
    if name == protected:
        raise HubError(403, "Forbidden", f"Cannot delete {name}")
    if references.pop(name, None) is None:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {name}")
    return JSONResponse({"success": True})
