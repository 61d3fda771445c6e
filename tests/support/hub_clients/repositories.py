# SPDX-License-Identifier: Apache-2.0
"""Mixin, cards, Spaces, snapshots, branches, tags and errors through huggingface_hub."""

import json
from pathlib import Path

import torch
from huggingface_hub import (
    HfApi,
    ModelCard,
    ModelCardData,
    PyTorchModelHubMixin,
    SpaceCard,
    hf_hub_download,
    metadata_update,
    snapshot_download,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError


class Net(torch.nn.Module, PyTorchModelHubMixin, library_name="eigenhub", tags=["spectral"]):
    def __init__(self, width: int = 2):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(float(width)))


def refused(error: type[Exception], call, *arguments, **keywords) -> str:
    try:
        call(*arguments, **keywords)
    except error as caught:
        return str(caught)
    raise AssertionError(f"{call} was not refused")


def mixin_and_cards(repo: str) -> None:
    Net(width=5).push_to_hub(repo)
    loaded = Net.from_pretrained(repo)
    assert loaded.weight.tolist() == [0, 1, 2, 3, 4]
    card = ModelCard.load(repo)
    assert card.data.library_name == "eigenhub" and "spectral" in card.data.tags
    ModelCard.from_template(ModelCardData(license="apache-2.0"), model_id="net").push_to_hub(repo)
    metadata_update(repo, {"tags": ["orthogonal"]}, overwrite=True)
    assert ModelCard.load(repo).data.to_dict() == {"license": "apache-2.0", "tags": ["orthogonal"]}
    info = api.model_info(repo, files_metadata=True)
    weights = next(file for file in info.siblings if file.rfilename == "model.safetensors")
    assert info.tags == ["orthogonal"] and weights.lfs.size == weights.size


def space(repo: str) -> None:
    folder = Path("space")
    (folder / "assets").mkdir(parents=True)
    (folder / "README.md").write_text("---\ntitle: Net\nsdk: gradio\n---\n")
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "assets" / "logo.png").write_bytes(b"\x89PNG" + bytes(100))
    assert "sdk" in refused(ValueError, SpaceCard("---\nsdk: rubber\n---\n").validate)
    api.create_repo(repo, repo_type="space", space_sdk="gradio")
    refused(HfHubHTTPError, api.create_repo, repo, repo_type="space", space_sdk="gradio")
    assert str(api.create_repo(repo, repo_type="space", space_sdk="gradio", exist_ok=True)).endswith(f"spaces/{repo}")
    api.upload_folder(folder_path=folder, repo_id=repo, repo_type="space")
    assert api.space_info(repo).sdk == "gradio"
    below = api.list_repo_tree(repo, "assets", repo_type="space", expand=True)
    assert [(file.path, file.size) for file in below] == [("assets/logo.png", 104)]
    copy = Path(snapshot_download(repo, repo_type="space", ignore_patterns="*.md"))
    assert (copy / "assets/logo.png").read_bytes() == (folder / "assets/logo.png").read_bytes()
    assert not (copy / "README.md").exists()


def revisions(repo: str) -> None:
    api.create_repo(repo)
    first = api.upload_file(path_or_fileobj=b"one", path_in_repo="value.txt", repo_id=repo, commit_message="first")
    api.create_tag(repo, tag="v1")
    api.create_branch(repo, branch="try/two")
    api.upload_file(path_or_fileobj=b"two", path_in_repo="value.txt", repo_id=repo, revision="try/two")

    def value(revision: str) -> str:
        return Path(hf_hub_download(repo, "value.txt", revision=revision)).read_text()

    assert [value(name) for name in ("main", "v1", first.oid, "try/two")] == ["one", "one", "one", "two"]
    references = api.list_repo_refs(repo)
    assert {branch.name for branch in references.branches} == {"main", "try/two"}
    assert references.tags[0].target_commit == first.oid
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["first", "initial commit"]
    unchanged = api.upload_file(path_or_fileobj=b"one", path_in_repo="value.txt", repo_id=repo)
    assert unchanged.oid == first.oid
    api.delete_file("value.txt", repo)
    assert not api.file_exists(repo, "value.txt") and api.file_exists(repo, "value.txt", revision="v1")
    api.delete_branch(repo, branch="try/two")
    api.delete_tag(repo, tag="v1")
    stale = {"parent_commit": first.oid, "path_or_fileobj": b"three", "path_in_repo": "value.txt", "repo_id": repo}
    assert "412" in refused(HfHubHTTPError, api.upload_file, **stale)


def errors(repo: str) -> None:
    refused(RepositoryNotFoundError, api.model_info, "tester/nowhere")
    refused(RevisionNotFoundError, hf_hub_download, repo, "config.json", revision="nowhere")
    refused(EntryNotFoundError, hf_hub_download, repo, "nowhere.json")
    refused(EntryNotFoundError, api.delete_file, "nowhere.json", repo)
    assert "401" in refused(HfHubHTTPError, HfApi(token=False).create_repo, "tester/unsigned")


api = HfApi()
assert api.whoami()["name"] == "tester"
mixin_and_cards("tester/net")
space("tester/space")
revisions("tester/revisions")
errors("tester/net")
print(json.dumps("done"))
