# SPDX-License-Identifier: Apache-2.0
"""`import eigenhub.auto` registers every tuner and model of this package with PEFT and transformers.

Neither library discovers third-party classes by itself, so this line comes before `from_pretrained`. Importing it
twice is harmless. Kinds that nothing is looked up for by name (optimizers, callbacks, metrics, ...) stay unimported.
"""

from importlib import import_module

from eigenhub.methods import METHODS
from eigenhub.models import register_all


for _method in METHODS:
    if _method.kind == "tuner":
        import_module(_method.package)
del _method
register_all()  # by folder: a method may bring several models, as S5-PTD brings S4D
