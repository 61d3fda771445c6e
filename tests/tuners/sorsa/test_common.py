# SPDX-License-Identifier: Apache-2.0
"""SORSA keeps the contract of the kind *tuner*."""

from eigenhub.tuners.sorsa import SorsaConfig
from tests.common.tuner_tester import TunerTester


class TestSorsa(TunerTester):
    config_class = SorsaConfig
    config = {"r": 2}
    prefix = "sorsa_"
