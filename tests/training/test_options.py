# SPDX-License-Identifier: Apache-2.0
"""The shared options: sound defaults, and errors before anything is loaded."""

import argparse
from pathlib import Path

import pytest

from eigenhub.training import options
from eigenhub.training.arguments import parse_with_config
from eigenhub.training.checkpoint_files import checkpoint_name, write_manifest


def parse(*flags: str) -> argparse.Namespace:
    parser = options.make_parser("a script")
    options.add_text_options(parser)
    options.add_optimisation_options(parser)
    options.add_run_options(parser, "runs/test")
    options.add_gsm8k_options(parser)
    return parse_with_config(parser, list(flags))


def write_checkpoint(args: argparse.Namespace, step: int) -> Path:
    folder = args.output_dir / "checkpoints" / checkpoint_name(step)
    folder.mkdir(parents=True)
    write_manifest(folder, step, options.fixed_settings(args))
    return folder


def test_defaults_pass() -> None:
    args = parse()
    options.check_options(args)
    assert (args.dataset, args.output_dir, args.lr_scheduler) == (options.EMBEDDED, Path("runs/test"), "cosine")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr", "0"], "--lr must be positive, got 0.0"),
        (["--lr", "nan"], "--lr must be positive"),
        (["--epochs", "-1"], "--epochs must be positive"),
        (["--warmup", "-0.1"], "--warmup must be at least 0"),
        (["--weight_decay", "-1"], "--weight_decay must be at least 0"),
        (["--prompt_template", "no place"], "must contain {prompt}, got 'no place'"),
        (["--report_to", "no_such"], "--report_to must be one of none, all, aim, .*, got 'no_such'"),
        (["--push_to_hub"], "--push_to_hub needs --hub_model_id"),
        (["--dataset", "./no/such.jsonl"], "no such data file or folder: ./no/such.jsonl"),
        (["--eval_dataset", "./no/such.jsonl"], "no such data file or folder"),
        (["--resume", "/no/checkpoint"], "/no/checkpoint is not a complete checkpoint"),
    ],
)
def test_errors_name_the_option(flags: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("{", r"\{")):
        options.check_options(parse(*flags))


def test_a_tracker_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["tensorboard"])
    options.check_options(parse("--report_to", "tensorboard"))
    with pytest.raises(ValueError, match="--report_to wandb: it is not installed; .* tensorboard"):
        options.check_options(parse("--report_to", "wandb"))


def test_counts_must_be_positive(capsys: pytest.CaptureFixture) -> None:
    for flag in ("--max_steps", "--per_device_batch_size", "--checkpoint_every", "--max_length"):
        with pytest.raises(SystemExit):
            parse(flag, "0")
        assert f"{flag}: must be at least 1, got 0" in capsys.readouterr().err


def test_checkpoints_are_not_overwritten_by_accident(tmp_path: Path) -> None:
    where = ["--output_dir", str(tmp_path)]
    write_checkpoint(parse(*where), 5)
    with pytest.raises(ValueError, match="holds checkpoints: pass --resume auto"):
        options.check_options(parse(*where))
    options.check_options(parse(*where, "--resume", "auto", "--max_steps", "9"))


def test_resume_auto_without_checkpoints_starts(tmp_path: Path) -> None:
    options.check_options(parse("--output_dir", str(tmp_path), "--resume", "auto"))


def test_resume_of_another_run_is_refused(tmp_path: Path) -> None:
    where = ["--output_dir", str(tmp_path)]
    folder = write_checkpoint(parse(*where), 5)
    for source in ("auto", str(folder)):
        with pytest.raises(ValueError, match=r"written by another run \(lr: 0.0001 there, 0.5 here\)"):
            options.check_options(parse(*where, "--resume", source, "--lr", "0.5"))
