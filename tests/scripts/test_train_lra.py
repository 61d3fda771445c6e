# SPDX-License-Identifier: Apache-2.0
"""The long-sequence script: its common tests on digits, every task on data in the layout of its release, configurations."""

import json
import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.common.script_tester import Run, ScriptTester
from tests.scripts.lra_releases import write_release
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "s5_ptd"
SCRIPT = FOLDER / "train_lra.py"
CONFIGS = [path for path in sorted((FOLDER / "configs").glob("*.yaml")) if not path.name.startswith("lm_")]
TINY = ("--hidden_size", "12", "--num_hidden_layers", "1", "--state_size", "8", "--init", "lowrank")
LOAD = """
import sys
import torch
from safetensors.torch import load_file
from eigenhub.embedded.sequential_digits import load_sequential_digits
from eigenhub.models.s5_ptd import S5ForImageClassification

model = S5ForImageClassification.from_pretrained(sys.argv[1]).eval()
assert (model.config.init, model.config.bidirectional, model.config.id2label[3]) == ("lowrank", True, "3")
rows = load_sequential_digits()["test"][:]
with torch.no_grad():
    logits = model(pixel_values=rows["pixel_values"]).logits
assert (logits.argmax(-1) == rows["labels"]).float().mean() > 0.15
"""


@pytest.fixture(scope="module")
def lra() -> Iterator[SimpleNamespace]:
    """The script and the modules beside it."""
    names = [path.stem for path in FOLDER.glob("*lra*.py")]
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: import_module(name) for name in names})
    sys.path.remove(str(FOLDER))
    for name in names:
        del sys.modules[name]


