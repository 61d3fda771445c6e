# SPDX-License-Identifier: Apache-2.0
"""A fitted model as a plain one: the head as one matrix, in modules that everybody can load."""

import json
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from eigenhub.files import read_json, write_text
from eigenhub.models.bt2.text_base import Dense, Normalize, SentenceTransformer, with_modules
from eigenhub.models.bt2.text_card import describe_upgrade
from eigenhub.models.bt2.text_identity import identity_of, save_identity
from eigenhub.models.bt2.text_module import basis_transformation


HISTORICAL = ("Dense", "Normalize", "Pooling", "Transformer")


def fold(model: SentenceTransformer) -> SentenceTransformer:
    r"""
    The same encoder with the head as one linear layer: embedding = normalize(M f).

    With a linear added part, or none, the head is the matrix $M = T\,[E; C I]$ applied to the new encoder's vector, and
    the length of that vector cancels in the final normalisation.

    Args:
        model (`SentenceTransformer`): with a [`BasisTransformation`] of `added="linear"` or `added_dim=0` at its end.

    Returns:
        `SentenceTransformer`: of plain modules, sharing the other ones with `model`.
    """
    module = basis_transformation(model)
    head = module.head
    with torch.no_grad():
        matrix, bias = head.folded_matrix(), None
        if head.new_projection is not None:
            bias = matrix @ head.new_projection.bias.to(matrix.dtype)
            matrix = matrix @ head.new_projection.weight.to(matrix.dtype)
    dense = Dense(
        matrix.shape[1],
        matrix.shape[0],
        bias=bias is not None,
        activation_function=None,
        init_weight=matrix.contiguous(),
        init_bias=bias,
    )
    modules = OrderedDict(list(model.named_children())[:-1])
    if bias is None and type(next(reversed(modules.values()))) is Normalize:
        modules.popitem()  # servers expect the linear layer right behind the pooling; the length cancels at the end
    modules |= {str(len(modules)): dense.to(matrix.device), str(len(modules) + 1): Normalize()}
    return with_modules(model, modules)


def save_folded(model: SentenceTransformer, folder: str | Path, results: dict[str, Any] | None = None) -> Path:
    """
    Write a model in a form that plain sentence-transformers loads, without this package and without a flag.

    Module types are written by their historical names, which every version of sentence-transformers knows, and so do
    servers such as text-embeddings-inference.

    Args:
        model (`SentenceTransformer`): see [`fold`].
        folder (`str | Path`): where to write.
        results (`dict[str, Any]`, *optional*): figures for the model card, see
            [`BackwardCompatibilityEvaluator`][eigenhub.models.bt2.text_evaluator.BackwardCompatibilityEvaluator].

    Returns:
        `Path`: the folder.
    """
    folder = Path(folder)
    fold(model).save(str(folder))
    _use_historical_names(folder / "modules.json")
    save_identity(identity_of(model), folder)
    describe_upgrade(folder / "README.md", model, results)
    return folder


def push_to_hub(
    model: SentenceTransformer,
    repo_id: str,
    *,
    folded: bool = True,
    results: dict[str, Any] | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Add a backward-compatible SentenceTransformer",
) -> str:
    """
    Upload a model; by default in the folded form that anybody can load.

    Args:
        model (`SentenceTransformer`): with a [`BasisTransformation`] at its end.
        repo_id (`str`): repository on the Hub, made if it does not exist.
        folded (`bool`, *optional*, defaults to `True`): if false, upload the module itself, which
            [`load_sentence_transformer`][eigenhub.models.bt2.text_loading.load_sentence_transformer] loads, to train it
            further.
        results (`dict[str, Any]`, *optional*): figures for the model card.
        private (`bool`, *optional*): whether a new repository is private.
        token (`str`, *optional*): of the Hub.
        revision (`str`, *optional*): branch, made if it does not exist.
        commit_message (`str`, *optional*): message of the commit.

    Returns:
        `str`: address of the commit.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as scratch:
        model.model_card_data.set_model_id(repo_id)
        if folded:
            save_folded(model, scratch, results)
        else:
            model.save(scratch)
            describe_upgrade(Path(scratch) / "README.md", model, results)
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=scratch, commit_message=commit_message, revision=revision)
    return commit.commit_url


def _use_historical_names(path: Path) -> None:
    modules = read_json(path, kind=list)
    for module in modules:
        name = module["type"].rpartition(".")[2]
        if module["type"].startswith("sentence_transformers.") and name in HISTORICAL:
            module["type"] = f"sentence_transformers.models.{name}"
    write_text(path, json.dumps(modules, indent=2))
