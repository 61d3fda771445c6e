# SPDX-License-Identifier: Apache-2.0
"""The BT2 script: the common matrix on the embedded glyphs, its teachers, baselines, images from disk, configurations."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from eigenhub.models.bt2 import Bt2ForImageClassification, ItemVectors, weights_fingerprint
from tests.common.script_tester import Run, SlowScriptTester
from tests.scripts.loading import load_script
from tests.support.processes import ROOT


SCRIPT = ROOT / "scripts" / "bt2" / "train_bt2.py"
CONFIGS = sorted((SCRIPT.parent / "configs").glob("*.yaml"))
LOAD = """
import sys
import torch
import eigenhub.models.bt2
from transformers import AutoModel, AutoModelForImageClassification

model = AutoModel.from_pretrained(sys.argv[1])
assert (model.config.model_type, model.config.old_dim, model.config.embedding_dim) == ("bt2", 32, 48), model.config
output = model(torch.zeros(2, 1, 28, 28))
assert output.embedding.shape == (2, 48) and output.compat_embedding.shape == (2, 32)
whole = AutoModelForImageClassification.from_pretrained(sys.argv[1])
assert torch.equal(whole(torch.zeros(2, 1, 28, 28)).embedding, output.embedding)
"""


@pytest.fixture(scope="module")
def script() -> Any:
    sys.path.insert(0, str(SCRIPT.parent))  # its siblings, as when it is run
    yield load_script(SCRIPT)
    sys.path.remove(str(SCRIPT.parent))


class TestBt2Script(SlowScriptTester):
    slug = "bt2"
    script = "train_bt2.py"
    arguments = (
        *("--added_dim", "16", "--lr", "1e-2", "--warmup", "0", "--per_device_batch_size", "32"),
        *("--gradient_accumulation_steps", "2", "--init", "random", "--no-warm_start"),
    )
    bad_flags = (
        (("--added_dim", "-1"), "--added_dim must be at least 0, got -1"),
        (("--scale", "0"), "--scale must be positive, got 0"),
        (("--influence_weight", "-1"), "--influence_weight must be at least 0"),
        (("--label_smoothing", "1"), r"--label_smoothing must be in \[0, 1\), got 1.0"),
        (("--augment", "crop"), "--augment is for images from a data set"),
        (("--dataset", "./nothing"), "no such data file or folder: ./nothing"),
        (("--dataset", "uoft-cs/cifar100"), "--backbone embedded is for --dataset embedded"),
        (("--dataset", "a/b", "--backbone", "c/d"), "--method bt2 needs --old_model or --old_vectors"),
        (("--dataset", "a/b", "--backbone", "c/d", "--old_model", "embedded"), "embedded is for --dataset embedded"),
        (("--old_model", "./nothing"), "--old_model: no such folder: ./nothing"),
        (("--old_vectors", "no.safetensors"), "--old_vectors: no such file: no.safetensors"),
        (("--old_vectors", "x", "--old_model", "y"), "--old_model and --old_vectors exclude each other"),
        (("--old_vectors", "x", "--teacher_view", "same"), "--teacher_view same needs --old_model"),
        (("--push_to_hub",), "--push_to_hub needs --hub_model_id"),
        (("--method", "magic"), "invalid choice: 'magic'"),
    )
    load_code = LOAD

    def test_metrics_and_summary(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert (summary["num_processes"], summary["steps"]) == (straight.nproc, self.max_steps)
        assert summary["final_loss"] == straight.losses[-1]
        for row in straight.metrics:
            terms = row["classification"] + row["new_teacher"] + 10 * row["influence"] + 5 * row["old_match"]
            assert row["loss"] == pytest.approx(terms, rel=1e-4)
        found = summary["retrieval"]
        assert list(found) == ["old/old", "new/old", "new/new", "teacher/old", "teacher/teacher"]
        assert found["teacher/old"]["map"] < 0.08 < found["old/old"]["map"] < found["teacher/teacher"]["map"]
        assert set(summary["update_gain"]) == {"cmc@1", "cmc@5", "map"}
        on_the_way = summary["backfill"]["map"]
        assert on_the_way[0] == pytest.approx(found["new/old"]["map"])
        assert on_the_way[-1] == pytest.approx(found["new/new"]["map"])
        assert summary["backfill"]["auc"] == pytest.approx(sum(on_the_way) / 6)

    def test_card_shows_what_was_measured_and_its_command(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        card = (straight.folder / "README.md").read_text()
        for pair, values in summary["retrieval"].items():
            assert f"| {pair} | {100 * values['cmc@1']:.1f} |" in card
        assert f"{100 * summary['backfill']['auc']:.1f} on average" in card
        assert "--added_dim=16" in card and str(straight.folder) not in card

    def test_teachers_are_cached_by_item(self, straight: Run) -> None:
        files = sorted((straight.folder / "teachers").glob("*.safetensors"))
        kept = [ItemVectors.load(file) for file in files]
        assert sorted(len(vectors.ids) for vectors in kept) == [1200, 1200, 2400, 2400]
        assert {name.rsplit("-", 1)[0] for vectors in kept for name in vectors.ids} == {
            "glyph-0-train",
            "glyph-0-test",
        }


def tiny_run(script: ModuleType, folder: Path, *flags: str) -> tuple[Any, dict]:
    shape = ["--max_steps", "3", "--per_device_batch_size", "16", "--added_dim", "16", "--seed", "0"]
    return script.main([*shape, "--output_dir", str(folder), *flags])


def test_warm_start_begins_where_the_teachers_are(script: ModuleType, tmp_path: Path) -> None:
    """Almost without steps, the new model ranks like the new teacher, and like Procrustes against the old one."""
    run, summary = tiny_run(script, tmp_path, "--lr", "1e-9")
    found = summary["retrieval"]
    assert abs(found["new/new"]["cmc@1"] - found["teacher/teacher"]["cmc@1"]) < 0.05
    assert found["new/old"]["map"] > 0.9 * found["old/old"]["map"] > 3 * found["teacher/old"]["map"]
    assert isinstance(run.unwrapped, Bt2ForImageClassification)
    weights = load_file(tmp_path / "model.safetensors")
    assert not any("old_classes" in name or "prototype" in name for name in weights)


@pytest.mark.parametrize("method", ["independent", "bct", "oca"])
def test_baselines_train_and_save(script: ModuleType, tmp_path: Path, method: str) -> None:
    flags = ["--method", method, "--max_steps", "20", "--lr", "1e-2", "--warmup", "0", "--old_model", "embedded"]
    _, summary = tiny_run(script, tmp_path, *flags, "--per_device_batch_size", "64")
    losses = Run(tmp_path, 1).losses
    assert sum(losses[-5:]) < sum(losses[:5])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "bt2_embedder"
    assert config["embedding_dim"] == {"independent": 32, "bct": 32, "oca": 48}[method]
    assert (config["old_dim"], config["orthogonal"]) == (None if method == "independent" else 32, method == "oca")
    terms = set(Run(tmp_path, 1).metrics[0]) - {"step", "loss", "lr"}
    expected = {"independent": 1, "bct": 2, "oca": 3}[method]
    assert len(terms) == expected and "teacher/teacher" not in summary["retrieval"]


def test_teachers_of_the_same_view(script: ModuleType, tmp_path: Path) -> None:
    """Without augmentation both views are one, so the runs agree."""
    losses = [tiny_run(script, tmp_path / view, "--teacher_view", view)[1]["final_loss"] for view in ("eval", "same")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_vectors_from_files_in_any_order(script: ModuleType, tmp_path: Path) -> None:
    run, summary = tiny_run(script, tmp_path / "models", "--no-warm_start")
    files = {}
    for name in ("old", "new"):
        kept = [ItemVectors.load(file) for file in (tmp_path / "models" / "teachers").glob(f"{name}-*")]
        ids = [i for vectors in kept for i in vectors.ids]
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(1)).tolist()
        rows = torch.cat([vectors.vectors for vectors in kept])[order]
        files[name] = tmp_path / f"{name}.safetensors"
        ItemVectors(tuple(ids[i] for i in order), rows, "elsewhere").save(files[name])
    flags = [flag for name, file in files.items() for flag in (f"--{name}_vectors", str(file))]
    other, again = tiny_run(script, tmp_path / "files", "--no-warm_start", *flags)
    assert again["final_loss"] == pytest.approx(summary["final_loss"], rel=1e-6)
    named, filed = run.unwrapped.config.old_model, other.unwrapped.config.old_model
    assert named["id"] == "embedded" and named["revision"] == weights_fingerprint(run.teachers["old"])
    assert filed == {"id": "old.safetensors", "revision": "elsewhere", "dim": 32, "preprocessing": None}


def test_frozen_backbone_stays(script: ModuleType, tmp_path: Path) -> None:
    from eigenhub.embedded.glyph_models import glyph_embedder_folder

    tiny_run(script, tmp_path, "--freeze_backbone", "--lr", "1e-2")
    trained, teacher = (
        load_file(tmp_path / "model.safetensors"),
        load_file(glyph_embedder_folder("new") / "model.safetensors"),
    )
    for name, tensor in teacher.items():
        if name.startswith("backbone."):
            assert torch.equal(trained[f"bt2.{name}"], tensor), name
    assert not torch.equal(trained["bt2.head.new_projection.weight"], teacher["projection.weight"])


def test_other_methods_say_what_they_ignore(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny_run(script, tmp_path, "--method", "bct", "--basis_rank", "2")
    assert "bct ignores: basis_rank" in capsys.readouterr().out


def test_a_warm_start_that_does_not_fit_is_an_error(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--warm_start needs a --new_model made by --method independent"):
        tiny_run(script, tmp_path, "--warm_start", "--method", "bt2", "--new_model", str(old_teacher()))


def test_a_baseline_starts_from_the_new_model_if_asked_to(script: ModuleType, tmp_path: Path) -> None:
    flags = ["--method", "bct", "--new_model", "embedded", "--lr", "1e-9", "--warm_start"]
    _, summary = tiny_run(script, tmp_path, *flags)
    found = summary["retrieval"]
    assert abs(found["new/new"]["cmc@1"] - found["teacher/teacher"]["cmc@1"]) < 0.02


def old_teacher() -> Path:
    from eigenhub.embedded.glyph_models import glyph_embedder_folder

    return glyph_embedder_folder("old")


def image_folder(folder: Path) -> Path:
    """Forty-eight coloured squares of four classes, of unequal sizes."""
    from PIL import Image

    random = np.random.default_rng(0)
    for split, number in (("train", 8), ("test", 4)):
        for label in range(4):
            target = folder / split / f"class{label}"
            target.mkdir(parents=True)
            for item in range(number):
                pixels = random.integers(0, 60, (20 + item, 30 - item, 3), dtype=np.uint8)
                pixels[..., label % 3] += np.uint8(100 + 30 * (label // 3))
                Image.fromarray(pixels).save(target / f"{item}.png")
    return folder


def test_images_from_disk_over_a_pretrained_transformer(script: ModuleType, tmp_path: Path) -> None:
    """All three stages on an image folder, with crops, over a ViT from a folder and averaged tokens."""
    from transformers import ViTConfig, ViTModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **shape)).save_pretrained(tmp_path / "vit")
    images = image_folder(tmp_path / "images")
    common = ["--dataset", str(images), "--backbone", str(tmp_path / "vit"), "--image_size", "16", "--pooling", "mean"]
    common += ["--augment", "crop", "--max_steps", "4", "--per_device_batch_size", "8", "--added_dim", "2"]
    stages = {
        "old": ["--method", "independent", "--embedding_dim", "4", "--num_classes", "2"],
        "new": ["--method", "independent", "--embedding_dim", "6"],
        "bt2": ["--old_model", str(tmp_path / "old"), "--new_model", str(tmp_path / "new")],
    }
    for name, flags in stages.items():
        run, summary = script.main([*common, *flags, "--output_dir", str(tmp_path / name)])
    config = run.unwrapped.config
    assert (config.new_dim, config.old_dim, config.added_dim, config.num_labels) == (6, 4, 2, 4)
    assert set(summary["retrieval"]) == {"old/old", "new/old", "new/new", "teacher/old", "teacher/teacher"}
    with pytest.raises(ValueError, match="has no column 'picture'; its columns are image, label"):
        script.main([*common, *stages["old"], "--image_column", "picture", "--output_dir", str(tmp_path / "bad")])


def test_views_repeat_by_seed_epoch_and_row(script: ModuleType, tmp_path: Path) -> None:
    import bt2_data

    args = script.parse_args(
        ["--dataset", str(image_folder(tmp_path)), "--backbone", "a/b", "--method", "independent"]
    )
    args.image_size = 12
    split, _ = bt2_data.load_splits(args)
    rows = bt2_data.TrainRows(split, "crop", seed=3)
    first = rows[5]["pixel_values"]
    assert first.shape == (3, 12, 12) and torch.equal(rows[5]["pixel_values"], first)
    rows.epoch = 1
    assert not torch.equal(rows[5]["pixel_values"], first)
    assert not torch.equal(bt2_data.TrainRows(split, "crop", seed=4)[5]["pixel_values"], first)
    still = split.view(5)
    assert torch.equal(still, split.view(5, "none", (9, 9)))
    flips = {tuple(split.view(5, "flip", (seed,)).flatten().tolist()) for seed in range(12)}
    assert flips == {tuple(still.flatten().tolist()), tuple(still.flip(-1).flatten().tolist())}
    assert split.ids[:2] == ["train:0", "train:1"]


def test_a_degenerate_upgrade_is_said(script: ModuleType) -> None:
    import bt2_report

    def found(old: float, now: float, teacher: float) -> dict:
        return {pair: {"map": m} for pair, m in (("old/old", old), ("new/old", now), ("teacher/teacher", teacher))}

    assert bt2_report.warnings_of(found(0.2, 0.3, 0.5)) == []
    assert ["not compatible" in line for line in bt2_report.warnings_of(found(0.2, 0.2, 0.5))] == [True]
    assert ["nothing to gain" in line for line in bt2_report.warnings_of(found(0.2, 0.3, 0.2))] == [True]
    assert bt2_report.gains(
        {
            pair: dict.fromkeys(("cmc@1", "cmc@5", "map"), v)
            for pair, v in (("old/old", 0.2), ("new/old", 0.3), ("teacher/teacher", 0.4))
        }
    ) == pytest.approx({"cmc@1": 0.5, "cmc@5": 0.5, "map": 0.5})
    assert bt2_report.gains({"old/old": {}}) == {}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid(script: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    args = script.parse_args(["--config", str(path)])
    assert args.output_dir.parts[0] == "runs"
    for name, value in yaml.safe_load(path.read_text()).items():
        given = getattr(args, name)
        assert given == (type(given)(value) if isinstance(given, float | Path) else value), name


def test_published_runs_have_the_published_settings(script: ModuleType) -> None:
    folder = SCRIPT.parent / "configs"
    cifar = script.parse_args(["--config", str(folder / "cifar100_bt2.yaml")])
    assert (cifar.added_dim, cifar.scale, cifar.per_device_batch_size, cifar.epochs) == (32, 2.0, 128, 100)
    assert (cifar.new_teacher_weight, cifar.influence_weight, cifar.old_match_weight) == (1.0, 10.0, 5.0)
    assert (cifar.optimizer, cifar.lr, cifar.weight_decay) == ("adam", 1e-3, 2**-15)
    assert (cifar.label_smoothing, cifar.init, cifar.warm_start) == (0.0, "random", False)
    imagenet = script.parse_args(["--config", str(folder / "imagenet_old.yaml")])
    assert (imagenet.num_classes, imagenet.augment, imagenet.weight_decay, imagenet.warmup) == (500, "crop", 0.0, 0.2)
    assert imagenet.per_device_batch_size * 8 == 256
    for name in ("new", "bt2"):  # the stages find one another
        assert script.parse_args(["--config", str(folder / f"imagenet_{name}.yaml")]).num_classes is None
    assert cifar.old_model == str(script.parse_args(["--config", str(folder / "cifar100_old.yaml")]).output_dir)
    assert cifar.new_model == str(script.parse_args(["--config", str(folder / "cifar100_new.yaml")]).output_dir)


def test_header_names_the_dependencies() -> None:
    for path in (SCRIPT, SCRIPT.with_name("demo.py")):
        lines = path.read_text().splitlines()
        block = lines[lines.index("# /// script") + 1 : lines.index("# ///")]
        assert any(line.startswith('# dependencies = ["eigenhub[') for line in block)
