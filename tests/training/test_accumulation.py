# SPDX-License-Identifier: Apache-2.0
"""One optimizer step is the same however it is cut into batches and processes; epochs resume in the middle."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.testing import assert_close

from eigenhub.training.accumulation import IGNORED, check_loss_kwargs, count_items, endless_windows, loss_scale
from eigenhub.training.setup import make_accelerator, make_loader
from tests.support.distributed import run_function
from tests.support.models import tiny_bert, tiny_llama


def make_args(folder: str, batch_size: int, accumulation: int) -> SimpleNamespace:
    return SimpleNamespace(
        output_dir=folder,
        per_device_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        seed=3,
        report_to="none",
        tf32=False,
    )


def uneven_rows(number: int) -> list[dict[str, torch.Tensor]]:
    """Rows of equal length in which 1 to 7 labels count, so that a mean of means differs from the mean."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 64, (number, 8), generator=generator)
    rows = []
    for index in range(number):
        labels = ids[index].clone()
        labels[: 8 - 1 - index % 7] = IGNORED
        rows.append({"input_ids": ids[index], "labels": labels})
    return rows


def step_gradient(folder: str, batch_size: int, accumulation: int) -> dict:
    """Loss and gradient of one step over 16 rows, in whatever pieces."""
    args = make_args(folder, batch_size, accumulation)
    args.output_dir = Path(folder)
    accelerator = make_accelerator(args, "test")
    model = tiny_llama()
    loader = make_loader(args, accelerator, uneven_rows(16))
    model, loader = accelerator.prepare(model, loader)
    batches = next(endless_windows(loader, accumulation))
    num_items = count_items(batches, accelerator, shifted=True)
    losses = []
    for batch in batches:
        with accelerator.accumulate(model):
            loss = model(**batch, num_items_in_batch=num_items).loss
            accelerator.backward(loss * loss_scale(accelerator))
            losses.append(loss.detach())
    loss = accelerator.reduce(torch.stack(losses).sum(), reduction="sum")
    gradient = accelerator.unwrap_model(model).lm_head.weight.grad
    return {"items": num_items.item(), "loss": loss.item(), "gradient": gradient.flatten().tolist()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """All 16 rows in one batch, by the definition of the loss."""
    rows = uneven_rows(16)
    model = tiny_llama()
    ids, labels = (torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels"))
    logits = model(input_ids=ids).logits[:, :-1]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    loss.backward()
    items = (labels[:, 1:] != IGNORED).sum().item()
    return {"items": items, "loss": loss.item(), "gradient": model.lm_head.weight.grad.flatten().tolist()}


def assert_same(result: dict, whole: dict) -> None:
    assert result["items"] == whole["items"]
    assert_close(result["loss"], whole["loss"], rtol=1e-6, atol=0)
    assert_close(torch.tensor(result["gradient"]), torch.tensor(whole["gradient"]), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(16, 1), (4, 4), (1, 16)])
def test_step_does_not_depend_on_accumulation(whole: dict, tmp_path, batch_size: int, accumulation: int) -> None:
    assert_same(step_gradient(str(tmp_path), batch_size, accumulation), whole)


def step_gradients(folder: str, cuts: list[list[int]]) -> list[dict]:
    return [step_gradient(folder, *cut) for cut in cuts]


def test_step_does_not_depend_on_processes(whole: dict, tmp_path: Path) -> None:
    for rank in run_function(step_gradients, 2, folder=str(tmp_path), cuts=[[8, 1], [2, 4]]):
        for result in rank:
            assert_same(result, whole)


def orders(folder: str, first_step: int, num_steps: int) -> list[list[int]]:
    """Which rows each step sees: 10 rows, batches of 2, windows of 3, so that windows cross the ends of epochs."""
    args = make_args(folder, 2, 3)
    args.output_dir = Path(folder)
    accelerator = make_accelerator(args, "test")
    rows = [{"labels": torch.tensor(index)} for index in range(10)]
    loader = accelerator.prepare_data_loader(make_loader(args, accelerator, rows))
    windows = endless_windows(loader, 3, first_step)
    return [[int(x) for batch in next(windows) for x in batch["labels"]] for _ in range(num_steps)]


def test_epochs_are_permutations_and_windows_are_full(tmp_path) -> None:
    steps = orders(str(tmp_path), 0, 10)
    assert [len(step) for step in steps] == [6] * 10
    seen = [index for step in steps for index in step]
    epochs = [seen[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


@pytest.mark.parametrize("first_step", [1, 3, 5, 7])
def test_resumed_order_is_the_rest_of_the_straight_one(tmp_path, first_step: int) -> None:
    assert orders(str(tmp_path), first_step, 9 - first_step) == orders(str(tmp_path), 0, 9)[first_step:]


def straight_and_resumed(folder: str) -> list[list[list[int]]]:
    return [orders(folder, 0, 6), orders(folder, 4, 2)]


def test_resumed_order_over_two_processes(tmp_path: Path) -> None:
    ranks = run_function(straight_and_resumed, 2, folder=str(tmp_path))
    for straight, resumed in ranks:
        assert resumed == straight[4:]
    # Two of the five batches of an epoch go to each process, and no row goes to both.
    first_epochs = [set(sum(straight, [])[:4]) for straight, _ in ranks]
    assert len(first_epochs[0] | first_epochs[1]) == 8


def test_random_stream_is_left_to_the_model(tmp_path) -> None:
    torch.manual_seed(0)
    orders(str(tmp_path), 0, 9)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)


def test_count_without_shift() -> None:
    batches = [{"labels": torch.tensor([3, IGNORED, 5])}, {"labels": torch.tensor([1])}]
    assert count_items(batches, Accelerator(cpu=True), shifted=False).item() == 3


def test_models_that_cannot_divide_are_refused() -> None:
    check_loss_kwargs(tiny_llama())
    with pytest.raises(ValueError, match="does not take `num_items_in_batch`"):
        check_loss_kwargs(nn.Linear(2, 2))
    model = tiny_bert()
    model.accepts_loss_kwargs = False
    with pytest.raises(ValueError, match="BertForSequenceClassification does not take"):
        check_loss_kwargs(model)


def test_too_few_rows_for_a_batch(tmp_path) -> None:
    with pytest.raises(ValueError, match="3 rows do not fill one batch of 4"):
        make_loader(make_args(str(tmp_path), 4, 1), Accelerator(cpu=True), uneven_rows(3))
