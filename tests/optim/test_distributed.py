# SPDX-License-Identifier: Apache-2.0
"""Two processes equal one."""

from tests.common.optimizer_distributed import OptimizerDistributedTester


class TestDCTAdamWDistributed(OptimizerDistributedTester):
    optimizer = "eigenhub.optim:DCTAdamW"
    options = {"lr": 0.02, "rank": 0.4, "error_feedback": "int8"}
    variants = {
        "plain": {"error_feedback": None},
        "feedback": {"weight_decay": 0.1, "error_feedback": "fp32"},
        "int8": {"update_proj_gap": 2},
        "fira": {"residual": "fira", "error_feedback": None},
        "slots": {"per_slot_bias_correction": True, "error_feedback": "bf16"},
        "right": {"project": "right", "transform": "fft"},
        "left": {"project": "left", "foreach": True},
    }


class TestTrionDistributed(OptimizerDistributedTester):
    optimizer = "eigenhub.optim:Trion"
    options = {"lr": 0.02, "rank": 0.4}
    variants = {"plain": {}, "right": {"project": "right"}, "left": {"project": "left", "foreach": True}}
    tolerance = 2e-4  # the Gram matrix of split rows is summed in another order, and five iterations amplify that


class TestAuONDistributed(OptimizerDistributedTester):
    optimizer = "eigenhub.optim:AuON"
    options = {"lr": 0.02}
    variants = {
        "normalized": {"gamma": 8.0},
        "package": {"variant": "package", "weight_decay": 0.1},
        "rms": {"variant": "rms"},
        "each": {"per_matrix": True},
        "hybrid": {"ns_steps": 2, "variant": "package"},
    }
