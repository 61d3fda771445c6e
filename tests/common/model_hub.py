# SPDX-License-Identifier: Apache-2.0
"""Export with code, push, and pull: author and reader are fresh processes, and the reader's cannot import this package."""

import json
from pathlib import Path

import pytest

from tests.common.model_case import ModelCase
from tests.support.hub_server import HubServer, run_client


AUTHOR = """
import importlib, json, sys
import transformers
from huggingface_hub import HfApi
from eigenhub.hub.export_model import export_checkpoint

module, case, repo, folder = sys.argv[1:]
case = getattr(importlib.import_module(module), case)
model = case.model()
model.push_to_hub(repo)
pulled = (case.model_class if case.auto_class is None else getattr(transformers, case.auto_class)).from_pretrained(repo)
model.save_pretrained("saved")
export_checkpoint("saved", folder)
HfApi().create_repo(f"{repo}-code")
HfApi().upload_folder(repo_id=f"{repo}-code", folder_path=folder)
inputs = {name: tensor.tolist() for name, tensor in case.questions().items()}
json.dump({"inputs": inputs, "output": case.output}, open("inputs.json", "w"))
print(json.dumps([case.answer(each).double().flatten().tolist() for each in (model, pulled)]))
"""
READER = """
import json, sys
import torch, transformers

auto, asked = getattr(transformers, sys.argv[1]), json.load(open(sys.argv[2]))
inputs = {name: torch.tensor(values) for name, values in asked["inputs"].items()}

def answer(model):
    with torch.no_grad():
        return getattr(model.eval()(**inputs), asked["output"]).double().flatten().tolist()

answers = []
for place in sys.argv[3:]:
    try:
        auto.from_pretrained(place, trust_remote_code=False)
        raise SystemExit("loaded without its code")
    except ValueError:
        pass
    model = auto.from_pretrained(place, trust_remote_code=True)
    answers.append(answer(model))
    if model.can_generate():
        runs = [model.generate(**inputs, max_new_tokens=3, do_sample=False, use_cache=use) for use in (True, False)]
        assert torch.equal(*runs), "the cache that came with the code changes tokens"
model.save_pretrained("again")
answers.append(answer(auto.from_pretrained("again", trust_remote_code=True)))
torch.manual_seed(0)
fresh = auto.from_config(model.config, trust_remote_code=True)
assert all(torch.isfinite(p).all() for p in fresh.parameters())
answer(fresh)
print(json.dumps(answers))
"""


class Hub(ModelCase):
    """Mixin of `ModelTester`."""

    @pytest.mark.hub
    def test_push_and_pull_with_and_without_the_package(self, hub_server: HubServer, tmp_path: Path) -> None:
        kind, name, folder = type(self), type(self).__name__.lower(), str(tmp_path / "export")
        repo = f"model-tester/{name}"
        author = run_client(
            AUTHOR, hub_server, tmp_path / "author", kind.__module__, kind.__name__, repo, folder, block=()
        )
        assert author.result[0] == author.result[1]
        assert {"config.json", "model.safetensors"} <= set(hub_server.files(repo))
        assert not any(file.endswith(".py") for file in hub_server.files(repo))
        config = json.loads(hub_server.read(f"{repo}-code", "config.json"))
        auto = self.exported_as or self.auto_class
        assert config["auto_map"][auto].endswith(f".{self.model_class.__name__}")
        places = (f"{repo}-code", folder)
        given = (auto, str(tmp_path / "author" / "inputs.json"), *places)
        reader = run_client(READER, hub_server, tmp_path / "reader", *given)
        for answer in reader.result:
            assert answer == pytest.approx(author.result[0], abs=self.tolerance)
