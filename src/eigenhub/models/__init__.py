# SPDX-License-Identifier: Apache-2.0
"""Transformers models. Each sub-package registers its models with the Auto classes when it is imported."""

from importlib import import_module
from pkgutil import iter_modules


def register_all() -> None:
    """Import every sub-package, so that the Auto classes know all models of this package."""
    for module in iter_modules(__path__):
        if module.ispkg:
            import_module(f"{__name__}.{module.name}")
