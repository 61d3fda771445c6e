# SPDX-License-Identifier: Apache-2.0
"""Who a sentence-transformers model is: the identity that an index keeps and checks."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from eigenhub.files import naming, read_json, write_text
from eigenhub.models.bt2.index_identity import EncoderIdentity, as_identity
from eigenhub.models.bt2.text_base import Dense, Normalize, SentenceTransformer, load_file_path, prompts_of
from eigenhub.models.bt2.text_module import BasisTransformation


IDENTITY_FILE = "bt2_identity.json"


def identity_of(
    model: SentenceTransformer, model_id: str | None = None, revision: str | None = None
) -> EncoderIdentity:
    """
    The identity of an encoder, for [`CompatibleIndex`][eigenhub.models.bt2.CompatibleIndex].

    Args:
        model (`SentenceTransformer`): any model. One that was exported by
            [`save_folded`][eigenhub.models.bt2.text_export.save_folded] has the identity of the model it was made from.
        model_id (`str`, *optional*): its name; by default that on the Hub, or of its folder.
        revision (`str`, *optional*): by default the commit on the Hub, or a hash of the weights.

    Returns:
        `EncoderIdentity`.
    """
    if model_id is None and revision is None and (exported := _exported_identity(model)) is not None:
        return exported
    module = list(model.children())[-1]
    fitted = isinstance(module, BasisTransformation)
    name, commit = _source(model)
    return EncoderIdentity(
        model_id=model_id or model.model_card_data.model_id or f"{_short(name)}{'+bt2' if fitted else ''}",
        dim=int(model.get_embedding_dimension() or 0),
        revision=revision or (commit if not fitted else None) or weights_hash(model),
        prompts=prompts_of(model),
        normalized=isinstance(module, Normalize | BasisTransformation),
        compatible_with=module.old_encoder if isinstance(module, BasisTransformation) else None,
    )


def weights_hash(model: SentenceTransformer) -> str:
    """Sixteen hexadecimal digits that change with any weight."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def save_identity(identity: EncoderIdentity, folder: str | Path) -> None:
    """Write an identity beside an exported model."""
    text = json.dumps(identity.to_dict(), indent=2, sort_keys=True)
    write_text(Path(folder) / IDENTITY_FILE, f"{text}\n")


def load_identity(model_name_or_path: str, **options: Any) -> EncoderIdentity:
    """
    The identity of an exported model, without loading the model.

    Args:
        model_name_or_path (`str`): folder or Hub id of what `save_folded` or `push_to_hub` wrote.
        options (`Any`): `revision`, `token`, `cache_folder` or `local_files_only`.
    """
    path = load_file_path(model_name_or_path, IDENTITY_FILE, **options)
    if path is None:
        raise FileNotFoundError(f"{model_name_or_path} has no {IDENTITY_FILE}: it was not exported by save_folded")
    content = read_json(path)
    with naming(path):
        return as_identity(content)


def _exported_identity(model: SentenceTransformer) -> EncoderIdentity | None:
    if [type(module) for module in list(model.children())[-2:]] != [Dense, Normalize]:
        return None
    name, commit = _source(model)
    try:
        return load_identity(name, revision=commit)
    except FileNotFoundError:
        return None


def _source(model: SentenceTransformer) -> tuple[str, str | None]:
    """Folder or Hub id that the model was loaded from, and the commit if it was the Hub."""
    config = getattr(model.transformers_model, "config", None)
    name = getattr(config, "_name_or_path", "") or getattr(model, "loaded_from", "")
    return str(name), getattr(config, "_commit_hash", None)


def _short(name: str) -> str:
    """A folder's own name: where it lies on this machine says nothing about the model."""
    if not name:
        raise ValueError("`model_id` must be given for a model that was not loaded from a folder or the Hub")
    return Path(name).resolve().name if Path(name).exists() else name
