# SPDX-License-Identifier: Apache-2.0
"""Where float32 has to mean float32, in eager mode and in a compiled graph."""

from contextlib import AbstractContextManager

import torch

from eigenhub.linalg.precision import full_precision_matmul


def exact_region(device_type: str) -> AbstractContextManager:
    """[`full_precision_matmul`]; in a graph that is being compiled, which cannot change the process, only autocast is off.

    A compiled graph then takes TF32 products where the process allows them, and is orthogonal to 1e-3 only.

    Args:
        device_type (`str`): device on which autocast is switched off, for example `"cuda"`.
    """
    if torch.compiler.is_compiling():
        return torch.autocast(device_type, enabled=False)
    return full_precision_matmul(device_type)
