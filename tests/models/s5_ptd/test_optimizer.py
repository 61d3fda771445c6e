# SPDX-License-Identifier: Apache-2.0
"""Parameter groups, training with them in one and two processes, and adapters on top."""

import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from eigenhub.models.s5_ptd import S5AdamW, S5Config, S5ForCausalLM, S5ForSequenceClassification, s5_param_groups
from eigenhub.models.state_space.optimizer_watch import ADVICE
from tests.support.data import counting_rows
from tests.support.distributed import run_function
from tests.support.models import build


TINY = {"hidden_size": 8, "state_size": 8, "num_blocks": 1, "num_hidden_layers": 2, "vocab_size": 64}
SSM = {"Lambda_re", "Lambda_im", "log_step", "B", "C", "C_backward", "D"}


def classifier(seed=0, **settings):
    return build(S5ForSequenceClassification, S5Config(**(TINY | settings)), seed)


def leaves(group):
    return {name.rpartition(".")[2] for name in group["members"] if ".ssm." in name}


@pytest.mark.parametrize("dt_global", [False, True])
@pytest.mark.parametrize(
    ("opt_config", "expected"),
    [
        ("standard", {"ssm": {"B"}, "ssm_decay": set(), "regular": {"C", "C_backward", "D"}}),
        ("BandCdecay", {"ssm": set(), "ssm_decay": {"B"}, "regular": {"C", "C_backward", "D"}}),
        ("BfastandCdecay", {"ssm": set(), "ssm_decay": set(), "regular": {"B", "C", "C_backward", "D"}}),
        ("noBCdecay", {"ssm": {"B", "C", "C_backward", "D"}, "ssm_decay": set(), "regular": set()}),
    ],
)
def test_groups_by_name(opt_config, expected, dt_global):
    model = classifier(bidirectional=True, norm_type="batch")
    groups = s5_param_groups(model, 4e-3, 1e-3, 0.05, opt_config, dt_global)
    found = {group["name"]: group for group in groups}
    expected = {name: set(names) for name, names in expected.items()}
    expected["ssm"] |= {"Lambda_re", "Lambda_im"}
    expected["regular" if dt_global else "ssm"].add("log_step")
    assert {name: leaves(found[name]) for name in found} == {n: e for n, e in expected.items() if n in found}
    assert all(name in found for name, names in expected.items() if names)
    rates = {"ssm": (1e-3, 0.0), "ssm_decay": (1e-3, 0.05), "regular": (4e-3, 0.05)}
    assert all((group["lr"], group["weight_decay"]) == rates[name] for name, group in found.items())


def test_every_trainable_parameter_is_in_one_group():
    model = classifier()
    model.model.encoder.requires_grad_(False)
    groups = s5_param_groups(model)
    listed = [p for group in groups for p in group["params"]]
    assert len({id(p) for p in listed}) == len(listed)
    assert {id(p) for p in listed} == {id(p) for p in model.parameters() if p.requires_grad}
    names = dict(model.named_parameters())
    for group in groups:
        assert all(names[n] is p for n, p in zip(group["members"], group["params"], strict=True))


def test_groups_of_a_wrapped_model():
    model = classifier()
    plain = [group["members"] for group in s5_param_groups(model)]
    wrapped = [group["members"] for group in s5_param_groups(torch.nn.ModuleDict({"module": model}))]
    assert [[name.removeprefix("module.") for name in members] for members in wrapped] == plain


