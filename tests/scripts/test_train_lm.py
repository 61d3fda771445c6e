# SPDX-License-Identifier: Apache-2.0
"""The language-model script: its common tests on text in memory, then streams, optimizers and refusals."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from eigenhub.optim import OptimizerConfig
from tests.common.script_tester import Run, ScriptTester
from tests.support.distributed import run_script
from tests.support.processes import ROOT, run_python


pytestmark = pytest.mark.slow  # some thirty launches of a training process

SCRIPT = ROOT / "scripts" / "dct" / "train_lm.py"
TINY = ("--max_length", "32", "--per_device_batch_size", "4", "--eval_tokens", "2048", "--warmup", "0")
LINES = [f"def add_{i}(value):\n    return value + {i}\n" for i in range(400)]
LOAD = """
import json, math, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
ids = tokenizer("def add_7(value):\\n    return value + 7\\n", return_tensors="pt")["input_ids"]
with torch.no_grad():
    loss = model(input_ids=ids, labels=ids).loss.item()
assert loss < 0.8 * math.log(256), f"loss {loss}: no better than guessing"
assert "import" not in json.load(open(f"{folder}/config.json")), "no trace of the optimizer belongs there"
"""


def write_corpus(folder: Path) -> None:
    """A text file that is learned quickly, and the same as rows for a stream, with a split to hold out."""
    (folder / "functions.txt").write_text("".join(LINES))
    rows = [json.dumps({"text": line}) + "\n" for line in LINES]
    folder = folder / "stream"
    folder.mkdir()
    for part in range(2):  # two files: each of two processes reads its own
        (folder / f"train-{part}.jsonl").write_text("".join(rows[part:380:2]))
    (folder / "validation.jsonl").write_text("".join(rows[380:]))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


def save_inputs(folder: Path) -> tuple[str, ...]:
    """The corpus, and the arguments of a run on it."""
    write_corpus(folder)
    return arguments_of(folder)


def arguments_of(corpus: Path) -> tuple[str, ...]:
    return ("--dataset", str(corpus / "functions.txt"), *TINY, "--aux_lr", "1e-2", "--rank", "0.25")


class TestTextInMemory(ScriptTester):
    slug = "dct"
    script = "train_lm.py"
    bad_flags = (
        (("--rank", "0"), "at least 1"),
        (("--rank", "1.5"), "fraction"),
        (("--optimizer", "sgd"), "invalid choice"),
        (("--residual", "fira", "--error_feedback", "int8"), "exclude each other"),
        (("--optimizer", "muon", "--momentum", "1"), "momentum"),
        (("--aux_betas", "0.9", "1"), "aux_betas"),
        (("--min_lr_ratio", "2"), "min_lr_ratio"),
        (("--streaming",), "a stream cannot be cut"),
        (("--dataset", "/no/such/file.txt"), "no such data file"),
        (("--model", "./nowhere"), "no such folder"),
        (("--eval_gsm8k",), "needs --eval_split"),
    )
    load_code = LOAD

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def with_corpus(cls, corpus: Path) -> None:
        cls.arguments = arguments_of(corpus)

    def test_what_is_written(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        last = straight.metrics[-1]
        assert summary["eval_loss"] == last["eval_loss"] < straight.losses[0]
        assert 0 < last["captured_energy"] < 1
        assert summary["tokens"] == self.max_steps * 4 * 32 * straight.nproc
        config = OptimizerConfig.from_pretrained(straight.folder)
        assert (config.optimizer, config.options["rank"], config.options["lr_aux"]) == ("dct_adamw", 0.25, 0.01)
        table = (straight.folder / "parameter_groups.md").read_text()
        assert "| model.embed_tokens.weight | 256 x 128 | adamw |" in table
        assert table.count("| matrix |") == 14

    def test_evaluation_leaves_no_trace(self, straight: Run, tmp_path: Path) -> None:
        if straight.nproc == 1:
            self.launch(tmp_path, 1, "--eval_every", "3")
            again = Run(tmp_path, 1)
            assert [row["step"] for row in again.metrics if "eval_loss" in row] == [3, 6, 9, 12, 15, 18, 20]
            assert_close(again.weights(), straight.weights(), rtol=0, atol=0)


def test_an_engine_that_flattens_matrices_is_refused(tmp_path: Path) -> None:
    environment = os.environ | {"ACCELERATE_USE_DEEPSPEED": "true"}

    def said(*flags: str) -> str:
        finished = run_python(SCRIPT, *flags, folder=tmp_path, environment=environment, check=False)
        assert finished.returncode == 2, finished
        return finished.stderr

    assert "--optimizer trion needs matrices, which DEEPSPEED flattens" in said("--optimizer", "trion")
    assert "--lr must be positive" in said("--optimizer", "adamw", "--lr", "0")


@pytest.fixture
def stream_arguments(corpus: Path) -> tuple[str, ...]:
    return (
        "--dataset",
        str(corpus / "stream"),
        "--streaming",
        "--eval_split",
        "validation",
        *TINY,
        "--aux_lr",
        "1e-2",
    )


@pytest.mark.parametrize("nproc", [1, 2])
def test_stream_resumes_exactly(stream_arguments: tuple[str, ...], tmp_path: Path, nproc: int) -> None:
    """Ten steps and ten more from the checkpoint are twenty steps: the place in the stream, the order, the optimizer."""
    count = ("--max_steps", "20", "--checkpoint_every", "5", "--seed", "1", "--gradient_accumulation_steps", "2")

    def launch(name: str, *more: str) -> Run:
        folder = tmp_path / name
        run_script(SCRIPT, *stream_arguments, *count, "--output_dir", str(folder), *more, nproc=nproc, folder=tmp_path)
        return Run(folder, nproc)

    straight = launch("straight", "--keep_checkpoints", "4")
    middle = straight.folder / "checkpoints" / "step_000010"
    resumed = launch("resumed", "--resume", str(middle))
    assert resumed.losses == straight.losses[10:]
    assert_close(resumed.weights(), straight.weights(), rtol=0, atol=0)


OPTIMIZERS = {
    "trion": ("--rank", "16", "--scale", "match_rms_adamw", "--lr", "1e-3"),
    "auon": ("--variant", "package", "--gamma", "1.5", "--target_modules", "up_proj", "down_proj"),
    "hybrid_auon": (
        "--ns_steps",
        "5",
    ),
    "muon": ("--momentum", "0.9", "--adjust_lr", "match_rms_adamw", "--lr", "2e-3"),
    "adamw": (),
    "frozen": (),
    "dct_adamw": ("--error_feedback", "int8", "--basis", "dct3", "--state_dtype", "bfloat16", "--no-rotate"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_and_resumes(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called as a function, in this process; what differs is the optimizer's state."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import train_lm

    def launch(folder: str, *more: str) -> tuple[Any, dict]:
        arguments = ["--dataset", str(corpus / "functions.txt"), *TINY, "--optimizer", name, *OPTIMIZERS[name]]
        arguments += ["--max_steps", "12", "--seed", "0", "--output_dir", str(tmp_path / folder), *more]
        return train_lm.main(arguments)

    run, summary = launch("straight", "--checkpoint_every", "6", "--keep_checkpoints", "2")
    straight = run.unwrapped.state_dict()
    losses = Run(tmp_path / "straight", 1).losses
    assert sum(losses[-3:]) < sum(losses[:3])
    assert summary["optimizer_state_bytes"] > 0
    # how often a run is evaluated may change on the way
    middle = tmp_path / "straight" / "checkpoints" / "step_000006"
    again, _ = launch("resumed", "--resume", str(middle), "--eval_every", "4")
    assert_close(again.unwrapped.state_dict(), straight, rtol=0, atol=0)
    initial = AutoModelForCausalLM.from_pretrained(tmp_path / "straight").state_dict()
    assert_close(initial, straight, rtol=0, atol=0)
    moved = again.unwrapped.model.layers[0].mlp.up_proj.weight
    fresh = fresh_weight(again.args)
    assert torch.equal(moved, fresh) == (name == "frozen")


def fresh_weight(args: Any) -> torch.Tensor:
    """That weight as the script initialised it."""
    import train_lm
    from accelerate.utils import set_seed

    set_seed(args.seed)
    model = train_lm.build_model(args, train_lm.load_tokenizer(args))
    return model.model.layers[0].mlp.up_proj.weight


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("galore", "galore_torch", "galore-torch"), ("apollo", "apollo_torch", "apollo-torch")],
)
def test_a_missing_peer_is_named_with_its_package(name: str, module: str, package: str, tmp_path: Path) -> None:
    finished = run_python(SCRIPT, "--optimizer", name, folder=tmp_path, block=(module,), check=False)
    assert finished.returncode == 2
    assert f"pip install {package}" in finished.stderr
    assert "Traceback" not in finished.stderr


PEERS = {"galore": "galore_torch", "apollo": "apollo_torch", "fira": "pytorch_optimizer"}


@pytest.mark.parametrize("name", PEERS)
def test_an_installed_peer_trains(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip(PEERS[name])
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import train_lm

    arguments = ["--dataset", str(corpus / "functions.txt"), *TINY, "--optimizer", name, "--rank", "16", "--seed", "0"]
    more = ["--update_proj_gap", "5", "--checkpoint_every", "4", "--resume", "auto", "--residual", "fira"]
    _, summary = train_lm.main([*arguments, *more, "--max_steps", "12", "--output_dir", str(tmp_path)])
    said = capsys.readouterr().out
    assert f"{name} ignores: residual" in said
    assert f"{name} cannot resume" in said
    assert not (tmp_path / "checkpoints").exists()
    losses = Run(tmp_path, 1).losses
    assert sum(losses[-3:]) < sum(losses[:3])
    assert summary["optimizer_state"]["projector"] > 0
    with pytest.raises(SystemExit):
        train_lm.main([*arguments, "--resume", str(tmp_path)])


def test_prompts_and_responses(tmp_path: Path) -> None:
    """Rows of uneven length, losses on responses only, and exact match on the held-out problems."""
    rows = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(40)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("--dataset", str(tmp_path), "--eval_split", "test", "--eval_gsm8k", "--max_new_tokens", "4")
    folder = tmp_path / "out"
    run_script(SCRIPT, *arguments, *TINY, "--max_steps", "3", "--output_dir", str(folder), nproc=1, folder=tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["evaluated"] == 40
    assert 0 <= summary["accuracy"] <= 1
    assert summary["tokens"] is None
    assert "Exact match" in (folder / "README.md").read_text()
