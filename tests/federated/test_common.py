# SPDX-License-Identifier: Apache-2.0
"""Every method under the common tester of its kind."""

from tests.common.federated_tester import FederatedTester


class TestFedSVD(FederatedTester):
    options = {"method": "fedsvd"}


class TestFedSVDFromOrthonormalA(FederatedTester):
    options = {"method": "fedsvd", "init_A": "orthonormal", "downlink": "rotation"}


class TestFFA(FederatedTester):
    options = {"method": "ffa"}


class TestFFAOrth(FederatedTester):
    options = {"method": "ffa_orth"}


class TestFedAvg(FederatedTester):
    options = {"method": "fedavg"}


class TestFedEx(FederatedTester):
    options = {"method": "fedex"}


class TestFlexLoRA(FederatedTester):
    options = {"method": "flexlora"}


class TestFLoRA(FederatedTester):
    options = {"method": "flora"}


class TestRoLoRA(FederatedTester):
    options = {"method": "rolora"}
