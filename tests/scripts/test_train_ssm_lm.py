# SPDX-License-Identifier: Apache-2.0
"""The language-model script of the state space models: its common tests on text in memory, and a tiny run in this process."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from eigenhub.models.s4d import S4DForCausalLM
from eigenhub.models.s5_ptd import S5ForCausalLM
from tests.common.script_tester import Run, ScriptTester
from tests.support.processes import ROOT


FOLDER = ROOT / "scripts" / "s5_ptd"
LINES = [f"def add_{i}(value):\n    return value + {i}\n" for i in range(400)]
TINY = (
    *("--hidden_size", "32", "--num_hidden_layers", "1", "--state_size", "16", "--max_length", "32"),
    *("--per_device_batch_size", "4", "--eval_tokens", "1024", "--warmup", "0"),
)
LOAD = """
import sys
import torch
import eigenhub.auto
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer("def add_7(value):\\n    return value + 7\\n", return_tensors="pt")["input_ids"]
with torch.no_grad():
    loss = model(input_ids=ids, labels=ids).loss.item()
assert loss < 4.5, f"loss {loss}: no better than guessing"
assert model.generate(ids[:, :8], max_new_tokens=4, do_sample=False).shape == (1, 12)
"""


def save_inputs(folder: Path) -> tuple[str, ...]:
    """A text file that is learned quickly, and the arguments of a run on it."""
    path = folder / "functions.txt"
    path.write_text("".join(LINES))
    return ("--dataset", str(path), *TINY, "--num_blocks", "1", "--init", "lowrank", "--lr", "1e-2")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return save_inputs(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def text(inputs: tuple[str, ...]) -> Path:
    return Path(inputs[1])


@pytest.fixture(scope="module")
def train_lm() -> Iterator[ModuleType]:
    """The script and the modules beside it; scripts of other methods go by some of their names."""
    names = {path.stem for path in FOLDER.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, str(FOLDER))
    yield import_module("train_lm")
    sys.path.remove(str(FOLDER))
    for name in names & set(sys.modules):
        del sys.modules[name]
    sys.modules.update(others)


@pytest.mark.slow
class TestTrainLm(ScriptTester):
    slug = "s5_ptd"
    script = "train_lm.py"
    bad_flags = (
        (("--init", "hippo"), "invalid choice"),
        (("--norm_type", "batch"), "leaks across time"),
        (("--min_lr_ratio", "2"), "min_lr_ratio"),
        (("--ssm_lr", "-1"), "--ssm_lr must be at least 0"),
        (("--streaming",), "needs --max_steps|a stream cannot be cut"),
        (("--dataset", "/no/such/file.txt"), "no such data file"),
        (("--push_to_hub",), "needs --hub_model_id"),
    )
    load_code = LOAD

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def with_corpus(cls, inputs: tuple[str, ...]) -> None:
        cls.arguments = inputs

    def test_what_is_written(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert summary["num_processes"] == straight.nproc and summary["eval_loss"] == straight.metrics[-1]["eval_loss"]
        card = (straight.folder / "README.md").read_text()
        assert summary["settings"]["command"] in card and str(straight.folder) not in card


@pytest.mark.parametrize(("model", "kind"), [("s5", S5ForCausalLM), ("s4d", S4DForCausalLM)])
def test_a_tiny_run_is_reloaded_with_its_tokenizer(
    train_lm: ModuleType, text: Path, tmp_path: Path, model, kind
) -> None:
    blocks = ["--num_blocks", "1"] if model == "s5" else []
    flags = [*TINY, *blocks, "--dataset", str(text), "--max_steps", "12", "--lr", "1e-2", "--tie_word_embeddings"]
    run, summary = train_lm.main([*flags, "--model", model, "--output_dir", str(tmp_path)])
    assert (
        isinstance(run.unwrapped, kind) and run.unwrapped.lm_head.weight is run.unwrapped.get_input_embeddings().weight
    )
    losses = Run(tmp_path, 1).losses
    assert losses[0] > 5 > losses[-1] and summary["tokens"] == 12 * 4 * 32
    rates = Run(tmp_path, 1).metrics[0]
    assert (rates["lr_ssm"], rates["lr_regular"]) == (1e-3, 1e-2)
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(LINES[3], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert_close(loaded(input_ids=ids).logits, run.unwrapped.eval()(input_ids=ids).logits, rtol=0, atol=0)
    figure = yaml.safe_load((tmp_path / "results.yaml").read_text())["measured"][0]
    assert figure["method"] == {"s5": "s5_ptd", "s4d": "s4-ptd"}[model]
    assert figure["value"] == round(summary["perplexity"], 4)
    assert f"{figure['value']:.4g}"[:4] in (tmp_path / "README.md").read_text()


def test_the_configuration_is_valid(train_lm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    args = train_lm.parse_args(["--config", str(FOLDER / "configs" / "lm_bytes.yaml")])
    model = train_lm.build_model(args, train_lm.load_tokenizer(args))
    assert sum(parameter.numel() for parameter in model.parameters()) < 200_000
    assert args.command.startswith("accelerate launch scripts/s5_ptd/train_lm.py --hidden_size=128")
