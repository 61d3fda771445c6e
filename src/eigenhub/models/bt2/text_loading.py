# SPDX-License-Identifier: Apache-2.0
"""Loading a model with a BT2 module without giving it leave to run any code."""

from typing import Any

from eigenhub.files import read_json
from eigenhub.models.bt2.text_base import SentenceTransformer, load_file_path
from eigenhub.models.bt2.text_module import BasisTransformation


OURS = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in (BasisTransformation,)}
THEIRS = "sentence_transformers."
HUB_OPTIONS = ("token", "cache_folder", "revision", "local_files_only")


def load_sentence_transformer(model_name_or_path: str, **options: Any) -> SentenceTransformer:
    """
    Load a `SentenceTransformer` that may hold modules of this package, and of nobody else.

    sentence-transformers takes module classes outside of its own namespace only with `trust_remote_code=True`, which
    lets a repository run any code. Here our classes are allowed and nothing more: the flag stays off.

    Args:
        model_name_or_path (`str`): folder or Hub id.
        options (`Any`): passed to `SentenceTransformer`; `trust_remote_code` is refused.

    Returns:
        `SentenceTransformer`.

    Example:

    ```python
    >>> from eigenhub.models.bt2 import load_sentence_transformer
    >>> model = load_sentence_transformer("me/bge-base-bt2")  # doctest: +SKIP
    ```
    """
    if options.pop("trust_remote_code", False):
        raise ValueError("`trust_remote_code` is not taken here; SentenceTransformer itself takes it")
    where = {name: options[name] for name in HUB_OPTIONS if name in options}
    if foreign := [name for name in module_classes(model_name_or_path, **where) if not _is_known(name)]:
        raise ValueError(
            f"`model_name_or_path`: {model_name_or_path} needs {', '.join(foreign)}, which is part of neither "
            f"sentence-transformers nor eigenhub and is not loaded"
        )
    # What the library uses itself to load classes that are imported already; the alternative would be the flag.
    model = SentenceTransformer._load_with_module_classes(model_name_or_path, OURS, **options)
    # static embeddings have no configuration that would remember it
    model.loaded_from = model_name_or_path  # type: ignore[assignment]
    return model


def module_classes(model_name_or_path: str, **where: Any) -> list[str]:
    """
    Dotted names of the modules of a saved model; empty for a bare transformers model.

    Args:
        model_name_or_path (`str`): folder or Hub id.
        where: `revision`, `token`, `cache_folder` or `local_files_only`.
    """
    path = load_file_path(model_name_or_path, "modules.json", **where)
    modules = read_json(path, kind=list) if path else []
    if wrong := [
        module for module in modules if not (isinstance(module, dict) and isinstance(module.get("type"), str))
    ]:
        raise ValueError(f"{path} must list modules with a `type` each, got {wrong[0]!r}")
    return [module["type"] for module in modules]


def _is_known(name: str) -> bool:
    return name in OURS or name.startswith(THEIRS)
