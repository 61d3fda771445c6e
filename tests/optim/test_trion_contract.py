# SPDX-License-Identifier: Apache-2.0
"""Trion keeps the contract of an optimizer with each of its options."""

from eigenhub.optim import Trion
from tests.common.optimizer_tester import OptimizerTester
from tests.optim.reference import AdamWReference, TrionReference


class TestTrionContract(OptimizerTester):
    optimizer_class = Trion
    options = {"lr": 0.02, "rank": 0.4, "eps": 1e-8}
    adamw_reference = AdamWReference
    reference = TrionReference
    variants = {
        "plain": {},
        "dct3": {"basis": "dct3", "transform": "fft", "scale": "none"},
        "fft": {"transform": "fft", "scale": "match_rms_adamw", "rank_rms_correction": True},
        "transposed": {"transposed": True, "scale": "dion", "score_norm": 2, "momentum": 0.5},
        "left": {"project": "left", "ns_steps": 3, "rank": 5},
    }
