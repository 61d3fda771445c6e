# SPDX-License-Identifier: Apache-2.0
"""The checks of the demos fail where they have to."""

import pytest
import torch
from safetensors.torch import save_file

from eigenhub.training.demo_checks import check_resume, in_fresh_process


def test_a_fresh_process_says_why_it_failed():
    assert in_fresh_process("-c", "import sys; print(sys.argv[1:])", "a", "b").strip() == "['a', 'b']"
    with pytest.raises(SystemExit, match="(?s)the fresh process failed:.*no such weights"):
        in_fresh_process("-c", "raise OSError('no such weights')")


@pytest.mark.parametrize("change", [0.0, 1e-7])
def test_a_resumed_run_is_compared_to_the_bit(tmp_path, capsys, change):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    (straight / "checkpoints" / "step_000008").mkdir(parents=True)
    save_file({"weight": torch.ones(3)}, straight / "model.safetensors")

    def main(arguments):
        assert arguments == [
            *("--lr", "1", "--output_dir", str(resumed), "--resume", str(straight / "checkpoints" / "step_000008"))
        ]
        resumed.mkdir()
        save_file({"weight": torch.ones(3) - change}, resumed / "model.safetensors")

    if change:
        with pytest.raises(SystemExit, match="differs"):
            check_resume("run", main, ["--lr", "1"], straight, resumed)
    else:
        check_resume("run", main, ["--lr", "1"], straight, resumed)
        assert "largest difference of the weights 0\n" in capsys.readouterr().out
