# SPDX-License-Identifier: Apache-2.0
"""Flags over file over defaults; mistakes in the file are named."""

import argparse
import re
from pathlib import Path

import pytest

from eigenhub.training.arguments import parse_with_config


def make_parser(**options: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(**({"allow_abbrev": False} | options))
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--names", nargs="+")
    parser.add_argument("--fast", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--text", default="")
    parser.add_argument("--kind", choices=("a", "b"), default="a")
    return parser


@pytest.fixture
def parse(tmp_path: Path):
    """Parses flags with a configuration file of the given text."""

    def call(text: str, *flags: str, **options: object) -> argparse.Namespace:
        (tmp_path / "config.yaml").write_text(text)
        return parse_with_config(make_parser(), ["--config", str(tmp_path / "config.yaml"), *flags], **options)

    return call


def test_without_a_file() -> None:
    args = parse_with_config(make_parser(), ["--steps", "3"])
    assert (args.steps, args.lr, args.config) == (3, 1.0, None)


def test_file_over_defaults_and_flags_over_file(parse) -> None:
    args = parse('lr: 3e-5\nsteps: 7\nnames: [x, y]\nfast: true\ntext: "--odd\\n{prompt}"\nkind: null\n')
    assert (args.lr, args.steps, args.names, args.fast) == (3e-5, 7, ["x", "y"], True)
    assert args.text == "--odd\n{prompt}" and args.kind == "a"
    args = parse("lr: 3e-5\nnames: [x, y]\nfast: true\n", "--lr=2", "--names", "z", "--no-fast")
    assert (args.lr, args.names, args.fast) == (2.0, ["z"], False)


def test_superseded_entries_are_dropped_only_by_flags(parse) -> None:
    rules = {"lr": ("steps",)}
    assert parse("steps: 7", "--lr", "2", supersedes=rules).steps == 10
    assert parse("steps: 7", "--lr=2", supersedes=rules).steps == 10
    assert parse("steps: 7\nlr: 2", supersedes=rules).steps == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 1", r"unknown keys \['learning_rate'\]; allowed are fast, kind, lr, names, steps, text"),
        ("steps: many", "argument --steps: invalid int value: 'many'"),
        ("kind: c", "argument --kind: invalid choice: 'c'"),
        ("fast: 3", "fast must be true or false, got 3"),
        ("- a\n- b", "must hold `name: value` lines, not a list"),
        ("a: [1", "is not YAML"),
    ],
)
def test_mistakes_in_the_file(parse, capsys: pytest.CaptureFixture, text: str, message: str) -> None:
    with pytest.raises(SystemExit):
        parse(text)
    assert re.search(message, capsys.readouterr().err)


def test_missing_file(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse_with_config(make_parser(), ["--config", "no.yaml"])
    assert "no such file: no.yaml" in capsys.readouterr().err


def test_abbreviations_are_refused() -> None:
    with pytest.raises(ValueError, match="allow_abbrev=False"):
        parse_with_config(make_parser(allow_abbrev=True), [])
