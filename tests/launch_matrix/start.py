# SPDX-License-Identifier: Apache-2.0
"""Starts a script, `start.py SCRIPT ARGUMENTS`, in a process in which accelerate takes FSDP2 and DeepSpeed to CPUs.

Accelerate takes no notice of FSDP where the processes are on CPUs, and of more than one process under DeepSpeed. The two
patches choose gloo for both; everything after that choice is accelerate's and the script's own.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any


def allow_deepspeed_on_cpus() -> None:
    """Processes of DeepSpeed find one another over gloo, as accelerate does it without an engine."""
    from accelerate.state import PartialState

    plain = PartialState._prepare_backend

    def patched(self: Any, cpu: bool = False, *others: Any) -> Any:
        return plain(self, True, *others)

    PartialState._prepare_backend = patched


def keep_engine() -> None:
    """What was chosen stays chosen: accelerate takes it from its other state each time that this one is asked for."""
    from accelerate.state import AcceleratorState, PartialState

    plain = AcceleratorState.__init__

    def patched(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        PartialState._shared_state["distributed_type"] = self.distributed_type

    AcceleratorState.__init__ = patched


def main() -> None:
    script = Path(sys.argv[1])
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        from tests.common.callback_tester import allow_fsdp_on_cpus

        allow_fsdp_on_cpus()
        keep_engine()
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        allow_deepspeed_on_cpus()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(script.parent)  # its siblings, as when it is run by itself
    runpy.run_path(str(script), run_name="__main__")
    from accelerate.state import AcceleratorState

    print(
        f"launch-matrix engine {AcceleratorState._shared_state['distributed_type'].value}", file=sys.stderr, flush=True
    )


if __name__ == "__main__":
    main()
