# SPDX-License-Identifier: Apache-2.0
"""AuON and its hybrid keep the contract of an optimizer in every variant."""

from eigenhub.optim import AuON, HybridAuON
from tests.common.optimizer_tester import OptimizerTester
from tests.optim.reference import AdamWReference, AuONReference


class TestAuONContract(OptimizerTester):
    optimizer_class = AuON
    options = {"lr": 0.02, "eps": 1e-8}
    adamw_reference = AdamWReference
    reference = AuONReference
    variants = {
        "normalized": {"weight_decay": 0.1},
        "package": {"variant": "package", "nesterov": False},
        "rms": {"variant": "rms", "gamma": 0.8},
        "sharp": {"gamma": 8.0},
        "vectors": {"min_ndim": 0, "gamma": 0.0},
    }
    tolerances = {"rms": 1e-9}  # the 1e-8 beside the brake is left out of the reference

    def make_references(self, parameter, group):
        value = parameter.detach().numpy().copy()
        own = value.ndim >= max(group["min_ndim"], 0)
        return [(self.reference if own else self.adamw_reference)(value, group)]

    def own_rule(self, shape):
        return len(shape) >= 2


class TestHybridAuONContract(TestAuONContract):
    optimizer_class = HybridAuON
    variants = {
        "normalized": {},
        "package": {"variant": "package", "weight_decay": 0.1},
        "two": {"ns_steps": 2, "nesterov": False, "adjust_lr": "none"},
    }
