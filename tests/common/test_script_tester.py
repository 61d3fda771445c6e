# SPDX-License-Identifier: Apache-2.0
"""The common tester of training scripts passes a sound script and catches each fault of a bad one."""

import random
from pathlib import Path

import pytest

from tests.common.script_tester import Run, ScriptTester, falls


SCRIPT = """
import argparse, json, os, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", type=Path)
for name in ("max_steps", "checkpoint_every", "seed"):
    parser.add_argument(f"--{name}", type=int)
parser.add_argument("--resume")
args = parser.parse_args()
if args.max_steps < 1:
    parser.error("--max_steps must be at least 1")

import torch
import torch.distributed as dist
from safetensors.torch import save_file

rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
if world > 1:
    dist.init_process_group("gloo")
torch.manual_seed(args.seed)
weight = torch.zeros(3, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.005, momentum=0.9)
checkpoint, log, first = args.output_dir / "checkpoint.pt", args.output_dir / "metrics.jsonl", 0
if args.resume and checkpoint.exists():
    state = torch.load(checkpoint)
    first = state["step"]
    weight.data.copy_(state["weight"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    if rank == 0:
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:first]))
        print("resumed after step", first)
if world > 1:
    dist.barrier()
for step in range(first + 1, args.max_steps + 1):
    x = torch.randn(64, 3)[rank::world]
    loss = (x @ (weight - torch.tensor([1.0, 2.0, 3.0]))).square().mean()
    loss.backward()
    if world > 1:
        dist.all_reduce(weight.grad)
        weight.grad /= world
    optimizer.step()
    optimizer.zero_grad()
    if rank == 0:
        with log.open("a") as file:
            file.write(json.dumps({"step": step, "loss": loss.item()}) + chr(10))
    if rank == 0 and step % args.checkpoint_every == 0:
        state = {"step": step, "weight": weight, "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").rename(checkpoint)
    time.sleep(0.02)
if rank == 0:
    save_file({"weight": weight.detach()}, args.output_dir / "model.safetensors")
    (args.output_dir / "summary.json").write_text("{}")
    (args.output_dir / "README.md").write_text("---\\nlibrary_name: x\\nlicense: mit\\ntags: [y]\\n---\\n# A card\\n")
if world > 1:
    dist.destroy_process_group()
"""
LOAD = """
import sys
from safetensors.torch import load_file
assert load_file(sys.argv[1] + "/model.safetensors")["weight"].shape == (3,)
"""


class RegressionTester(ScriptTester):
    """Not collected by its name; the tests below subclass or call it."""

    slug = "regression"
    script = "train.py"
    arguments = ()
    bad_flags = ((("--max_steps", "0"), "at least 1"),)
    load_code = LOAD


class TestSoundScript(RegressionTester):
    where: Path

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def written(cls, tmp_path_factory):
        cls.where = tmp_path_factory.mktemp("scripts") / "train.py"
        cls.where.write_text(SCRIPT)

    @classmethod
    def path(cls) -> Path:
        return cls.where


@pytest.fixture
def tester(tmp_path):
    """Builds a tester of the sound script with one passage replaced."""

    def build(old: str, new: str) -> RegressionTester:
        assert old in SCRIPT
        path = tmp_path / "train.py"
        path.write_text(SCRIPT.replace(old, new))
        return type("Tester", (RegressionTester,), {"path": classmethod(lambda cls: path)})()

    return build


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory) -> Run:
    """One process of the sound script, uninterrupted."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "train.py").write_text(SCRIPT)
    sound = type("Sound", (RegressionTester,), {"path": classmethod(lambda cls: folder / "train.py")})
    return straight_run(sound(), folder / "run")


def straight_run(tester: RegressionTester, folder: Path) -> Run:
    tester.launch(folder, 1)
    return Run(folder, 1)


def test_falling_is_told_from_noise():
    noise = random.Random(0)

    def share(trend):
        runs = ([noise.gauss(1, 0.2) + trend(step) for step in range(20)] for _ in range(2000))
        return sum(falls(losses, 0.05) for losses in runs) / 2000

    assert share(lambda step: 0) < 0.02
    assert share(lambda step: 3 * 0.6**step) > 0.95  # on a plateau after five steps
    assert share(lambda step: -0.06 * step) > 0.95
    assert not falls([1.0] * 20, 0.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("import argparse", "import torch, argparse", "heavy package"),
        ('add_argument("--resume")', 'add_argument("--continue", dest="resume")', "does not name .'--resume'"),
        ("import argparse", "import time; begin = time.process_time()\nwhile time.process_time() < begin + 1: pass\nimport argparse", "CPU seconds"),
    ],
)  # fmt: skip
def test_a_heavy_help_is_named(tester, tmp_path, old, new, said):
    with pytest.raises(AssertionError, match=said):
        tester(old, new).test_help_is_light(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("args.max_steps < 1", "False", "were accepted"),
        ("must be at least 1", "is wrong", "in the message"),
        ('parser.error("', 'raise ValueError("', "traceback"),
    ],
)
def test_a_bad_refusal_is_named(tester, tmp_path, old, new, said):
    with pytest.raises(AssertionError, match=said):
        tester(old, new).test_bad_flags(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "check", "said"),
    [
        ("optimizer.step()", "torch.manual_seed(args.seed)", "test_loss_falls", "does not fall"),
        ('"loss": loss.item()', '"loss": float("nan")', "test_loss_falls", "not finite"),
        ("range(first + 1, args", "range(first + 2, args", "test_loss_falls", "holds the steps .2, 3"),
        ("# A card", "[More Information Needed]", "test_card", "still holds"),
        ("license: mit", "licence: mit", "test_card", "lacks .'license'"),
    ],
)
def test_a_bad_result_is_named(tester, tmp_path, old, new, check, said):
    bad = tester(old, new)
    with pytest.raises(AssertionError, match=said):
        getattr(bad, check)(straight_run(bad, tmp_path / "run"))


def test_weights_that_do_not_load_are_named(tester, tmp_path):
    bad = tester('"weight": weight.detach()', '"weight": weight.detach()[:2]')
    with pytest.raises(AssertionError, match="shape"):
        bad.test_output_loads_in_a_fresh_process(straight_run(bad, tmp_path / "run"), tmp_path)


def test_every_process_writing_its_metrics_is_named(tester, tmp_path):
    bad = tester("if rank == 0:\n        with log", "if True:\n        with log")
    bad.launch(tmp_path / "run", 2)
    with pytest.raises(AssertionError, match="holds the steps"):
        bad.test_loss_falls(Run(tmp_path / "run", 2))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("optimizer.load_state_dict(state[", "(state[", "not (close|equal)"),
        ("torch.set_rng_state(state[", "(state[", "not (close|equal)"),
        ('first = state["step"]', "first = 0", "resumed at step 0"),
        ("if args.resume and", "if False and", "did not say that it resumed"),
        ("    time.sleep(0.02)", "    Path(args.output_dir, 'summary.json').touch(); time.sleep(0.02)", "before the end"),
        ("    if rank == 0:\n        with log.open(\"a\") as file:\n            file.write(", "    lines = globals().setdefault('lines', [])\n    if rank == 0:\n        lines.append(", "ended before"),
    ],
)  # fmt: skip
def test_a_bad_resume_is_named(tester, sound_run, tmp_path, old, new, said):
    (tmp_path / "resumed").mkdir()
    with pytest.raises(AssertionError, match=said):
        tester(old, new).test_kill_and_resume(sound_run, tmp_path / "resumed")
