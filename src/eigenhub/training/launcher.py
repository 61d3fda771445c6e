# SPDX-License-Identifier: Apache-2.0
"""What `accelerate launch` has asked for, read before anything heavy is imported."""

import os


#: Engines that shard parameters, by the names of accelerate's environment variables.
ENGINES = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def asked_engine() -> str | None:
    """The engine that the launcher has asked for: one of `ENGINES`, or None."""
    asked = (engine for engine in ENGINES if os.environ.get(f"ACCELERATE_USE_{engine}", "false").lower() == "true")
    return next(asked, None)


def flattening_engine() -> str | None:
    """The engine that was asked for if it flattens matrices to vectors: DeepSpeed, Megatron-LM and the first FSDP."""
    engine = asked_engine()
    return None if engine == "FSDP" and os.environ.get("FSDP_VERSION", "1") == "2" else engine