def test_bad_options_are_named():
    for options, message in (
        ({"opt_config": "fast"}, "`opt_config` must be one of standard, BandCdecay, .* got 'fast'"),
        ({"lr": -1.0}, "`lr` must not be negative, got -1.0"),
        ({"ssm_lr": float("nan")}, "`ssm_lr` must not be negative, got nan"),
        ({"weight_decay": -0.1}, "`weight_decay` must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            S5AdamW()(classifier(), **options)


def test_the_factory_passes_options_on():
    optimizer = S5AdamW()(classifier(), lr=1e-2, ssm_lr=1e-4, betas=(0.8, 0.9), opt_config="BandCdecay")
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [(g["name"], g["lr"], g["betas"]) for g in optimizer.param_groups] == [
        ("ssm", 1e-4, (0.8, 0.9)),
        ("ssm_decay", 1e-4, (0.8, 0.9)),
        ("regular", 1e-2, (0.8, 0.9)),
    ]


def trainer(model, folder, **keywords):
    rows = [{"input_ids": row, "labels": i % 2} for i, row in enumerate(counting_rows(16, length=12))]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=4, per_device_train_batch_size=4, learning_rate=0.1, logging_steps=1,
        lr_scheduler_type="linear", save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=rows, **keywords)


def test_trainer_takes_the_factory_and_schedules_every_group(tmp_path, caplog):
    keywords = {"lr": 8e-3, "ssm_lr": 2e-3, "weight_decay": 0.1}
    run = trainer(classifier(), tmp_path, optimizer_cls_and_kwargs=(S5AdamW, keywords))
    with caplog.at_level(logging.WARNING):
        run.train()
    groups = {group["name"]: group for group in run.optimizer.param_groups}
    assert groups["regular"]["initial_lr"] == 8e-3 and groups["ssm"]["initial_lr"] == 2e-3
    assert groups["regular"]["lr"] == pytest.approx(4 * groups["ssm"]["lr"], abs=1e-9)
    assert ADVICE not in caplog.messages


def test_a_plain_trainer_is_warned_once(tmp_path, caplog):
    run = trainer(classifier(), tmp_path)
    with caplog.at_level(logging.WARNING):
        run.train()
    assert caplog.messages.count(ADVICE) == 1


def test_groups_of_ones_own_are_looked_at_once(caplog):
    model, other = classifier().train(), torch.nn.Linear(2, 2)
    eigenvalues = [p for name, p in model.named_parameters() if "Lambda" in name]
    ids = torch.ones(2, 3, dtype=torch.long)
    with caplog.at_level(logging.WARNING):
        model(ids, labels=torch.tensor([0, 1])).loss.backward()
        torch.optim.AdamW(other.parameters(), weight_decay=0.1).step()
        torch.optim.AdamW(eigenvalues, weight_decay=0.0).step()
        torch.optim.AdamW(model.parameters(), weight_decay=0.1).step()
    assert ADVICE not in caplog.messages
    decayed = classifier().train()
    with caplog.at_level(logging.WARNING):
        decayed(ids)
        torch.optim.AdamW([p for n, p in decayed.named_parameters() if "Lambda" in n], weight_decay=0.1).step()
    assert caplog.messages.count(ADVICE) == 1


def test_lora_on_top():
    """Adapters on the dense layers by name, state space vectors in full through `modules_to_save`."""
    torch.manual_seed(0)
    base = build(S5ForCausalLM, S5Config(**TINY))
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = base(ids).logits
    config = LoraConfig(r=2, target_modules=["gate", "lm_head"], modules_to_save=["ssm"], task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    assert torch.equal(model(ids).logits, expected)
    model.train()
    optimizer = torch.optim.AdamW(s5_param_groups(model, lr=1e-2))
    assert leaves(optimizer.param_groups[0]) == {"Lambda_re", "Lambda_im", "log_step", "B"}
    for _ in range(3):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval()
    assert not torch.equal(model(ids).logits, expected)
    tokens = model.generate(input_ids=ids, max_new_tokens=5, do_sample=False)
    assert torch.equal(tokens, model.generate(input_ids=ids, max_new_tokens=5, do_sample=False, use_cache=False))
    with model.disable_adapter():
        torch.testing.assert_close(model(ids).logits, expected)


def train(wrap, rank, size):
    torch.manual_seed(0)
    model = S5ForSequenceClassification(S5Config(**TINY, bidirectional=True)).train()
    parallel = wrap(model)
    optimizer = S5AdamW()(parallel, lr=1e-2)
    rows = torch.tensor(counting_rows(8, length=10))
    labels = torch.arange(8) % 2
    for _ in range(3):
        optimizer.zero_grad()
        parallel(input_ids=rows[rank::size], labels=labels[rank::size]).loss.backward()
        optimizer.step()
    return {name: p.double().sum().item() for name, p in model.named_parameters()}


def train_under_ddp():
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    return train(DistributedDataParallel, dist.get_rank(), dist.get_world_size())


@pytest.mark.slow
def test_two_processes_train_as_one():
    first, second = run_function(train_under_ddp, nproc=2)
    assert first == second
    assert first == pytest.approx(train(lambda model: model, 0, 1), abs=1e-4)
