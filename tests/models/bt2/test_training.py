# SPDX-License-Identifier: Apache-2.0
"""Starts, parameter groups, re-basing, teachers, Trainer with teacher columns, two processes."""

from pathlib import Path

import pytest
import torch
from datasets import Array3D, Dataset, Features, Sequence, Value
from transformers import Trainer, TrainingArguments

from eigenhub.linalg import gram_defect
from eigenhub.models.bt2 import (
    RebaseCallback,
    bt2_param_groups,
    rebase_long_rotations_,
    teacher_of,
    warm_start_,
)
from tests.models.bt2.tiny_images import batch, tiny_bt2, tiny_embedder, tiny_resnet, tiny_vit
from tests.support.distributed import run_function


def test_warm_start_copies_the_new_model() -> None:
    model, teacher = tiny_bt2().eval(), tiny_embedder().eval()
    pixels = batch()["pixel_values"]
    warm_start_(model, teacher)
    torch.testing.assert_close(model(pixels).new_embedding, teacher(pixels).embedding, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(pixels).logits, teacher(pixels).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("teacher", "part"),
    [
        ({"backbone": tiny_resnet()}, "backbone"),
        ({"embedding_dim": 7}, "new projection"),
        ({"num_labels": 5}, "classifier"),
    ],
    ids=["backbone", "projection", "classifier"],
)
def test_warm_start_names_what_does_not_fit(teacher: dict, part: str) -> None:
    with pytest.raises(ValueError, match=f"the {part} of `teacher` does not fit `model`"):
        warm_start_(tiny_bt2(), tiny_embedder(**teacher))


def test_groups_cover_every_parameter_once_and_spare_the_bases() -> None:
    model = tiny_bt2()
    groups = bt2_param_groups(model, lr=1e-4, head_lr=1e-2, weight_decay=0.1)
    listed = [id(p) for group in groups for p in group["params"]]
    trained = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert len(listed) == len(set(listed)) and set(listed) == trained.keys()
    for group in groups:
        for parameter in group["params"]:
            name = trained[id(parameter)]
            assert group["lr"] == (1e-4 if "backbone" in name else 1e-2), name
            decayed = parameter.ndim > 1 and "basis" not in name
            assert group["weight_decay"] == (0.1 if decayed else 0.0), name
    low_rank = bt2_param_groups(tiny_bt2(basis_rank=1, old_dim=6), 1e-4, weight_decay=0.1)
    shapes = {tuple(p.shape) for group in low_rank if group["weight_decay"] for p in group["params"]}
    assert (6, 1) not in shapes


def test_long_rotations_are_folded_and_their_adam_state_dropped() -> None:
    model = tiny_bt2()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(**batch()).loss.backward()
    optimizer.step()
    basis = model.bt2.head.compat_basis
    assert rebase_long_rotations_(model, optimizer) == 0
    with torch.no_grad():
        basis.skew.fill_(6.0)
    before = basis.matrix().detach()
    assert rebase_long_rotations_(model, optimizer) == 1
    torch.testing.assert_close(basis.matrix(), before, rtol=0, atol=1e-6)
    assert basis.skew not in optimizer.state and model.classifier.weight in optimizer.state
    assert not basis.skew.any()


def test_teacher_is_asked_in_evaluation_mode_and_left_as_it_was() -> None:
    teacher = tiny_embedder(tiny_resnet()).train()
    teacher.projection.eval()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    pixels = batch()["pixel_values"]
    vectors = teacher_of(teacher, pixels)
    assert teacher.training and not teacher.projection.training
    assert not vectors.requires_grad
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(vectors, teacher.eval()(pixels).embedding)


def teacher_rows(rows: int = 24) -> Dataset:
    """A data set with teacher vectors as columns, and one column that the model does not take."""
    columns = {name: tensor.numpy() for name, tensor in batch(rows).items()}
    features = Features(
        {
            "pixel_values": Array3D((1, 8, 8), "float32"),
            "labels": Value("int64"),
            "old_embedding": Sequence(Value("float32")),
            "new_embedding": Sequence(Value("float32")),
            "item_id": Value("string"),
        }
    )
    columns["item_id"] = [f"item-{row}" for row in range(rows)]
    return Dataset.from_dict(columns, features=features).with_format("torch")


def trainer(folder: Path, **settings: object) -> Trainer:
    torch.manual_seed(3)
    model = tiny_bt2()
    optimizer = torch.optim.AdamW(bt2_param_groups(model, lr=1e-2, head_lr=1e-2, weight_decay=0.01))
    arguments = {
        "output_dir": str(folder),
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_steps": 6,
        "seed": 5,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**(arguments | settings)),
        train_dataset=teacher_rows(),
        eval_dataset=teacher_rows(),
        optimizers=(optimizer, None),
        callbacks=[RebaseCallback(every=1, above=0.02)],
    )


def losses(run: Trainer) -> list[float]:
    return [row["loss"] for row in run.state.log_history if "loss" in row]


def test_trainer_takes_teachers_as_columns_rebases_and_resumes(tmp_path: Path) -> None:
    straight = trainer(tmp_path / "straight")
    base = straight.model.bt2.head.compat_basis.base.clone()
    straight.train()
    assert losses(straight)[-1] < losses(straight)[0]
    basis = straight.model.bt2.head.compat_basis
    assert not torch.equal(basis.base, base), "the callback never re-based"
    assert gram_defect(basis.matrix().double()).abs().max() < 1e-5
    resumed = trainer(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-6"))
    assert losses(resumed)[-6:] == pytest.approx(losses(straight)[-6:], rel=1e-5)
    predicted = straight.predict(teacher_rows())
    logits, embedding, compat, new = predicted.predictions
    assert (logits.shape, embedding.shape, compat.shape, new.shape) == ((24, 3), (24, 8), (24, 5), (24, 6))


def test_callback_arguments() -> None:
    with pytest.raises(ValueError, match="`every` must be at least 1, got 0"):
        RebaseCallback(every=0)


def distributed_steps(added_dim: int) -> list[float]:
    """Three DDP steps on one half of the batch each; a parameter without gradient would end them."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    torch.manual_seed(0)
    wrapped = DistributedDataParallel(tiny_bt2(tiny_vit(), added_dim=added_dim))
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=1e-2)
    inputs = {name: tensor[dist.get_rank() :: 2] for name, tensor in batch(12).items()}
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = wrapped(**inputs).loss
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        found.append(total.item() / 2)
    checksum = torch.cat([p.detach().flatten() for p in wrapped.parameters()]).double().sum().item()
    return [*found, checksum]


@pytest.mark.slow
@pytest.mark.parametrize("added_dim", [pytest.param(2, id="general"), pytest.param(5, id="all-added")])
def test_two_processes_have_no_unused_parameters(added_dim: int) -> None:
    first, second = run_function(distributed_steps, 2, added_dim=added_dim)
    assert first == second
    torch.manual_seed(0)
    model = tiny_bt2(tiny_vit(), added_dim=added_dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        parts = [model(**{name: tensor[half::2] for name, tensor in batch(12).items()}).loss for half in (0, 1)]
        loss = sum(parts) / 2
        loss.backward()
        optimizer.step()
        assert loss.item() == pytest.approx(first[step], rel=1e-5)