@pytest.mark.slow
class TestTrainLra(ScriptTester):
    slug = "s5_ptd"
    script = "train_lra.py"
    arguments = (
        *("--task", "digits", *TINY, "--hidden_size", "24", "--state_size", "16", "--num_blocks", "1"),
        *("--c_init", "complex_normal", "--bidirectional", "--norm_type", "batch", "--dt_min", "0.01"),
        *("--hidden_dropout", "0.1", "--lr", "2e-2", "--warmup", "0", "--per_device_batch_size", "16"),
        *("--gradient_accumulation_steps", "2", "--eval_every", "10"),
    )
    max_steps = 40
    checkpoint_every = 12
    bad_flags = (
        (("--task", "chess"), "invalid choice"),
        (("--init", "hippo"), "invalid choice"),
        (("--task", "retrieval"), "--task retrieval needs --data_dir"),
        (("--task", "pathx", "--data_dir", "/no/such/folder"), "no such folder"),
        (("--data_dir", "."), "brings its own data"),
        (("--max_length", "8"), "--max_length is for text"),
        (("--task", "pendulum", "--model", "s4d"), "irregular times"),
        (("--validation_share", "1"), r"must be in \[0, 1\), got 1.0"),
        (("--noise", "0.1", "-1"), "--noise must be amplitudes of at least 0"),
        (("--ssm_lr", "-1"), "--ssm_lr must be at least 0"),
        (("--push_to_hub",), "needs --hub_model_id"),
    )
    load_code = LOAD

    def test_what_is_written(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        rows = {row["step"]: row for row in straight.metrics}
        evaluated = [step for step, row in rows.items() if "validation_accuracy" in row]
        assert evaluated == [10, 20, 30, 40]
        best = max(evaluated, key=lambda step: (rows[step]["validation_accuracy"], -step))
        assert summary["best_step"] == best
        kept = load_file(straight.folder / "best" / "model.safetensors")
        assert_close(kept, load_file(straight.folder / "model.safetensors"), rtol=0, atol=0)
        assert summary["test_rows"] == 597 and 0 < summary["test_accuracy"] < 1
        assert summary["num_processes"] == straight.nproc
        card = (straight.folder / "README.md").read_text()
        assert f"{summary['test_accuracy']:.4f}" in card and summary["settings"]["command"] in card
        assert str(straight.folder) not in card
        results = yaml.safe_load((straight.folder / "results.yaml").read_text())
        assert results["method"] == "s5_ptd" and results["measured"][0]["value"] == round(summary["test_accuracy"], 4)

    def test_evaluation_leaves_no_trace(self, straight: Run, tmp_path: Path) -> None:
        """With dropout: the masks of later steps must not depend on how often a run is evaluated."""
        if straight.nproc == 1:
            self.launch(tmp_path, 1, "--eval_every", "40")
            assert Run(tmp_path, 1).losses == straight.losses


def launch(lra: SimpleNamespace, folder: Path, *flags: str) -> tuple[Any, dict]:
    """A run of a few steps in this process."""
    counts = ("--max_steps", "3", "--per_device_batch_size", "4", "--seed", "0", "--warmup", "0")
    return lra.train_lra.main([*TINY, *counts, "--output_dir", str(folder), *flags])


RELEASES = ("listops", "text", "retrieval", "image", "scifar", "pathfinder", "pathx", "speech")


@pytest.mark.parametrize("task", RELEASES)
def test_every_release_trains(lra: SimpleNamespace, tmp_path: Path, task: str) -> None:
    """Ten rows in the layout in which the data is published, short texts and small pictures."""
    write_release(task, tmp_path / "data")
    length = ["--max_length", "24"] if task in ("listops", "text", "retrieval") else []
    run, summary = launch(lra, tmp_path / "run", "--task", task, "--data_dir", str(tmp_path / "data"), *length)
    assert all(math.isfinite(loss) for loss in Run(tmp_path / "run", 1).losses)
    assert 0 <= summary["test_accuracy"] <= 1
    assert type(run.unwrapped).__name__ == f"S5{lra.lra_models.HEADS[lra.lra_options.TASKS[task].head]}"
    again = type(run.unwrapped).from_pretrained(tmp_path / "run").eval()
    batch = run.data.collate([run.data.test[index] for index in range(2)])
    with torch.no_grad():
        assert_close(again(**batch).logits, run.unwrapped.eval()(**batch).logits, rtol=0, atol=0)
    assert ("half_rate" in summary) == (task == "speech")


def test_generated_tasks_train(lra: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eigenhub.embedded import listops, pathfinder, pendulum

    tiny = listops.ListOpsRecipe(40, 8, 8, max_depth=3, min_length=10, max_length=40)
    monkeypatch.setattr(listops, "SMALL", tiny)
    few = pathfinder.PathfinderRecipe(size=16, num_train=20, num_test=4)
    monkeypatch.setattr(pathfinder, "PathfinderRecipe", lambda size: few)
    short = pendulum.load_pendulum(pendulum.PendulumRecipe(num_train=20, num_test=4, length=8))
    monkeypatch.setattr(pendulum, "load_pendulum", lambda: short)
    for task in ("listops_small", "pathfinder_small"):
        _, summary = launch(lra, tmp_path / task, "--task", task)
        assert 0 <= summary["test_accuracy"] <= 1
    run, summary = launch(lra, tmp_path / "pendulum", "--task", "pendulum", "--eval_every", "1", "--noise", "0.5")
    assert summary["test_rmse"] == pytest.approx(summary["test_loss"] ** 0.5)
    assert summary["noise"]["0.5"]["rmse"] != summary["test_rmse"]
    assert "error" in (tmp_path / "pendulum" / "README.md").read_text()
    assert run.unwrapped.config.num_labels == 1


def test_batches_of_the_releases(lra: SimpleNamespace, tmp_path: Path) -> None:
    """What a model gets, against the files themselves."""
    sources, tasks = lra.lra_sources, lra.lra_tasks
    for task in RELEASES:
        write_release(task, tmp_path / task)

    def data(task: str, *flags: str) -> Any:
        arguments = ["--task", task, "--data_dir", str(tmp_path / task), "--output_dir", str(tmp_path / "none")]
        return tasks.load_task(lra.train_lra.parse_args([*arguments, *flags]))

    text = data("text", "--max_length", "6", "--validation_share", "0")
    assert text.validation is None
    first = sources.read_imdb(str(tmp_path / "text"))["train"][0]
    assert text.train[0]["input_ids"] == [*first["text"].encode()[:5], 0]
    pairs = data("retrieval", "--max_length", "30")
    batch = pairs.collate([pairs.test[0], pairs.test[1]])
    row = sources.read_aan(tmp_path / "retrieval")["test"][1]
    length = batch["attention_mask"][1, 1].sum()
    assert bytes(batch["input_ids"][1, 1, : length - 1].tolist()) == row["second"].encode()[:29]
    assert (batch["input_ids"][1, 1, length - 1 :] == 0).all()
    assert batch["labels"].tolist() == [pairs.test[0]["labels"], row["labels"]]
    grey, colour = data("image"), data("scifar")
    assert grey.collate([grey.test[0]])["pixel_values"].shape == (1, 1, 32, 32)
    seen = colour.collate([colour.test[0]])["pixel_values"][0]
    mean, std = tasks.COLOUR_CIFAR
    shown = seen * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    assert_close(shown * 255, colour.test[0]["pixels"].float(), rtol=0, atol=1e-3)
    paths = data("pathfinder")
    assert [len(part) for part in (paths.train, paths.validation, paths.test)] == [16, 2, 2]
    values = paths.collate([paths.train[i] for i in range(16)])["pixel_values"]
    assert values.shape == (16, 1, 32, 32) and values.min() == -1 and values.max() == 1
    speech = data("speech")
    assert (len(speech.train), len(speech.validation), len(speech.test)) == (35, 1, 2)
    samples = speech.collate([speech.train[i] for i in range(35)])["input_values"]
    assert samples.shape == (35, 16_000)
    assert samples.mean().abs() < 1e-3 and samples.std() == pytest.approx(1, abs=0.01)


def test_broken_files_are_named(lra: SimpleNamespace, tmp_path: Path) -> None:
    write_release("pathfinder", tmp_path / "paths")
    picture = next((tmp_path / "paths").rglob("*.png"))
    picture.write_bytes(b"")
    rows = lra.lra_sources.PathfinderFiles(tmp_path / "paths")
    with pytest.raises(ValueError, match=rf"{picture.name} is not a picture; the release holds it 0 bytes long"):
        [rows[index] for index in range(len(rows))]
    with pytest.raises(ValueError, match="song.wav: expected one channel of 16 bits at 16000 Hz, got 2 of 16 bits"):
        lra.lra_sources.decode_wave(stereo(), "song.wav")
    with pytest.raises(SystemExit):
        lra.train_lra.parse_args(["--task", "listops", "--data_dir", str(tmp_path / "paths")])


def stereo() -> bytes:
    import io
    import wave

    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(400))
    return target.getvalue()


def test_a_release_that_is_not_there_says_what_is_missing(
    lra: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        lra.train_lra.parse_args(["--task", "retrieval", "--data_dir", str(tmp_path)])
    assert "lacks new_aan_pairs.train.tsv, new_aan_pairs.eval.tsv" in capsys.readouterr().err


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid(lra: SimpleNamespace, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(lra.lra_options, "check_folder", lambda task, folder: None)  # data need not be here
    args = lra.train_lra.parse_args(["--config", str(path)])
    written = yaml.safe_load(path.read_text())
    free = ("output_dir", "lr", "ssm_lr", "dt_min")  # YAML reads 1e-3 as a string
    assert {n: getattr(args, n) for n in written if n not in free} == {
        n: v for n, v in written.items() if n not in free
    }
    assert args.output_dir.parts[0] == "runs"
    assert lra.lra_options.ignored_options(args) == []
    settings = lra.lra_models.model_settings(args) | {"init": "legs", "b_init": "lecun_normal"}  # without the solver
    package, prefix = lra.lra_models.PACKAGES[args.model]
    getattr(import_module(package), f"{prefix}Config")(input_size=1, **settings)


#: From section 3.5 of the S5 and PTD papers' code: layers, H, P, J, lr, ssm_lr, batch, epochs, dropout, decay.
PUBLISHED = {
    "s5_lra_listops": (8, 128, 16, 8, 3e-3, 1e-3, 50, 40, 0.0, 0.04),
    "s5_ptd_lra_listops": (8, 128, 16, 8, 3e-3, 1e-3, 50, 35, 0.0, 0.05),
    "s5_lra_text": (6, 256, 192, 12, 4e-3, 1e-3, 50, 35, 0.1, 0.07),
    "s5_ptd_lra_text": (6, 256, 192, 12, 4e-3, 1e-3, 50, 40, 0.1, 0.07),
    "s5_lra_retrieval": (6, 128, 256, 16, 2e-3, 1e-3, 32, 20, 0.0, 0.05),
    "s5_ptd_lra_retrieval": (6, 128, 256, 16, 2e-3, 1e-3, 32, 20, 0.0, 0.05),
    "s5_lra_image": (6, 512, 384, 3, 4.5e-3, 1e-3, 50, 250, 0.1, 0.07),
    "s5_ptd_lra_image": (6, 512, 384, 3, 5e-3, 1e-3, 50, 250, 0.1, 0.07),
    "s5_lra_pathfinder": (6, 192, 256, 8, 4.5e-3, 9e-4, 64, 200, 0.05, 0.03),
    "s5_ptd_lra_pathfinder": (6, 192, 256, 8, 4.5e-3, 9e-4, 64, 230, 0.05, 0.05),
    "s5_lra_pathx": (6, 128, 256, 16, 1.8e-3, 6e-4, 32, 75, 0.0, 0.06),
    "s5_ptd_lra_pathx": (6, 128, 256, 16, 1.8e-3, 6e-4, 32, 90, 0.0, 0.06),
    "s5_speech": (6, 96, 128, 16, 8e-3, 2e-3, 16, 40, 0.1, 0.04),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(lra: SimpleNamespace, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.lra_options, "check_folder", lambda task, folder: None)
    args = lra.train_lra.parse_args(["--config", str(FOLDER / "configs" / f"{name}.yaml")])
    names = ("num_hidden_layers", "hidden_size", "state_size", "num_blocks", "lr", "ssm_lr", "per_device_batch_size")
    names += ("epochs", "hidden_dropout", "weight_decay")
    assert tuple(getattr(args, name) for name in names) == pytest.approx(PUBLISHED[name])
    assert (args.norm_type, args.bidirectional, args.prenorm, args.lr_scheduler) == ("batch", True, True, "cosine")
    assert args.conj_sym == ("none" if "ptd" in name else "half")
    assert args.max_grad_norm == 0


def test_every_task_of_the_arena_has_its_configurations() -> None:
    tasks = ("listops", "text", "retrieval", "image", "pathfinder", "pathx")
    wanted = {f"{family}_lra_{task}" for family in ("s5", "s5_ptd", "s4d", "s4_ptd") for task in tasks}
    wanted |= {"s5_speech", "s4d_speech", "s4d_scifar", "digits", "listops_small", "pathfinder_small", "pendulum"}
    assert {path.stem for path in CONFIGS} == wanted


def test_parameter_groups_and_frozen_systems(lra: SimpleNamespace, tmp_path: Path) -> None:
    run, _ = launch(lra, tmp_path / "both", "--lr", "8e-3", "--ssm_lr", "2e-3", "--opt_config", "noBCdecay")
    groups = {group["name"]: group for group in run.optimizer.param_groups}
    assert groups["ssm"]["initial_lr"] == 2e-3 and groups["regular"]["initial_lr"] == 8e-3
    assert any(name.endswith(".C") for name in groups["ssm"]["members"])
    for model in ("s5", "s4d"):
        frozen, _ = launch(lra, tmp_path / model, "--ssm_lr", "0", "--model", model, "--keep_best")
        assert {group["name"] for group in frozen.optimizer.param_groups} == {"regular"}
        trained = {n.rpartition(".")[2] for n, p in frozen.unwrapped.named_parameters() if p.requires_grad}
        assert "C" in trained
        assert not trained & {"Lambda_re", "Lambda_im", "log_step", "A_real", "A_imag", "inv_dt", "B"}


def test_what_the_other_family_takes_is_ignored_and_named(
    lra: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    launch(lra, tmp_path, "--model", "s4d", "--num_blocks", "2", "--opt_config", "standard")
    assert "s4d ignores: num_blocks, opt_config" in capsys.readouterr().out


def test_accumulation_changes_nothing(lra: SimpleNamespace, tmp_path: Path) -> None:
    """Layer norm, so that rows do not see each other: 2 x 4 rows are 8 rows."""
    plain, _ = launch(lra, tmp_path / "plain", "--per_device_batch_size", "8", "--lr", "1e-2")
    parts, _ = launch(lra, tmp_path / "parts", "--gradient_accumulation_steps", "2", "--lr", "1e-2")
    assert_close(Run(tmp_path / "parts", 1).losses, Run(tmp_path / "plain", 1).losses, rtol=1e-5, atol=0)
    assert_close(parts.unwrapped.state_dict(), plain.unwrapped.state_dict(), rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(lra: SimpleNamespace, tmp_path: Path) -> None:
    plain = launch(lra, tmp_path / "plain")[1]["final_loss"]
    assert launch(lra, tmp_path / "less", "--gradient_checkpointing")[1]["final_loss"] == plain


def test_tracker(lra: SimpleNamespace, tmp_path: Path) -> None:
    launch(lra, tmp_path, "--report_to", "tensorboard")
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_schedule_may_outlast_the_run(lra: SimpleNamespace, tmp_path: Path) -> None:
    launch(lra, tmp_path / "short", "--lr", "1e-2")
    launch(lra, tmp_path / "long", "--lr", "1e-2", "--schedule_steps", "300")
    rates = [[row["lr"] for row in Run(tmp_path / name, 1).metrics] for name in ("short", "long")]
    assert rates[0][-1] < 0.5e-2 and min(rates[1]) > 0.99e-2


def test_best_weights_of_a_run_that_goes_another_way_are_forgotten(lra: SimpleNamespace, tmp_path: Path) -> None:
    best = lra.lra_best.BestWeights(tmp_path, first_step=0)
    weights = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    layer = torch.nn.Linear(3, 2)
    assert best.load_into(layer) is None
    best.offer({"step": 10, "validation_accuracy": 0.5}, weights)
    best.offer({"step": 20, "validation_accuracy": 0.4}, {name: t + 1 for name, t in weights.items()})
    assert best.load_into(layer) == 10
    assert_close(layer.state_dict(), weights, rtol=0, atol=0, check_stride=False)
    assert lra.lra_best.BestWeights(tmp_path, first_step=10).best == 0.5
    assert lra.lra_best.BestWeights(tmp_path, first_step=5).load_into(layer) is None
    errors = lra.lra_best.BestWeights(tmp_path / "errors", 0)
    for step, error in ((1, 0.3), (2, 0.1), (3, 0.2)):
        errors.offer({"step": step, "validation_rmse": error}, weights)
    assert errors.load_into(layer) == 2


def test_help_is_light_and_names_the_tasks(tmp_path: Path) -> None:
    finished = run_python(SCRIPT, "--help", folder=tmp_path, block=("torch", "transformers", "datasets", "accelerate"))
    for task in ("pathx", "speech", "listops_small"):
        assert task in finished.stdout
    assert finished.cpu_seconds < 1


def test_the_header_names_the_dependencies() -> None:
    lines = SCRIPT.read_text().splitlines()
    block = lines[lines.index("# /// script") + 1 : lines.index("# ///")]
    assert any(line.startswith('# dependencies = ["eigenhub[') for line in block)
