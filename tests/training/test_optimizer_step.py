# SPDX-License-Identifier: Apache-2.0
"""One step changes the weights in the same way however it is cut into batches and processes."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from eigenhub.training.accumulation import endless_windows, optimizer_step
from eigenhub.training.setup import make_accelerator, make_loader
from tests.support.distributed import run_function
from tests.support.models import tiny_llama
from tests.training.test_accumulation import make_args, uneven_rows


def step(folder: str, batch_size: int, accumulation: int, max_grad_norm: float = 0.0) -> dict:
    args = make_args(folder, batch_size, accumulation)
    args.output_dir = Path(folder)
    accelerator = make_accelerator(args, "test")
    model = tiny_llama()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = make_loader(args, accelerator, uneven_rows(16))
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    batches = next(endless_windows(loader, accumulation))
    loss = optimizer_step(accelerator, model, optimizer, batches, True, max_grad_norm)
    moved = accelerator.unwrap_model(model).lm_head.weight - tiny_llama().lm_head.weight
    left = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return {
        "loss": accelerator.reduce(loss, reduction="sum").item(),
        "moved": moved.flatten().tolist(),
        "gradients_left": len(left),
    }


@pytest.mark.parametrize(("batch_size", "accumulation", "nproc"), [(4, 4, 1), (4, 2, 2)])
def test_same_step(tmp_path: Path, batch_size: int, accumulation: int, nproc: int) -> None:
    whole = step(str(tmp_path), 16, 1)
    keywords = {"folder": str(tmp_path), "batch_size": batch_size, "accumulation": accumulation}
    for cut in run_function(step, nproc=nproc, **keywords):
        assert cut["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        assert_close(torch.tensor(cut["moved"]), torch.tensor(whole["moved"]), rtol=1e-4, atol=1e-7)
        assert cut["gradients_left"] == 0


def test_clipping(tmp_path: Path) -> None:
    free, clipped = (torch.tensor(step(str(tmp_path), 16, 1, norm)["moved"]) for norm in (0.0, 0.01))
    shrunk = clipped.norm() / free.norm()
    assert shrunk < 0.1
    assert_close(clipped / shrunk, free, rtol=1e-4, atol=1e-6)
