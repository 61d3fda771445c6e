# SPDX-License-Identifier: Apache-2.0
"""Checkpoints over accelerate: everything comes back, a failed write changes nothing, frozen weights stay out."""

from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from torch import nn

from eigenhub.training.checkpoint import Checkpoints
from eigenhub.training.checkpoint_files import MANIFEST, latest_checkpoint, list_checkpoints, write_manifest
from tests.reliability.corruptions import Payload


class Setup:
    """A frozen and a trained layer with dropout between them, AdamW, a schedule."""

    def __init__(self, folder: Path, seed: int = 0, keep: int = 2, settings: dict | None = None) -> None:
        torch.manual_seed(seed)
        self.accelerator = Accelerator(cpu=True)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        model[0].requires_grad_(False)
        optimizer = torch.optim.AdamW(model[2].parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.accelerator.register_for_checkpointing(self.scheduler)
        left_out = {"0.weight", "0.bias"}
        self.checkpoints = Checkpoints(self.accelerator, folder, settings or {"lr": 0.1}, keep, left_out)

    def step(self) -> float:
        loss = self.model(torch.ones(2, 4)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return loss.item()


def test_restored_run_continues_to_the_bit(tmp_path: Path) -> None:
    straight = Setup(tmp_path)
    first = [straight.step() for _ in range(3)]
    path = straight.checkpoints.save(3)
    rest = [straight.step() for _ in range(3)]
    resumed = Setup(tmp_path)
    assert [resumed.step() for _ in range(2)] == first[:2]  # another state than the one to be loaded
    assert resumed.checkpoints.restore(path) == 3
    assert [resumed.step() for _ in range(3)] == rest
    assert all(torch.equal(a, b) for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True))


def test_resuming_from_the_newest_a_named_or_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    setup = Setup(tmp_path)
    assert setup.checkpoints.resume("auto") == setup.checkpoints.resume(None) == 0
    older, newer = setup.checkpoints.save(1), setup.checkpoints.save(2)
    assert capsys.readouterr().out == ""
    assert setup.checkpoints.resume("auto") == 2 and setup.checkpoints.resume(str(older)) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"resumed after step 2 from {newer}",
        f"resumed after step 1 from {older}",
    ]


def test_left_out_parameters_are_not_in_the_file_and_stay_as_they_are(tmp_path: Path) -> None:
    path = Setup(tmp_path).checkpoints.save(1)
    with safe_open(path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {"2.weight", "2.bias"}
    other = Setup(tmp_path, seed=1)
    frozen, trained = other.model[0].weight.clone(), other.model[2].weight.clone()
    other.checkpoints.restore(path)
    assert torch.equal(other.model[0].weight, frozen) and not torch.equal(other.model[2].weight, trained)


def test_crash_while_writing_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path)
    good = setup.checkpoints.save(1)

    def crash(folder: str) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(setup.accelerator, "save_state", crash)
    with pytest.raises(KeyboardInterrupt):
        setup.checkpoints.save(2)
    assert latest_checkpoint(tmp_path) == good
    monkeypatch.undo()
    assert setup.checkpoints.save(2) == latest_checkpoint(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*step*")) == ["step_000001", "step_000002"]


def test_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    path = setup.checkpoints.save(1)
    (path / "random_states_0.pkl").write_bytes(b"")  # accelerate itself would go on without a word
    with pytest.raises(ValueError, match="is not a complete checkpoint"):
        setup.checkpoints.restore(path)


@pytest.mark.parametrize("name", ["optimizer.bin", "custom_checkpoint_0.pkl", "random_states_0.pkl"])
@pytest.mark.parametrize("whole", [True, False], ids=["payload", "cut"])
def test_a_pickle_that_runs_something_or_is_cut_is_refused(tmp_path: Path, name: str, whole: bool) -> None:
    """Also where the sizes in the manifest are right."""
    setup = Setup(tmp_path)
    path = setup.checkpoints.save(1)
    if whole:
        torch.save(Payload(tmp_path / "ran"), path / name)
    else:
        (path / name).write_bytes((path / name).read_bytes()[:400])
    (path / MANIFEST).unlink()
    write_manifest(path, 1, setup.checkpoints.settings)
    with pytest.raises((ValueError, RuntimeError, UnpicklingError)):
        setup.checkpoints.restore(path)
    assert not (tmp_path / "ran").exists()


def test_rotation(tmp_path: Path) -> None:
    setup = Setup(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        setup.checkpoints.save(step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_000003", "step_000004"]


def test_same_step_again_replaces_the_checkpoint(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.checkpoints.save(1)
    setup.step()
    path = setup.checkpoints.save(1)
    with safe_open(path / "model.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("2.weight"), setup.model[2].weight)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    path = Setup(tmp_path).checkpoints.save(1)
    with pytest.raises(ValueError, match="lr: 0.1 there, 0.2 here"):
        Setup(tmp_path, settings={"lr": 0.2}).checkpoints.restore(path)
    other = Setup(tmp_path)
    other.checkpoints.settings["num_processes"] = 2
    with pytest.raises(ValueError, match="num_processes: 1 there, 2 here"):
        other.checkpoints.restore(path)


def test_keep_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`keep` must be at least 1, got 0"):
        Setup(tmp_path, keep=0)
