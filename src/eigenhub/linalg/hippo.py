# SPDX-License-Identifier: Apache-2.0
"""HiPPO matrices and what becomes of them in a state space model: one door to the files beside this one."""

from eigenhub.linalg.diagonal_init import S4D_INITS, s4d_init
from eigenhub.linalg.discretization import discretize
from eigenhub.linalg.legs import (
    hippo_legs,
    legs_frequencies,
    legs_normal_diagonalize,
    legs_normal_part,
    legs_state_response,
    phi,
)
from eigenhub.linalg.ptd import PTD_METHODS, ptd_diagonalize
from eigenhub.linalg.ptd_result import PTDResult, conjugate_half
from eigenhub.linalg.transfer import eigenvector_condition, gain_peaks, lowrank_gain, transfer_function


__all__ = [
    "PTD_METHODS",
    "S4D_INITS",
    "PTDResult",
    "conjugate_half",
    "discretize",
    "eigenvector_condition",
    "gain_peaks",
    "hippo_legs",
    "legs_frequencies",
    "legs_normal_diagonalize",
    "legs_normal_part",
    "legs_state_response",
    "lowrank_gain",
    "phi",
    "ptd_diagonalize",
    "s4d_init",
    "transfer_function",
]
