# SPDX-License-Identifier: Apache-2.0
"""Optimizers that treat weight matrices as matrices, and everything else with AdamW, in one object.

[`DCTAdamW`] and [`Trion`] choose a subspace among cosines (arXiv 2505.17967); [`AuON`] and [`HybridAuON`] scale momentum by
one number per matrix (arXiv 2509.24320). [`build_param_groups`] says which parameter is what.
"""

from eigenhub.optim.auon import AuON, HybridAuON
from eigenhub.optim.brake import brake, brake_bounds
from eigenhub.optim.config import OptimizerConfig
from eigenhub.optim.dct_adamw import DCTAdamW
from eigenhub.optim.factories import AuONFactory, DCTAdamWFactory, TrionFactory, factory_kwargs_from
from eigenhub.optim.groups import Assignment, ParamGroups, build_param_groups
from eigenhub.optim.layer_wise import step_in_backward
from eigenhub.optim.memory import MemoryReport, basis_bytes, memory_report, state_numbers
from eigenhub.optim.trion import Trion


__all__ = [
    "Assignment",
    "AuON",
    "AuONFactory",
    "DCTAdamW",
    "DCTAdamWFactory",
    "HybridAuON",
    "MemoryReport",
    "OptimizerConfig",
    "ParamGroups",
    "Trion",
    "TrionFactory",
    "basis_bytes",
    "brake",
    "brake_bounds",
    "build_param_groups",
    "factory_kwargs_from",
    "memory_report",
    "state_numbers",
    "step_in_backward",
]
