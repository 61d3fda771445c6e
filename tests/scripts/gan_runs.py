# SPDX-License-Identifier: Apache-2.0
"""Tiny runs of the StyleGAN2 scripts, in this process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from torch import Tensor

from tests.scripts.loading import load_script
from tests.support.processes import ROOT


FOLDER = ROOT / "scripts" / "householder"
TRAIN, FINETUNE = FOLDER / "train_stylegan2.py", FOLDER / "finetune_projector.py"
SIZES = (
    *("--image_size", "16", "--z_dim", "8", "--w_dim", "8", "--channel_base", "64", "--channel_max", "8"),
    *("--mapping_layers", "2"),
)
SHORT = (
    *("--num_images", "64", "--per_device_batch_size", "4", "--max_steps", "3", "--seed", "0", "--grid", "2"),
    *("--r1_every", "2", "--pl_every", "2"),
)
WEIGHTS = ("model.safetensors", "generator_raw/model.safetensors", "discriminator/model.safetensors")


@contextmanager
def loaded(path: Path) -> Iterator[ModuleType]:
    """A script with its siblings, as when it is run."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield load_script(path)
    finally:
        sys.path.remove(str(FOLDER))


def new_pair(script: ModuleType, folder: Path, *flags: str) -> tuple[Any, dict[str, Any]]:
    """A run from scratch on digits."""
    return script.main([*SIZES, *SHORT, "--output_dir", str(folder), *flags])


def unstarted(script: ModuleType, folder: Path, *flags: str) -> Any:
    """What `prepare` of a script gives before the first step, with short settings."""
    from gan_run import start

    args = script.parse_args([*SHORT, "--output_dir", str(folder), *flags])
    return script.prepare(args, start(args, "test"))


def take_steps(run: Any, count: int = 1) -> None:
    """The first steps of a run."""
    from gan_data import endless_batches
    from gan_steps import training_step

    batches = endless_batches(run.loader, run.rows, 0)
    for step in range(1, count + 1):
        training_step(run, batches, step)


def refused(script: ModuleType, capsys: pytest.CaptureFixture, *flags: str) -> str:
    """What a script says to options that cannot be."""
    with pytest.raises(SystemExit):
        script.parse_args([*flags])
    return capsys.readouterr().err


def check_configuration(script: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> Any:
    """The options of a configuration file, none of which got lost; its data and packages need not be here."""
    import gan_checks

    monkeypatch.setattr(gan_checks, "find_spec", lambda name: True)
    monkeypatch.setattr(gan_checks, "check_source", lambda source: None)
    args = script.parse_args(["--config", str(path), *flags])
    assert args.output_dir.parts[0] == "runs"
    given = {flag.removeprefix("--") for flag in flags}
    for name, value in yaml.safe_load(path.read_text()).items():
        parsed = getattr(args, name)
        if name not in given:
            assert parsed == (type(parsed)(value) if isinstance(parsed, float | Path) else value), name
    return args


def check_header(path: Path) -> None:
    """The script says what it needs to run by itself."""
    lines = path.read_text().splitlines()
    block = lines[lines.index("# /// script") + 1 : lines.index("# ///")]
    assert any(line.startswith('# dependencies = ["eigenhub[') for line in block)


def weights(folder: Path) -> dict[str, Tensor]:
    """All tensors that a run has saved, by file and name."""
    return {f"{name}:{key}": tensor for name in WEIGHTS for key, tensor in load_file(folder / name).items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not equal to the bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not one[name].equal(other[name])]
