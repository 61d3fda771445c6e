# SPDX-License-Identifier: Apache-2.0
"""Arithmetic in the dtype of the operands, whatever autocast says."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which autocast is off; on devices that know no autocast (`"meta"`) there is nothing to do.

    Args:
        device (`torch.device`): where the arithmetic happens.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
