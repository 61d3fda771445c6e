# SPDX-License-Identifier: Apache-2.0
"""A local stand-in of the Hub: the real clients push to it and load from it over HTTP.

    with HubServer(tmp_path) as server:
        run_client("from transformers import AutoModel; ...", server, cache_dir=tmp_path / "client")
        assert "model.safetensors" in server.files("tester/model")

Any token is accepted as that of the owner; writing needs one, and so does reading a private repository. Xet transfers and pull requests do not exist
here. Clients read `HF_ENDPOINT` when they are imported: run them through `run_client`, in a process of their own.
"""

import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.support import hub_reads, hub_writes
from tests.support.hub_store import HubError, HubStore
from tests.support.processes import Finished, run_python


REPO = "{namespace}/{name}"
API = "/api/{kinds}/" + REPO
PUBLIC_POSTS = ("/api/validate-yaml", "/paths-info/")


def routes() -> list[Route]:
    read, write = ["GET"], ["POST"]
    prefixes = ("/{kinds}/", "/")  # models have no prefix
    table = [
        Route("/api/whoami-v2", hub_reads.whoami, methods=read),
        Route("/api/validate-yaml", hub_writes.validate_yaml, methods=write),
        Route("/api/repos/create", hub_writes.create_repo, methods=write),
        Route(API, hub_reads.info, methods=read),
        Route(API + "/revision/{revision}", hub_reads.info, methods=read),
        Route(API + "/tree/{revision}", hub_reads.tree, methods=read),
        Route(API + "/tree/{revision}/{path:path}", hub_reads.tree, methods=read),
        Route(API + "/paths-info/{revision}", hub_reads.paths_info, methods=write),
        Route(API + "/refs", hub_reads.refs, methods=read),
        Route(API + "/commits/{revision}", hub_reads.commits, methods=read),
        Route(API + "/preupload/{revision}", hub_writes.preupload, methods=write),
        Route(API + "/commit/{revision}", hub_writes.commit, methods=write),
        Route(API + "/branch/{branch}", hub_writes.branch, methods=["POST", "DELETE"]),
        Route(API + "/tag/{revision}", hub_writes.tag, methods=["POST", "DELETE"]),
        Route("/lfs-objects/{oid}", hub_writes.lfs_put, methods=["PUT"]),
    ]
    for prefix in prefixes:
        table.append(Route(f"{prefix}{REPO}.git/info/lfs/objects/batch", hub_writes.lfs_batch, methods=write))
        table.append(Route(f"{prefix}{REPO}/resolve/{{revision}}/{{path:path}}", hub_reads.resolve, methods=read))
    return table


async def refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    headers = {"X-Error-Code": error.code, "X-Error-Message": error.message}
    # a client that sees the commit of a missing file caches the absence and does not ask again
    headers |= {"X-Repo-Commit": error.commit} if error.commit else {}
    return JSONResponse({"error": error.message}, error.status, headers)


class Door:
    """Outermost layer: keeps `%2F` apart from `/`, notes each request, and lets nobody write without a token."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.requests: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = scope["raw_path"].decode().partition("?")[0]
            self.requests.append(f"{scope['method']} {unquote(scope['path'])}")
            if self.needs_token(scope) and b"authorization" not in dict(scope["headers"]):
                error = HubError(401, "Unauthorized", "Invalid credentials in Authorization header")
                return await (await refuse(Request(scope), error))(scope, receive, send)
        await self.app(scope, receive, send)

    @staticmethod
    def needs_token(scope: Scope) -> bool:
        writes = scope["method"] in ("POST", "DELETE")
        return writes and not any(part in scope["path"] for part in PUBLIC_POSTS)


class HubServer:
    """The stand-in on a free port of the loopback interface, in a thread of this process.

    Args:
        root (`Path`):
            Folder for the contents of the repositories.
    """

    token = "hf_local"

    def __init__(self, root: Path):
        self.store = HubStore(root)
        app = Starlette(routes=routes(), exception_handlers={HubError: refuse})
        app.state.store = self.store
        self._door = Door(app)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self._door, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def requests(self) -> list[str]:
        """Every request so far, as `METHOD /path`."""
        return list(self._door.requests)

    def files(self, repo_id: str, kind: str = "model", revision: str = "main") -> list[str]:
        return sorted(self.store.repo(kind, repo_id).resolve(revision).files)

    def read(self, repo_id: str, path: str, kind: str = "model", revision: str = "main") -> bytes:
        _, entry = self.store.repo(kind, repo_id).entry(revision, path)
        return self.store.path(entry).read_bytes()


def client_environment(server: HubServer, cache_dir: Path, offline: bool) -> dict[str, str]:
    """Environment of a user's machine whose Hub is `server` and whose caches are empty but for `cache_dir`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    hub = {"HF_ENDPOINT": server.url, "HF_TOKEN": server.token, "HF_HUB_OFFLINE": "1" if offline else "0"}
    switches = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
    return kept | hub | {"HF_HOME": str(cache_dir / "hf_home")} | dict.fromkeys(switches, "1")


def run_client(
    code: str | Path,
    server: HubServer,
    cache_dir: Path,
    *arguments: str,
    offline: bool = False,
    block: tuple[str, ...] = ("eigenhub",),
    check: bool = True,
    timeout: float = 240,
) -> Finished:
    """Run a client of the Hub in a fresh process, as on a machine of its own.

    Args:
        code (`str` or `Path`):
            Program text, or the path of a script.
        server (`HubServer`):
            Stand-in that the client takes for the Hub.
        cache_dir (`Path`):
            Working directory and home of all caches; give two clients the same one to share what was downloaded.
        arguments (`str`):
            Command-line arguments of the program.
        offline (`bool`, *optional*, defaults to `False`):
            Whether to set `HF_HUB_OFFLINE`, so that only the caches are left.
        block (`tuple[str, ...]`, *optional*, defaults to `("eigenhub",)`):
            Packages that the client cannot import. A stranger's machine has nothing of ours: pass `()` for a client
            that uses the package.
        check (`bool`, *optional*, defaults to `True`):
            Whether a failure of the client raises, with all that it printed.
        timeout (`float`, *optional*, defaults to 240):
            Seconds until the client is killed.

    Returns:
        `Finished`: exit code, stdout and stderr.
    """
    environment = client_environment(server, cache_dir, offline)
    return run_python(
        code, *arguments, folder=cache_dir, environment=environment, block=block, check=check, timeout=timeout
    )
