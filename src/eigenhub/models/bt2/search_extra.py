# SPDX-License-Identifier: Apache-2.0
"""The libraries of the extra `search`, asked for only when something needs them."""

from importlib import import_module
from types import ModuleType


def require(module: str, what: str) -> ModuleType:
    """
    Import a library of the extra, or say how to get it.

    Args:
        module (`str`): dotted name of the module.
        what (`str`): what needs it, as the subject of a sentence.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the library is there but broken: its own message says more
        distribution = {"faiss": "faiss-cpu", "sentence_transformers": "sentence-transformers"}.get(module, module)
        raise ImportError(f"{what} needs {distribution}: pip install 'eigenhub[search]'", name=error.name) from error
