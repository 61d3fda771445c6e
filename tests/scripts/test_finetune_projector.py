# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning with Householder projectors and its controls: what trains, what stays, what is saved."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from eigenhub.models.stylegan2 import (
    StyleGAN2Generator,
    StyleGAN2Networks,
    load_directions,
    save_rosinality,
)
from eigenhub.models.stylegan2.projectors import affine_of, projector_at
from tests.common.script_tester import Run, SlowScriptTester
from tests.models.stylegan2.tiny import discriminator, generator
from tests.scripts.gan_runs import (
    FINETUNE,
    FOLDER,
    SHORT,
    check_configuration,
    check_header,
    differing,
    loaded,
    refused,
    take_steps,
    unstarted,
    weights,
)


CONFIGS = sorted((FOLDER / "configs").glob("*_projector.yaml"))
LAYERS = ["b8.conv0", "b16.conv0"]
#: A pair of 16 px that has learned nothing; every number in it matters.
SHAPE: dict[str, Any] = {"img_channels": 1, "z_dim": 8, "w_dim": 8, "channel_base": 64, "channel_max": 8}
LOAD = """
import sys
import torch
import eigenhub.auto
from eigenhub.models.stylegan2 import load_directions
from transformers import AutoModel

model = AutoModel.from_pretrained(sys.argv[1])
assert model.config.projected_names == ["b8.conv0", "b16.conv0"] and model.config.projector_rank == 3, model.config
images = model.sample(2)
found = load_directions(sys.argv[1] + "/directions")
assert {name: entry.directions.vectors.shape for name, entry in found.items()} == {
    "b8.conv0": (8, 3),
    "b16.conv0": (8, 3),
}
weight = model.synthesis.b8.conv0.affine.effective_weight()
assert torch.linalg.matrix_rank(weight).item() == 3
model.fold_projectors().save_pretrained("folded")
assert torch.allclose(AutoModel.from_pretrained("folded").sample(2), images, atol=1e-4)
"""
#: Options that cannot be, and what is said to them.
BAD_FLAGS = (
    (("--arm", "magic"), "invalid choice: 'magic'"),
    (("--rank", "0"), "--rank: must be at least 1, got 0"),
    (("--gain", "loud"), "--gain must be mean, unit, equalized or a number, got 'loud'"),
    (("--lr_ortho", "0"), "--lr_ortho must be positive, got 0"),
    (("--penalty_weight", "-1"), "--penalty_weight must be at least 0, got -1"),
    (("--train", "projector", "--arm", "plain"), "--train projector is for --arm projector, random_init, lowrank"),
    (("--directions", "parameter", "--arm", "lowrank"), "--directions parameter needs projectors"),
    (("--model", "./nothing"), "--model: no such file or folder: ./nothing"),
    (("--model", "no.pkl"), "--model: no such file or folder: no.pkl"),
    (("--model", "{empty}"), "empty holds no config.json of a StyleGAN2"),
    (("--ema_kimg", "-1"), "--ema_kimg must be at least 0, got -1"),
)


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with loaded(FINETUNE) as module:
        yield module


def save_inputs(folder: Path) -> tuple[str, ...]:
    """A pair that has learned nothing, and the arguments that name it."""
    StyleGAN2Networks(generator(0, **SHAPE), generator(1, **SHAPE), discriminator(2, **SHAPE)).save_pretrained(folder)
    return ("--model", str(folder))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_inputs(tmp_path_factory.mktemp("pair"))[-1]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders that lack something, or hold something else."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "empty").mkdir()
    StyleGAN2Networks(generator(0, **SHAPE)).save_pretrained(folder / "alone")
    two = SHAPE | {"c_dim": 2}
    StyleGAN2Networks(generator(0, **two), None, discriminator(0, **two)).save_pretrained(folder / "conditional")
    return {path.name: str(path) for path in folder.iterdir()}


