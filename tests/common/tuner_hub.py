# SPDX-License-Identifier: Apache-2.0
"""Push and pull over real HTTP: author and reader are fresh processes whose Hub is the local stand-in."""

import json

import pytest

from tests.support.hub_server import run_client


AUTHOR = """
import importlib, json, sys
import torch
from peft import get_peft_model
from tests.common.tuner_cases import LLAMA, move, outputs

module, name, settings, prefix, repo = sys.argv[1:]
base = LLAMA.model()
base.push_to_hub(f"{repo}-base")
base.config._name_or_path = base.name_or_path = f"{repo}-base"
config = getattr(importlib.import_module(module), name)(target_modules=LLAMA.targets, **json.loads(settings))
model = get_peft_model(base, config)
move(model, prefix)
model.push_to_hub(repo)
print(json.dumps(outputs(model, LLAMA).double().flatten().tolist()))
"""
READER = """
import importlib, json, sys
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM
from tests.common.tuner_cases import LLAMA, outputs

importlib.import_module(sys.argv[1])
ways = AutoPeftModelForCausalLM.from_pretrained(sys.argv[2]), AutoModelForCausalLM.from_pretrained(sys.argv[2])
print(json.dumps([outputs(model, LLAMA).double().flatten().tolist() for model in ways]))
"""


class Hub:
    """Mixin of `TunerTester`: the Hub."""

    @pytest.mark.slow  # several processes that import everything
    @pytest.mark.hub
    def test_push_and_pull(self, hub_server, tmp_path):
        package, name = self.config_class.__module__.rsplit(".", 1)[0], self.config_class.__name__
        repo = f"tuners/{name.lower()}"
        given = (package, name, json.dumps(self.config), self.prefix, repo)
        author = run_client(AUTHOR, hub_server, tmp_path / "author", *given, block=())
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(hub_server.files(repo))
        reader = run_client(READER, hub_server, tmp_path / "reader", package, repo, block=())
        assert reader.result == [author.result, author.result]
