# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from eigenhub.federated import DPConfig, FedSVDConfig


DP = DPConfig(target_epsilon=6.0, target_delta=1e-5)


def test_it_survives_a_file(tmp_path):
    config = FedSVDConfig(method="ffa", dp=DP, local_epochs=0.5, client_ranks={"a": 2}, num_rounds=7)
    config.save_pretrained(tmp_path / "deep" / "folder")
    assert FedSVDConfig.from_pretrained(tmp_path / "deep" / "folder") == config
    assert FedSVDConfig.from_dict(FedSVDConfig().to_dict()) == FedSVDConfig()


def test_defaults_are_those_of_the_paper_and_change_under_privacy():
    plain, private = FedSVDConfig(), FedSVDConfig(dp=DP)
    assert (plain.method, plain.num_rounds, plain.local_steps, plain.client_fraction) == ("fedsvd", 100, 10, 0.5)
    assert (plain.weighting, plain.client_sampling, plain.init_A) == ("num_examples", "uniform", "keep")
    assert (private.weighting, private.client_sampling) == ("uniform", "balanced")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fedprox"}, "`method` must be one of fedsvd, ffa.*; got 'fedprox'"),
        ({"init_A": "zero"}, "`init_A` must be one of keep, orthonormal; got 'zero'"),
        ({"weighting": "size"}, "`weighting` must be one of num_examples, uniform"),
        ({"refactor_every": 0}, "`refactor_every` must be an integer of at least 1, got 0"),
        ({"num_rounds": 2.5}, "`num_rounds` must be an integer of at least 1, got 2.5"),
        ({"local_steps": 0}, "`local_steps` must be an integer of at least 1, got 0"),
        ({"client_fraction": 1.5}, "`client_fraction` must be in \\(0, 1\\], got 1.5"),
        ({"client_fraction": float("nan")}, "`client_fraction` must be in"),
        ({"local_epochs": 0.0}, "`local_epochs` must be positive"),
        ({"local_epochs": 1.0, "local_steps": 5}, "pass `local_steps` \\(5\\) or `local_epochs` \\(1.0\\), not both"),
        ({"downlink": "rotation", "method": "fedavg"}, "needs a method that keeps the span of A, not 'fedavg'"),
        ({"client_ranks": {"a": 0}}, "`client_ranks\\['a'\\]` must be at least 1"),
        ({"dp": DP, "checkpoint_every": 2}, "`checkpoint_every` must be 1 under `dp`"),
        ({"dp": DP, "client_ranks": {"a": 1}, "method": "rolora"}, "`client_ranks` under `dp`"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FedSVDConfig(**options)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="unknown settings rank; known are checkpoint_every"):
        FedSVDConfig.from_dict({"rank": 4})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fedavg"}, "noise multiplies noise"),
        ({"weighting": "num_examples"}, "sizes are sent in clear"),
    ],
)
def test_doubtful_settings_under_privacy_warn(options, message):
    with pytest.warns(UserWarning, match=message):
        FedSVDConfig(dp=DP, **options)


def test_ffa_orth_that_starts_orthonormal_never_refactors():
    assert not FedSVDConfig(method="ffa_orth", init_A="orthonormal").refactors_in(1)
    assert FedSVDConfig(method="ffa_orth").refactors_in(1)


def test_the_package_needs_no_extra():
    code = (
        "import sys\n"
        "for name in ('opacus', 'flwr', 'ray'): sys.modules[name] = None\n"
        "import eigenhub.federated as f\n"
        "assert all(getattr(f, name) for name in f.__all__)\n"
        "try: f.FedSVDStrategy\n"
        "except ImportError as error: print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "eigenhub[flower]" in out
