# SPDX-License-Identifier: Apache-2.0
"""The stand-in of the Hub carries the real clients, each in fresh processes, then the same loads offline."""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.git_objects import commit_id, object_id, regular_entry, tree_ids
from tests.support.hub_server import HubServer, run_client
from tests.support.hub_store import HubStore


CLIENTS = Path(__file__).parent / "hub_clients"

pytestmark = pytest.mark.hub


def load_twice(script: str, server: HubServer, folder: Path):
    """Result of a loading client, checked to be the same from the caches alone."""
    online = run_client(CLIENTS / script, server, folder).result
    seen = len(server.requests)
    assert run_client(CLIENTS / script, server, folder, offline=True).result == online
    assert len(server.requests) == seen, "the offline client asked the Hub"
    return online


@pytest.mark.slow
def test_transformers_and_peft_models(hub_server, tmp_path):
    pushed = run_client(CLIENTS / "models_push.py", hub_server, tmp_path / "author").result
    loaded = load_twice("models_load.py", hub_server, tmp_path / "reader")
    assert loaded["llama"] == pytest.approx(pushed["llama"], abs=1e-6)
    assert loaded["adapter"] == pytest.approx(pushed["adapter"], abs=1e-6)
    assert abs(pushed["adapter"] - pushed["llama"]) > 1e-4
    assert loaded["scale"] == [1, 2, 3]
    assert "trust_remote_code" in loaded["refusal"]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(hub_server.files("tester/adapter"))
    assert any(line.startswith("PUT /lfs-objects/") for line in hub_server.requests)


def test_repositories_cards_and_revisions(hub_server, tmp_path):
    assert run_client(CLIENTS / "repositories.py", hub_server, tmp_path).result == "done"


@pytest.mark.slow
def test_trainer(hub_server, tmp_path):
    loss = run_client(CLIENTS / "training.py", hub_server, tmp_path / "author").result
    assert load_twice("training_load.py", hub_server, tmp_path / "reader") == pytest.approx(loss, rel=1e-5)
    assert {"model.safetensors", "README.md", "training_args.bin"} <= set(hub_server.files("tester/trained"))


def test_datasets(hub_server, tmp_path):
    run_client(CLIENTS / "dataset_push.py", hub_server, tmp_path / "author")
    rows = load_twice("dataset_load.py", hub_server, tmp_path / "reader")
    assert rows == {"train": list(range(8)), "test": 2, "last": {"text": "row 7", "label": 7}}


def test_an_absent_package_and_an_absent_hub(hub_server, tmp_path):
    """Offline without a cache fails at once, and what is blocked cannot be imported or found."""
    offline = run_client(
        "from transformers import AutoConfig; AutoConfig.from_pretrained('tester/nothing')",
        hub_server, tmp_path, offline=True, check=False,
    )  # fmt: skip
    assert offline.returncode == 1 and "offline" in offline.stderr.lower()
    blocked = run_client(
        "import importlib.util as u, json\nprint(json.dumps(u.find_spec('numpy') is None))\nimport numpy.linalg",
        hub_server, tmp_path, block=("numpy",), check=False,
    )  # fmt: skip
    assert blocked.returncode == 1 and "numpy" in blocked.stderr and blocked.result is True


@pytest.fixture
def file_url(hub_server) -> str:
    store = hub_server.store
    if ("model", "tester/range") not in store.repos:
        store.create("model", "tester/range").commit("main", {"a.txt": store.add(b"0123456789")}, "add")
    return f"{hub_server.url}/tester/range/resolve/main"


def test_ranges_and_headers(file_url):
    part = httpx.get(f"{file_url}/a.txt", headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"2345", "bytes 2-5/10")
    assert httpx.get(f"{file_url}/a.txt", headers={"Range": "bytes=20-"}).status_code == 416
    head = httpx.head(f"{file_url}/a.txt")
    assert head.content == b"" and head.headers["content-length"] == "10"
    assert head.headers["etag"] == f'"{regular_entry(b"0123456789").oid}"' and len(head.headers["x-repo-commit"]) == 40


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/tester/range/resolve/main/b.txt", "EntryNotFound"),
        ("/tester/range/resolve/other/a.txt", "RevisionNotFound"),
        ("/tester/absent/resolve/main/a.txt", "RepoNotFound"),
        ("/api/models/tester/absent", "RepoNotFound"),
        ("/api/datasets/tester/range", "RepoNotFound"),
    ],
)
def test_error_codes(hub_server, file_url, path, code):
    answer = httpx.get(hub_server.url + path)
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, code)
    assert ("x-repo-commit" in answer.headers) == (code == "EntryNotFound")


def test_a_private_repository_is_shown_to_its_owner_only(hub_server):
    hub_server.store.create("model", "tester/private", private=True)
    for path in ("/api/models/tester/private", "/tester/private/resolve/main/.gitattributes"):
        refused = httpx.get(hub_server.url + path)
        assert (refused.status_code, refused.headers["x-error-code"]) == (401, "RepoNotFound")
        assert httpx.get(hub_server.url + path, headers={"Authorization": "Bearer any"}).status_code == 200


def test_a_commit_needs_its_lfs_upload_and_the_announced_hash(hub_server, file_url):
    signed = {"Authorization": "Bearer any"}
    batch = f"{hub_server.url}/tester/range.git/info/lfs/objects/batch"
    answer = httpx.post(batch, json={"objects": [{"oid": "0" * 64, "size": 3}]}, headers=signed)
    href = answer.json()["objects"][0]["actions"]["upload"]["href"]
    assert httpx.put(href, content=b"abc").status_code == 400
    lines = '{"key": "header", "value": {"summary": "x"}}\n{"key": "lfsFile", "value": {"path": "a.bin", "oid": "00"}}'
    commit = f"{hub_server.url}/api/models/tester/range/commit/main"
    assert httpx.post(commit, content=lines, headers=signed).status_code == 400
    assert httpx.post(commit, content=lines).status_code == 401


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ("---\ntags: [a]\n---\n", 200, []),
        ("no front matter", 200, ["empty or missing yaml metadata in repo card"]),
        ("---\na: [\n---\n", 400, ["bad YAML"]),
        ("---\n- a\n---\n", 400, ["the metadata must be a mapping"]),
    ],
)
def test_card_validation(hub_server, content, status, said):
    answer = httpx.post(f"{hub_server.url}/api/validate-yaml", json={"content": content, "repoType": "model"})
    messages = [item["message"] for item in answer.json()["errors"] + answer.json()["warnings"]]
    assert answer.status_code == status
    assert [message.partition(":")[0] for message in messages] == said


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_ids_are_those_of_git(tmp_path):
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    store = HubStore(tmp_path / "store")
    repo = store.create("model", "tester/ids")
    contents = {"a.txt": b"a", "sub/b.txt": b"b", "sub.txt": b"c", "sub/deep/d": b""}
    commit = repo.commit("main", {path: store.add(content) for path, content in contents.items()}, "add", "why")
    git("init", "--quiet", ".")
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    git("add", *contents)
    root = tree_ids(commit.files)[""]
    assert git("write-tree").strip() == root
    assert commit.id == commit_id(root, commit.parent, "add\n\nwhy", commit.date)
    stamp = f"tester <tester@localhost> {int(commit.date.timestamp())} +0000"
    text = f"tree {root}\nparent {commit.parent}\nauthor {stamp}\ncommitter {stamp}\n\nadd\n\nwhy\n"
    (tmp_path / "commit").write_text(text)
    assert git("hash-object", "-t", "commit", "--literally", "commit").strip() == commit.id
    assert object_id("commit", text.encode()) == commit.id
