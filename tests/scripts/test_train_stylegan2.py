# SPDX-License-Identifier: Apache-2.0
"""Training StyleGAN2 from scratch: the common matrix on digits, resume, images from disk, distances, configurations."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from torch.testing import assert_close

from eigenhub.models.stylegan2 import StyleGAN2Networks
from eigenhub.training.checkpoint_files import checkpoint_name
from tests.common.script_tester import Run, SlowScriptTester
from tests.scripts.gan_runs import (
    FOLDER,
    SIZES,
    TRAIN,
    check_configuration,
    check_header,
    differing,
    loaded,
    new_pair,
    refused,
    take_steps,
    unstarted,
    weights,
)
from tests.support.distributed import run_function


CONFIGS = sorted(path for path in (FOLDER / "configs").glob("*.yaml") if "projector" not in path.stem)
LOAD = """
import sys
import torch
import eigenhub.auto
from transformers import AutoModel, AutoModelForImageClassification

model = AutoModel.from_pretrained(sys.argv[1])
assert type(model).__name__ == "StyleGAN2Generator" and model.config.img_resolution == 16, model.config
images = model.sample(2)
assert images.shape == (2, 1, 16, 16) and images.isfinite().all()
raw = AutoModel.from_pretrained(sys.argv[1], subfolder="generator_raw")
assert not torch.equal(raw.sample(2), images)
judge = AutoModelForImageClassification.from_pretrained(sys.argv[1], subfolder="discriminator")
assert judge(images).logits.shape == (2, 1)
"""
#: The last words of the message are a pattern.
BAD_FLAGS = (
    (("--image_size", "24"), "--image_size must be a power of two, at least 8, got 24"),
    (("--per_device_batch_size", "6"), "--per_device_batch_size must be divisible by the 4 samples"),
    (("--lr", "0"), "--lr must be positive, got 0"),
    (("--r1_gamma", "-1"), "--r1_gamma must be at least 0, got -1"),
    (("--mixing", "1.5"), r"--mixing must be in \[0, 1\], got 1.5"),
    (("--beta2", "1"), r"--beta2 must be in \[0, 1\), got 1.0"),
    (("--ada_p", "0.1"), "--ada_p and --ada_fixed need --ada"),
    (("--ada_target", "1"), r"--ada_target must be in \(-1, 1\), got 1.0"),
    (("--dataset", "shapes", "--conditional"), "--conditional needs labels"),
    (("--dataset", "./nothing"), "no such data file or folder: ./nothing"),
    (("--dataset", "a/b", "--eval_features", "embedded"), "--eval_features embedded is for the embedded data"),
    (("--inception_weights", "no.pth"), "--inception_weights: no such file: no.pth"),
    (("--push_to_hub",), "--push_to_hub needs --hub_model_id"),
    (("--resume", "./nothing"), "--resume: nothing is not a complete checkpoint"),
    (("--ada_fixed",), "--ada_p and --ada_fixed need --ada"),
    (("--eval_every", "0"), "--eval_every: must be at least 1, got 0"),
)


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with loaded(TRAIN) as module:
        yield module


class TestStyleGAN2Script(SlowScriptTester):
    """The loss is the discriminator's; the fixture is slow, options and help are not."""

    slug = "householder"
    script = "train_stylegan2.py"
    # A generator that hardly moves: the discriminator then learns to tell it, which is the loss that falls.
    arguments = (
        *SIZES,
        *("--per_device_batch_size", "16", "--ada", "--ada_p", "0.1", "--r1_every", "4", "--r1_gamma", "0.5"),
        *("--lr", "0.0005", "--discriminator_lr", "0.01", "--grid", "2"),
    )
    max_steps = 28
    bad_flags = ((("--image_size", "24"), "--image_size must be a power of two, at least 8, got 24"),)
    load_code = LOAD

    def test_metrics_and_summary(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert (summary["num_processes"], summary["steps"]) == (straight.nproc, self.max_steps)
        assert summary["kimg"] == pytest.approx(straight.nproc * 16 * self.max_steps / 1000)
        rows = straight.metrics
        assert [row["step"] for row in rows if "r1" in row] == list(range(1, self.max_steps + 1, 4))
        assert [row["step"] for row in rows if "real_sign" in row] == list(range(4, self.max_steps + 1, 4))
        assert len({row["ada_p"] for row in rows}) > 1
        assert Image.open(straight.folder / "samples" / f"step_{self.max_steps:06d}.png").size == (32, 32)

    def test_resumed_files_are_whole(self, straight: Run) -> None:
        found = StyleGAN2Networks.from_pretrained(straight.folder)
        assert found.generator is not None and found.discriminator is not None
        newest = straight.folder / "checkpoints" / checkpoint_name(self.max_steps // 6 * 6)
        assert newest.is_dir() and not list(newest.parent.glob("*.tmp"))


@pytest.mark.parametrize(
    ("flags", "said"), BAD_FLAGS, ids=lambda value: "=".join(value) if type(value) is tuple else ""
)
def test_bad_options(script: Any, capsys: Any, flags: tuple[str, ...], said: str) -> None:
    assert re.search(said, refused(script, capsys, *flags))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ACCELERATE_USE_FSDP", "true", "FSDP shards one network"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DEEPSPEED shards one network"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "--mixed_precision must be no or bf16, got fp16"),
    ],
)
def test_engines_that_do_not_fit(
    script: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    assert said in refused(script, capsys)


def test_a_run_can_be_loaded_again(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks, figures and card of a run, and a lazy term in a row that is written after it was due."""
    import gan_features

    monkeypatch.setattr(gan_features, "STEPS", 20)
    flags = ["--eval_features", "embedded", "--eval_samples", "8", "--license", "cc0-1.0", "--logging_steps", "2"]
    run, summary = new_pair(script, tmp_path, *flags, "--max_steps", "2")
    saved = StyleGAN2Networks.from_pretrained(tmp_path)
    for one, other in ((saved.generator_ema, run.average), (saved.generator, run.generator)):
        assert torch.equal(one.sample(2), other.sample(2))
    images = run.rows.images[:4]
    assert torch.equal(saved.discriminator(images).logits, run.discriminator(images).logits)
    (row,) = Run(tmp_path, 1).metrics
    assert row["step"] == 2 and {"loss", "r1", "path_penalty", "generator_loss"} <= row.keys()
    assert row["frechet_distance"] == summary["frechet_distance"] > 0
    (figure,) = yaml.safe_load((tmp_path / "results.yaml").read_text())["measured"]
    assert figure["value"] == round(summary["frechet_distance"], 4) and "--eval_features=embedded" in figure["command"]
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc0-1.0" and figure["command"] in card.content


@pytest.mark.slow
def test_a_run_without_figures_has_a_card(script: Any, tmp_path: Path) -> None:
    new_pair(script, tmp_path, "--max_steps", "1")
    card = (tmp_path / "README.md").read_text()
    assert "No figures were recorded" in card and "--image_size=16" in card
    assert not (tmp_path / "results.yaml").exists()


@pytest.mark.slow
def test_a_resumed_run_repeats_the_straight_one_to_the_bit(script: Any, tmp_path: Path, capsys: Any) -> None:
    """Conditional, augmented and accumulated; the straight run leaves the checkpoint that the other continues."""
    flags = ["--conditional", "--ada", "--ada_p", "0.4", "--ada_every", "2", "--gradient_accumulation_steps", "2"]
    flags += ["--max_steps", "4", "--checkpoint_every", "3", "--flip", "--eval_every", "2"]
    run, summary = new_pair(script, tmp_path / "straight", *flags)
    folder = tmp_path / "resumed" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "straight" / "checkpoints" / "step_000003").rename(folder / "step_000003")
    free = ["--workers", "1", "--grid", "3", "--license", "other", "--eval_every", "4"]  # not what is trained
    other, again = new_pair(script, tmp_path / "resumed", *flags, *free, "--resume", "auto")
    assert differing(weights(tmp_path / "straight"), weights(tmp_path / "resumed")) == []
    (last,) = Run(tmp_path / "resumed", 1).metrics
    expected = Run(tmp_path / "straight", 1).metrics[-1]
    assert last | {"seconds": 0} == expected | {"seconds": 0}
    for name in ("path_length", "augment"):
        one, two = getattr(run, name).state_dict(), getattr(other, name).state_dict()
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert run.generator.config.c_dim == 10 and summary["final_loss"] == again["final_loss"]
    with pytest.raises(SystemExit):
        new_pair(script, tmp_path / "resumed", *flags, "--resume", "auto", "--r1_gamma", "3")
    assert "was written by another run (r1_gamma: 10.0 there, 3.0 here)" in capsys.readouterr().err


def test_every_phase_moves_its_own_network_alone(script: Any, tmp_path: Path) -> None:
    import gan_steps

    run = unstarted(script, tmp_path, *SIZES)
    part = {"image": run.rows.images[:4], "label": torch.zeros(4, dtype=torch.long)}
    d_parameters = list(run.discriminator.parameters())
    phases = {
        "discriminator": (run.d_optimizer, d_parameters, gan_steps.discriminator_terms),
        "r1": (run.d_optimizer, d_parameters, gan_steps.r1_terms),
        "generator": (run.g_optimizer, run.trained, gan_steps.generator_terms),
        "path length": (run.g_optimizer, run.trained, gan_steps.path_length_terms),
    }
    for name, (optimizer, parameters, compute) in phases.items():
        before = [[p.clone() for p in model.parameters()] for model in (run.generator, run.discriminator)]
        seen: list[bool] = []
        hook = optimizer.optimizer.register_step_pre_hook(
            lambda *_, p=parameters, seen=seen: seen.append(all(each.grad is not None for each in p))
        )
        gan_steps.descend(run, optimizer, parameters, [part], compute)
        hook.remove()
        assert seen == [True], f"{name}: parameters without a gradient"
        moved = [
            any(not torch.equal(p, old) for p, old in zip(model.parameters(), kept, strict=True))
            for model, kept in zip((run.generator, run.discriminator), before, strict=True)
        ]
        assert moved == [name in ("generator", "path length"), name in ("discriminator", "r1")], name


def test_accumulated_parts_are_one_batch(script: Any, tmp_path: Path) -> None:
    import gan_steps

    moved = []
    for parts in (1, 2):
        run = unstarted(script, tmp_path / str(parts), *SIZES, "--mbstd_channels", "0")
        images = run.rows.images[:8]
        given = [{"image": part} for part in images.chunk(parts)]
        gan_steps.descend(
            run,
            run.d_optimizer,
            list(run.discriminator.parameters()),
            given,
            lambda run, part: {"loss": run.discriminator(part["image"]).logits.square().mean()},
            factor=3,
        )
        moved.append([parameter.detach() for parameter in run.discriminator.parameters()])
    assert_close(moved[0], moved[1], rtol=0, atol=2e-5)


def test_adam_is_corrected_for_lazy_terms(script: Any, tmp_path: Path) -> None:
    run = unstarted(script, tmp_path, *SIZES, "--r1_every", "16", "--pl_every", "4", "--beta1", "0.5")
    g, d = run.g_optimizer.param_groups[0], run.d_optimizer.param_groups[0]
    assert g["lr"] == pytest.approx(0.002 * 4 / 5) and d["lr"] == pytest.approx(0.002 * 16 / 17)
    assert g["betas"] == pytest.approx((0.5**0.8, 0.99**0.8)) and d["betas"][1] == pytest.approx(0.99 ** (16 / 17))
    run = unstarted(script, tmp_path, *SIZES, "--r1_gamma", "0", "--pl_weight", "0")
    assert run.g_optimizer.param_groups[0]["lr"] == run.d_optimizer.param_groups[0]["lr"] == 0.002
    take_steps(run)
    assert run.path_length.mean == 0 and run.generator.mapping.w_avg.abs().max() > 0


@pytest.mark.slow
def test_bfloat16_where_it_does_no_harm(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run, summary = new_pair(script, tmp_path)
    assert run.accelerator.mixed_precision == "bf16" and np.isfinite(summary["final_loss"])
    AcceleratorState._reset_state(reset_partial_state=True)
    models = (run.generator, run.discriminator, run.average)
    assert {p.dtype for model in models for p in model.parameters()} == {torch.float32}


def picture_folder(folder: Path) -> Path:
    """Grey and coloured pictures of unequal sizes, in two classes."""
    random = np.random.default_rng(0)
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for item in range(6):
            shape = (10 + item, 20 - item) if item % 2 else (12, 12 + item, 3)
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{item}.png")
    return folder


def test_pictures_from_disk(script: Any, tmp_path: Path) -> None:
    flags = [*SIZES, "--dataset", str(picture_folder(tmp_path / "pictures")), "--conditional", "--num_images", "12"]
    run = unstarted(script, tmp_path / "out", *flags, "--img_channels", "4")
    assert (run.generator.config.c_dim, run.generator.config.img_channels, len(run.rows)) == (2, 4, 12)
    image = run.rows[0]["image"]
    assert image.shape == (4, 16, 16) and image.min() >= -1 and torch.equal(image[3], torch.ones(16, 16))
    run.evaluation(run.average, 3)
    assert Image.open(tmp_path / "out" / "samples" / "step_000003.png").mode == "RGBA"
    with pytest.raises(ValueError, match="has no column 'picture'; its columns are image, label"):
        unstarted(script, tmp_path / "bad", *flags, "--image_column", "picture")
    with pytest.raises(ValueError, match="--image_column label must hold images, got ClassLabel"):
        unstarted(script, tmp_path / "bad", *flags, "--image_column", "label")
    with pytest.raises(ValueError, match="--label_column image must hold numbers of classes, got Image"):
        unstarted(script, tmp_path / "bad", *flags, "--label_column", "image")


def test_mirrored_images_repeat_by_seed_epoch_and_row(script: Any) -> None:
    from gan_data import ImageRows

    images = torch.arange(128.0).view(32, 1, 2, 2)
    rows = ImageRows(images, 2, 1, flip=True, seed=1)
    first = [bool(rows[i]["image"].equal(images[i])) for i in range(32)]
    assert 6 < sum(first) < 26 and first == [bool(rows[i]["image"].equal(images[i])) for i in range(32)]
    assert all(torch.equal(rows[i]["image"], images[i] if same else images[i].flip(2)) for i, same in enumerate(first))
    rows.epoch = 1
    assert first != [bool(rows[i]["image"].equal(images[i])) for i in range(32)]


def test_embedded_shapes(script: Any, tmp_path: Path) -> None:
    run = unstarted(script, tmp_path, *SIZES, "--dataset", "shapes")
    assert run.rows.images.shape == (64, 3, 16, 16) and run.rows.factors.shape[0] == 64


def test_distance_of_gaussians(script: Any) -> None:
    from gan_frechet import FeatureSums, frechet_distance
    from scipy.linalg import sqrtm

    random = np.random.default_rng(0)
    sets = [random.normal(size=(n, 5)) @ random.normal(size=(5, 5)) + random.normal(size=5) for n in (400, 300)]
    found = [FeatureSums(5), FeatureSums(5)]
    for sums, rows in zip(found, sets, strict=True):
        for part in np.array_split(rows, 7):
            sums.add(torch.from_numpy(part))
    (m1, c1), (m2, c2) = [(rows.mean(0), np.cov(rows.T)) for rows in sets]
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(*found) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(found[0], found[0]) == pytest.approx(0, abs=1e-8)
    with pytest.raises(ValueError, match="2 images or more, got 0"):
        FeatureSums(3).moments()


@pytest.mark.slow
def test_distance_tells_digits_from_noise(script: Any, tmp_path: Path) -> None:
    from gan_frechet import frechet_distance

    run = unstarted(script, tmp_path, *SIZES, "--eval_features", "embedded", "--num_images", "400")
    halves = [run.evaluation.sums_of([part]) for part in run.rows.images.chunk(2)]
    draws = torch.Generator().manual_seed(0)
    noise = run.evaluation.sums_of([torch.randn(run.rows.images.shape, generator=draws)])
    assert frechet_distance(*halves) < 0.2 * frechet_distance(run.evaluation.real, noise)


def test_evaluation_leaves_the_random_numbers_alone(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gan_features

    monkeypatch.setattr(gan_features, "STEPS", 20)
    run = unstarted(script, tmp_path, *SIZES, "--eval_samples", "8", "--eval_features", "embedded")
    state = torch.get_rng_state()
    first = run.evaluation(run.average, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert run.evaluation(run.average, 3) == first


def test_grid_is_in_reading_order(script: Any, tmp_path: Path) -> None:
    from gan_evaluation import write_grid

    images = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    write_grid(tmp_path / "grids" / "a.png", images, columns=3)
    pixels = np.array(Image.open(tmp_path / "grids" / "a.png"))
    assert pixels.shape == (4, 6, 3)
    assert pixels[::2, ::2, 0].tolist() == [[0, 64, 128], [191, 255, 255]]  # the last cell is empty


def test_inception_without_its_package_is_an_error(script: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import gan_checks

    monkeypatch.setattr(gan_checks, "find_spec", lambda name: None)
    said = refused(script, capsys, "--eval_features", "inception")
    assert "--eval_features inception needs torch-fidelity: pip install 'eigenhub[fid]'" in said


def test_inception_is_asked_in_its_own_form(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of three channels, the weights from the given file, and the Frechet distance under the name that it then has."""
    import gan_features

    asked: list[Any] = []

    class Extractor(torch.nn.Module):
        def __init__(self, name: str, features: list[str], path: str | None) -> None:
            super().__init__()
            asked.append((name, features, path))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            asked.append((images.dtype, tuple(images.shape), int(images.min()), int(images.max())))
            return (images.float().mean((2, 3)).repeat(1, 2) + torch.arange(6.0),)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(gan_features.InceptionFeatures, "width", 6)
    run = unstarted(script, tmp_path, *SIZES, "--eval_samples", "5")
    weights_file = tmp_path / "inception.pth"
    torch.save({}, weights_file)
    run.args.eval_features, run.args.inception_weights = "inception", weights_file
    assert run.evaluation(run.average, 1)["fid"] > 0
    assert asked[0] == ("inception-v3-compat", ["2048"], str(weights_file))
    assert asked[1][:3] == (torch.uint8, (32, 3, 16, 16), 0) and asked[1][3] == 255
    weights_file.write_text("no weights")
    with pytest.raises(ValueError, match="--eval_features inception: .*inception.pth: "):
        gan_features.InceptionFeatures(weights_file)


def weights_of_this_process(folder: str) -> list[str]:
    import hashlib

    from accelerate import Accelerator

    Accelerator.end_training = lambda self: None  # the worker still needs the process group
    with loaded(TRAIN) as module:
        run, _ = new_pair(module, Path(folder), "--ada", "--ada_p", "0.5", "--ada_every", "1", "--max_steps", "2")
    found = []
    for part in (run.generator, run.discriminator, run.average, run.augment, run.path_length):
        state = b"".join(tensor.cpu().numpy().tobytes() for tensor in part.state_dict().values())
        found.append(hashlib.sha256(state).hexdigest())
    return found


@pytest.mark.slow
def test_processes_hold_the_same_weights(tmp_path: Path) -> None:
    """Also what is no parameter: the mean of w, the mean path length, the strength of the augmentation."""
    one, other = run_function(weights_of_this_process, nproc=2, folder=str(tmp_path))
    assert one == other


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid(script: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_configuration(script, path, monkeypatch)


def test_header_names_the_dependencies() -> None:
    check_header(TRAIN)
