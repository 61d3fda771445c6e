# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch

from eigenhub.metrics.spectral_gap import spectral_gap
from tests.common.metric_tester import MetricTester


class TestSpectralGapContract(MetricTester):
    metric = staticmethod(spectral_gap)
    closed_forms = {
        "rank one": ("plain", (torch.ones(3, 2, dtype=torch.float64),), 1.0),
        "identity": ("plain", (torch.eye(3, dtype=torch.float64),), 0.0),
    }
    invariances = {
        "scale": (("plain",), lambda matrix: (7 * matrix,)),
        "transpose": (("plain",), lambda matrix: (matrix.mT,)),
    }
    bad_inputs = {
        "vector": ("plain", (torch.ones(3),), {}, "`matrix` must be floating"),
        "zero": ("plain", (torch.zeros(2, 2),), {}, "`matrix` must not be zero"),
    }

    def inputs(self, generator, batch):
        return (torch.randn(*batch, 5, 3, generator=generator, dtype=torch.float64),)

    def reference(self, item, **options):
        second, first = np.sqrt(np.linalg.eigvalsh(item[0].T @ item[0])[-2:])
        return 1 - second / first