class TestProjectorScript(SlowScriptTester):
    """The loss is the discriminator's; the fixture is slow, options and help are not."""

    slug = "householder"
    script = "finetune_projector.py"
    # A generator that hardly moves: the discriminator then learns to tell it, which is the loss that falls.
    arguments = (
        *("--per_device_batch_size", "16", "--r1_every", "4", "--r1_gamma", "0.5", "--lr", "0.0005", "--grid", "2"),
        *("--discriminator_lr", "0.01", "--rank", "3", "--directions", "jacobian"),
    )
    max_steps = 28
    bad_flags = ((("--arm", "magic"), "invalid choice: 'magic'"),)
    load_code = LOAD

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def with_model(cls, pair: str) -> None:
        cls.arguments = (*TestProjectorScript.arguments, "--model", pair)

    def test_summary(self, straight: Run) -> None:
        summary = json.loads((straight.folder / "summary.json").read_text())
        assert (summary["arm"], summary["layers"], summary["num_processes"]) == ("projector", LAYERS, straight.nproc)


def tiny_run(script: ModuleType, model: str, folder: Path, *flags: str) -> tuple[Any, dict[str, Any]]:
    return script.main([*SHORT, "--model", model, "--rank", "3", "--output_dir", str(folder), *flags])


@pytest.mark.parametrize(
    ("flags", "said"), BAD_FLAGS, ids=lambda value: "=".join(value) if type(value) is tuple else ""
)
def test_bad_options(script: Any, models: dict[str, str], capsys: Any, flags: tuple[str, ...], said: str) -> None:
    given = [flag.format(**models) for flag in flags]
    assert said in refused(script, capsys, "--model", models["alone"], *given)


def unstarted_arm(script: ModuleType, model: str, folder: Path, *flags: str) -> Any:
    run, _ = unstarted(script, folder, "--model", model, "--rank", "3", *flags)
    return run


def defect(matrix: torch.Tensor) -> float:
    return (matrix.mT @ matrix - torch.eye(matrix.shape[1])).abs().max().item()


def frames(model: Any) -> list[torch.Tensor]:
    found = [projector_at(model, name) for name in LAYERS]
    return [frame.detach() for projector in found for frame in (projector.factors().left, projector.factors().right)]


@pytest.mark.parametrize("parameterization", ["thin", pytest.param("dense", marks=pytest.mark.slow)])
def test_every_step_leaves_frames_orthonormal(script: Any, pair: str, tmp_path: Path, parameterization: str) -> None:
    """One step each of the discriminator, R1, the generator and the path length, with a large rate, and the average."""
    import gan_steps

    run = unstarted_arm(script, pair, tmp_path, "--lr_ortho", "0.3", "--parameterization", parameterization)
    part = {"image": run.rows.images[:4], "label": torch.zeros(4, dtype=torch.long)}
    d_parameters = list(run.discriminator.parameters())
    for optimizer, parameters, compute, moves in (
        (run.d_optimizer, d_parameters, gan_steps.discriminator_terms, False),
        (run.d_optimizer, d_parameters, gan_steps.r1_terms, False),
        (run.g_optimizer, run.trained, gan_steps.generator_terms, True),
        (run.g_optimizer, run.trained, gan_steps.path_length_terms, True),
    ):
        before = frames(run.generator)
        gan_steps.descend(run, optimizer, parameters, [part], compute)
        after = frames(run.generator)
        assert max(defect(frame) for frame in after) < 1e-5
        change = max((one - other).abs().max().item() for one, other in zip(before, after, strict=True))
        assert (change > 0.01) == moves, f"{compute.__name__}: {change}"
    gan_steps.update_average(run.average, run.generator, 0.5)
    assert max(defect(frame) for frame in frames(run.average)) < 1e-5
    assert not torch.equal(frames(run.average)[0], frames(run.generator)[0])


def test_projectors_alone_change_nothing_else(script: Any, pair: str, tmp_path: Path) -> None:
    run, summary = tiny_run(script, pair, tmp_path, "--train", "projector")
    start = StyleGAN2Generator.from_pretrained(pair).add_projectors(rank=3)
    for saved in (run.generator, run.average, StyleGAN2Generator.from_pretrained(tmp_path)):
        one, other = start.state_dict(), saved.state_dict()
        changed = {name.rpartition(".")[0] for name in differing(one, other)}
        assert changed == {f"synthesis.{name}.affine.projector" for name in LAYERS}
    assert summary["trained_parameters"] == sum(p.numel() for p in start.projector_parameters())
    before = StyleGAN2Networks.from_pretrained(pair).discriminator
    assert before is not None and len(differing(before.state_dict(), run.discriminator.state_dict())) > 10


