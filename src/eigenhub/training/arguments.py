# SPDX-License-Identifier: Apache-2.0
"""Command-line arguments with an optional YAML file behind them: flags win over the file, the file over the defaults."""

import argparse
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from eigenhub.files import read_yaml


def parse_with_config(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
    supersedes: Mapping[str, Sequence[str]] | None = None,
) -> argparse.Namespace:
    """
    Parses flags together with the YAML file that `--config` names.

    The file's entries are turned into flags in front of the given ones, so argparse converts and checks both alike
    (YAML itself reads `3e-5` as a string). `null` leaves the default. An unknown key is an error that names the key
    and the allowed ones.

    Args:
        parser (`argparse.ArgumentParser`): made with `allow_abbrev=False`; `--config` is added here.
        argv (`Sequence[str]`, *optional*): flags; defaults to those of the process.
        supersedes (`Mapping[str, Sequence[str]]`, *optional*):
            For arguments that exclude others: a flag of the left name drops the file's values of the right names.
    """
    if parser.allow_abbrev:
        raise ValueError(
            "the parser must be made with allow_abbrev=False: an abbreviated flag would not win over the file"
        )
    parser.add_argument("--config", type=Path, help="YAML file with any of these arguments; flags win over it")
    argv = list(sys.argv[1:] if argv is None else argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    config = finder.parse_known_args(argv)[0].config
    if config is None:
        return parser.parse_args(argv)
    settings = read_settings(parser, config)
    for flag in (token.split("=")[0].removeprefix("--") for token in argv if token.startswith("--")):
        for name in (supersedes or {}).get(flag, ()):
            settings.pop(name, None)
    return parser.parse_args([*_as_flags(parser, settings), *argv])


def read_settings(parser: argparse.ArgumentParser, path: Path) -> dict[str, object]:
    """The YAML file's entries; errors go through `parser.error`."""
    if not path.is_file():
        parser.error(f"--config: no such file: {path}")
    try:
        settings = read_yaml(path)
    except ValueError as error:
        parser.error(f"--config: {error}")
    if settings is None:  # an empty file
        settings = {}
    if not isinstance(settings, dict):
        parser.error(f"--config: {path} must hold `name: value` lines, not a {type(settings).__name__}")
    allowed = sorted(set(_actions(parser)) - {"config"})
    if unknown := sorted(set(settings) - set(allowed), key=str):
        parser.error(f"--config: {path} has unknown keys {unknown}; allowed are {', '.join(allowed)}")
    return settings


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {action.dest: action for action in parser._actions if action.option_strings and action.dest != "help"}


def _as_flags(parser: argparse.ArgumentParser, settings: Mapping[str, object]) -> list[str]:
    actions = _actions(parser)
    flags: list[str] = []
    for name, value in settings.items():
        flag = f"--{name}"
        if value is None:
            continue
        if isinstance(actions[name], argparse.BooleanOptionalAction):
            if not isinstance(value, bool):
                parser.error(f"--config: {name} must be true or false, got {value!r}")
            flags.append(flag if value else f"--no-{name}")
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        else:
            flags.append(f"{flag}={value}")
    return flags


def as_command(
    program: str, parser: argparse.ArgumentParser, args: argparse.Namespace, left_out: Collection[str]
) -> str:
    """
    The shell command that repeats a run: the arguments that differ from their defaults, wherever they came from.

    Args:
        program (`str`): beginning of the command.
        parser (`argparse.ArgumentParser`): parser of the arguments.
        args (`argparse.Namespace`): their values.
        left_out (`Collection[str]`): arguments that say nothing about the result, such as where it went.
    """
    changed = {
        name: str(value) if isinstance(value, Path) else value
        for name, action in _actions(parser).items()
        if name not in left_out and (value := getattr(args, name)) != action.default
    }
    return f"{program} {shlex.join(_as_flags(parser, changed))}".rstrip()
