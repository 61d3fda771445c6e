# SPDX-License-Identifier: Apache-2.0
"""The machine of a sitting, and the versions of everything that takes part."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


PACKAGES = ("eigenhub", "torch", "transformers", "peft", "accelerate", "numpy")
#: Peers and other packages that need not be there, by the name of the import.
OPTIONAL = {
    "galore_torch": "galore-torch",
    "apollo_torch": "apollo-torch",
    "pytorch_optimizer": "pytorch-optimizer",
    "s5": "s5-pytorch",
    "bitsandbytes": "bitsandbytes",
    "faiss": "faiss-cpu",
    "lancedb": "lancedb",
    "pyarrow": "pyarrow",
    "sentence_transformers": "sentence-transformers",
    "opacus": "opacus",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
}
#: What decides between kernels, as the kernel of Linux calls it.
FLAGS = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")


def machine() -> dict[str, Any]:
    """Processor, memory and accelerator of this machine."""
    import torch

    cpu = _cpuinfo()
    flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "flags": [flag for flag in FLAGS if flag in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor, empty where there is no such file."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    lines = (line.partition(":") for line in path.read_text().split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def versions() -> tuple[dict[str, str], list[str]]:
    """Versions of what is installed, and the names of what is not."""
    found, absent = {"python": platform.python_version()}, []
    for name in (*PACKAGES, *OPTIONAL.values()):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            absent.append(name)
    return found, absent