def test_everything_trains_with_a_rate_of_its_own_for_projectors(script: Any, pair: str, tmp_path: Path) -> None:
    flags = ["--lr_ortho", "0.01", "--singular_values", "learned", "--gain", "2.5", "--layers", "b16.conv0"]
    run = unstarted_arm(script, pair, tmp_path, *flags)
    others, factors = run.g_optimizer.param_groups
    ratio = 2 / 3  # a path length is due every other step
    assert (others["lr"], factors["lr"]) == pytest.approx((0.002 * ratio, 0.01 * ratio))
    assert [p.shape for p in factors["params"]] == [(8, 3), (8, 3), (3,)]
    assert others["weight_decay"] == factors["weight_decay"] == 0
    assert {id(p) for p in run.trained} == {id(p) for p in run.generator.parameters()}
    config = run.average.config
    assert (config.projector_layers, config.projector_gain) == (["b16.conv0"], 2.5)
    before = [parameter.clone() for parameter in factors["params"]]
    take_steps(run)
    assert not any(torch.equal(one, other) for one, other in zip(before, factors["params"], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["plain", "lowrank", "random_init", "hessian_penalty", "orojar"])
def test_controls_are_one_switch_away(script: Any, pair: str, tmp_path: Path, arm: str) -> None:
    flags = ["--arm", arm, "--directions", "svd", "--singular_values", "learned"]
    run, summary = tiny_run(script, pair, tmp_path, *flags)
    saved = StyleGAN2Generator.from_pretrained(tmp_path)
    assert summary["arm"] == arm and bool(saved.config.projected_names) == (arm == "random_init")
    ranks = [int(torch.linalg.matrix_rank(affine_of(saved, name).effective_weight())) for name in LAYERS]
    assert ranks == ([3, 3] if arm in ("lowrank", "random_init") else [8, 8])
    z = saved.latents(2)
    torch.testing.assert_close(saved(z=z).images, run.average(z=z).images, rtol=0, atol=1e-5)
    found = load_directions(tmp_path / "directions")
    assert list(found) == LAYERS and found["b8.conv0"].directions.vectors.shape == (8, 3)
    assert ("penalty" in Run(tmp_path, 1).metrics[0]) == (arm in ("hessian_penalty", "orojar"))


def test_low_rank_factors_start_from_the_nearest_and_are_free(script: Any, pair: str, tmp_path: Path) -> None:
    from gan_arms import LowRankAffine

    affine = affine_of(StyleGAN2Generator.from_pretrained(pair), "b16.conv0")
    made = LowRankAffine(affine, 3)
    u, s, vh = torch.linalg.svd(affine.effective_weight())
    torch.testing.assert_close(made.effective_weight(), (u[:, :3] * s[:3]) @ vh[:3], rtol=0, atol=1e-5)
    w = torch.randn(4, 8)
    torch.testing.assert_close(made(w), made.folded()(w), rtol=0, atol=1e-5)
    run = unstarted_arm(script, pair, tmp_path, "--arm", "lowrank", "--train", "projector", "--lr_ortho", "0.3")
    take_steps(run)
    left = affine_of(run.generator, "b16.conv0").left.detach()
    normal = torch.nn.functional.normalize(left, dim=0)
    assert defect(normal) > 1e-3 and run.generator.projector_parameters() == []


@pytest.mark.parametrize("arm", [pytest.param("hessian_penalty", marks=pytest.mark.slow), "orojar"])
def test_penalties_reach_the_generator(script: Any, pair: str, tmp_path: Path, arm: str) -> None:
    """The first step of the discriminator is that of plain fine-tuning, that of the generator is not."""
    flags = ["--pl_weight", "0", "--r1_gamma", "0", "--directions", "sefa", "--penalty_weight", "10"]
    runs = []
    for name in ("plain", arm):
        runs.append(unstarted_arm(script, pair, tmp_path, *flags, "--arm", name))
        torch.manual_seed(0)
        take_steps(runs[-1])
    plain, other = runs
    assert differing(plain.discriminator.state_dict(), other.discriminator.state_dict()) == []
    changed = differing(plain.generator.state_dict(), other.generator.state_dict())
    assert "synthesis.b16.conv0.weight" in changed and "mapping.fc0.weight" in changed


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["projector", "lowrank"])
def test_a_resumed_run_repeats_the_straight_one_to_the_bit(script: Any, pair: str, tmp_path: Path, arm: str) -> None:
    flags = ["--arm", arm, "--max_steps", "3", "--checkpoint_every", "2"]
    tiny_run(script, pair, tmp_path / "straight", *flags)
    folder = tmp_path / "resumed" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "straight" / "checkpoints" / "step_000002").rename(folder / "step_000002")
    tiny_run(script, pair, folder.parent, *flags, "--resume", "auto")
    assert differing(weights(tmp_path / "straight"), weights(folder.parent)) == []


