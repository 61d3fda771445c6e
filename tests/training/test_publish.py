# SPDX-License-Identifier: Apache-2.0
"""A run's folder on the Hub: weights, card and sub-folders go up, checkpoints and logs do not."""

from pathlib import Path

import pytest

from tests.support.hub_server import HubServer, run_client


CLIENT = """
import sys
from pathlib import Path
from eigenhub.training.publish import create_repo, push_folder

create_repo("tester/run")
create_repo("tester/run")  # a second run into the same repository
push_folder(Path(sys.argv[1]), "tester/run")
"""


@pytest.mark.hub
def test_push(hub_server: HubServer, client_dir: Path, tmp_path: Path) -> None:
    pushed = ("adapter_model.safetensors", "adapter_config.json", "README.md", "lora/adapter_config.json")
    kept_back = (
        "metrics.jsonl",
        "summary.json",
        "checkpoints/step_000001/model.safetensors",
        "checkpoints/config.json",
    )
    for name in (*pushed, *kept_back):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    run_client(CLIENT, hub_server, client_dir, str(tmp_path / "run"), block=())
    assert set(pushed) <= set(hub_server.files("tester/run"))
    assert not set(kept_back) & set(hub_server.files("tester/run"))
