# SPDX-License-Identifier: Apache-2.0
"""The app on Flower's own runtimes: simulated on Ray, and deployed on a SuperLink with two SuperNodes."""

import json

import psutil
import pytest


pytest.importorskip("flwr")

from safetensors.torch import load_file

from tests.federated.flower.federation import largest_difference
from tests.federated.flower.flower_processes import deployed, flwr_run, simulated
from tests.federated.flower.test_app_folder import app, play, run_config


__all__ = ["app"]  # a fixture

pytestmark = [pytest.mark.flower, pytest.mark.timeout(600)]

# The clients' state must last from round to round: they are sent the basis of A once.
RUN = {"num-rounds": 2, "local-steps": 3, "fraction-evaluate": 0.0, "downlink": "rotation"}


def run_options(folder):
    settings = RUN | {"output-dir": str(folder)}
    return ("--run-config", " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items()))


def check_result(app, tmp_path):
    """The same as in one process, with nobody left out and nobody left over."""
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [record["failures"] for record in history["rounds"]] == [{}, {}]
    first, second = (record["download_bytes"] for record in history["rounds"])
    assert second < first
    play(app, run_config(**RUN, **{"output-dir": str(tmp_path / "here")}), 2)
    found, expected = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("out", "here")
    )
    assert largest_difference(found, expected) <= 1e-5
    home = str(tmp_path / "home")
    assert [
        p.name() for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("FLWR_HOME") == home
    ] == []


def test_simulated_on_ray(app, tmp_path):
    with simulated(tmp_path) as environment:
        done = flwr_run(
            tmp_path, environment, *run_options(tmp_path / "out"), "--federation-config", "num-supernodes=2"
        )
    assert "Strategy execution finished" in done.stdout + done.stderr
    check_result(app, tmp_path)


def test_deployed_on_a_superlink_with_two_supernodes(app, tmp_path):
    with deployed(tmp_path, num_nodes=2) as environment:
        done = flwr_run(tmp_path, environment, *run_options(tmp_path / "out"))
    assert "Strategy execution finished" in done.stdout + done.stderr
    check_result(app, tmp_path)