@pytest.mark.slow
def test_starts(script: Any, pair: str, models: dict[str, str], tmp_path: Path) -> None:
    """Averaged or last weights, projectors that are there already, checkpoints of another code, no discriminator."""
    flags = ["--max_steps", "1", "--lr", "1e-9", "--lr_ortho", "1e-9", "--arm", "plain", "--discriminator_lr", "1e-9"]
    networks = StyleGAN2Networks.from_pretrained(pair)
    z = networks.best_generator.latents(2)
    for name, model in (("ema", networks.generator_ema), ("raw", networks.generator)):
        run, _ = tiny_run(script, pair, tmp_path / name, *flags, "--start_from", name)
        torch.testing.assert_close(run.average(z=z).images, model(z=z).images, rtol=0, atol=1e-5)

    tiny_run(script, pair, tmp_path / "first", "--max_steps", "1")
    again = str(tmp_path / "first")
    start = StyleGAN2Generator.from_pretrained(again)
    run, _ = tiny_run(script, again, tmp_path / "second", *flags, "--arm", "projector", "--rank", "2")
    torch.testing.assert_close(run.average(z=z).images, start(z=z).images, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="--arm plain: the model has projectors; fold them first"):
        tiny_run(script, again, tmp_path / "third", *flags)

    colour = SHAPE | {"img_channels": 3}
    foreign = StyleGAN2Networks(generator(3, **colour), None, discriminator(3, **colour))
    save_rosinality(foreign, tmp_path / "model.pt")
    run, _ = tiny_run(script, str(tmp_path / "model.pt"), tmp_path / "other", *flags)
    torch.testing.assert_close(run.average(z=z).images, foreign.best_generator(z=z).images, rtol=0, atol=1e-4)

    tiny_run(script, models["alone"], tmp_path / "fourth", *flags, "--new_discriminator")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--rank", "9"), "layer 'b8.conv0': `rank` must be between 1 and 8"),
        (("--rank", "9", "--arm", "lowrank"), "layer 'b8.conv0': `rank` must be between 1 and 8, got 9"),
        (("--layers", "b99.conv0"), "`projector_layers` must be 'upsample', 'all' or names among b4.conv1"),
        (("--per_device_batch_size", "6"), "--per_device_batch_size must be divisible by the 4 samples"),
        (("--start_from", "raw", "--model", "{alone}"), "--start_from raw: .*alone holds no generator_raw/"),
        (("--model", "{alone}"), "alone holds no discriminator/: pass --new_discriminator"),
        (("--model", "some/model"), "--model: some/model is no folder here, and could not be had from the Hub"),
        (("--model", "{conditional}"), "the model knows 2 classes, --dataset digits has 10"),
        (("--model", "{conditional}", "--dataset", "shapes"), "--dataset shapes has no labels"),
    ],
    ids=lambda value: "=".join(value) if type(value) is tuple else "",
)
def test_what_does_not_fit_is_named(
    script: Any, pair: str, tmp_path: Path, models: dict[str, str], flags: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        unstarted_arm(script, pair, tmp_path, *[flag.format(**models) for flag in flags])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_valid(script: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_configuration(script, path, monkeypatch, "--model", "some/model")


def test_the_published_run_has_the_published_settings(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDER / "configs" / "ffhq_256_projector.yaml"
    args = check_configuration(script, path, monkeypatch, "--model", "some/model")
    assert (args.per_device_batch_size, args.max_steps, args.rank, args.layers) == (8, 10_000, 10, ["upsample"])
    assert (args.r1_gamma, args.r1_every, args.pl_weight, args.pl_every, args.pl_batch_shrink) == (10, 16, 2, 4, 2)
    assert (args.mixing, args.lr, args.lr_ortho, args.beta1, args.beta2) == (0.9, 0.002, 0.002, 0.0, 0.99)
    assert (args.arm, args.train, args.flip, args.license) == ("projector", "full", True, "other")


def test_header_names_the_dependencies() -> None:
    check_header(FINETUNE)
