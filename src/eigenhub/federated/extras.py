# SPDX-License-Identifier: Apache-2.0
"""The libraries of the extras `dp` and `flower`, asked for only when something needs them."""

import logging
from importlib import import_module
from types import ModuleType


def require(module: str, what: str, extra: str = "dp") -> ModuleType:
    """Import a library of an extra, or say how to get it.

    Args:
        module (`str`): dotted name of the module.
        what (`str`): what needs it, as the subject of a sentence.
        extra (`str`, *optional*, defaults to `"dp"`): the extra that installs it.

    Raises:
        ImportError: with the command that installs the extra.
    """
    root = logging.getLogger()
    handlers = root.handlers[:]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        distribution = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != distribution:
            raise  # the library is there but broken: its own message says more
        message = f"{what} needs {distribution}: install it by `pip install 'eigenhub[{extra}]'`"
        raise ImportError(message, name=error.name) from error
    finally:
        root.handlers[:] = handlers  # Opacus sets up the root logger at import, which is the user's to do
