# SPDX-License-Identifier: Apache-2.0
"""Registering a tuner with PEFT from outside.

PEFT looks methods up in public dictionaries whose keys are members of a `str` enum. The members of the enum below hash
and compare like their names, so they serve as keys beside PEFT's own, serialise to the same JSON, and leave the foreign
`PeftType` enum untouched.
"""

import enum
from typing import Any, cast

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PeftConfig
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTuner


class EigenhubPeftType(str, enum.Enum):  # noqa: UP042 - `get_model_status` reads the name out of `str(member)`
    """Adapter types of this package; every member's name equals its value."""

    SORSA = "SORSA"


def register_tuner(peft_type: EigenhubPeftType, config_cls: type[PeftConfig], model_cls: type[BaseTuner]) -> None:
    """Make PEFT and transformers create, save and load adapters of `peft_type`. Idempotent.

    Args:
        peft_type (`EigenhubPeftType`): the type; its value is what `adapter_config.json` stores.
        config_cls (`type[PeftConfig]`): configuration class.
        model_cls (`type[BaseTuner]`): tuner class, with its `prefix` set.

    Raises:
        RuntimeError: PEFT, or another package, already knows a method of this name.
    """
    key = cast(Any, peft_type)  # PEFT annotates its own enum
    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(key)
    if known is not None and known is not config_cls:
        raise RuntimeError(
            f"PEFT already has a method named {peft_type.value!r} ({known.__module__}.{known.__qualname__}). eigenhub "
            "does not replace it: use that one, or install the PEFT version that this eigenhub release supports."
        )
    PEFT_TYPE_TO_CONFIG_MAPPING[key] = config_cls
    PEFT_TYPE_TO_TUNER_MAPPING[key] = model_cls
    PEFT_TYPE_TO_PREFIX_MAPPING[key] = model_cls.prefix
