# SPDX-License-Identifier: Apache-2.0
"""DCT-AdamW keeps the contract of an optimizer with each of its options."""

from eigenhub.optim import DCTAdamW
from tests.common.optimizer_tester import OptimizerTester
from tests.optim.reference import AdamWReference, DCTAdamWReference


class TestDCTAdamWContract(OptimizerTester):
    optimizer_class = DCTAdamW
    options = {"lr": 0.02, "rank": 0.4}
    adamw_reference = AdamWReference
    reference = DCTAdamWReference
    variants = {
        "plain": {},
        "gap": {"update_proj_gap": 3, "weight_decay": 0.1, "betas": (0.8, 0.95)},
        "still": {"rotate": False, "score_norm": 2},
        "feedback": {"error_feedback": "fp32"},
        "fira": {"residual": "fira", "update_proj_gap": 2},
        "slots": {"per_slot_bias_correction": True},
        "dct3": {"basis": "dct3", "transform": "fft"},
        "fft": {"transform": "fft", "rank": 5},
        "matmul": {"transform": "matmul", "project": "right"},
        "left": {"project": "left"},
    }
    tolerances = {"feedback": 1e-5, "fira": 1e-7}  # float32 buffer of the feedback, float32 norm of the residual
