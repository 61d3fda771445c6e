# SPDX-License-Identifier: Apache-2.0
"""Trainers with SenD on a tiny Llama that counts."""

from eigenhub.training.send import SenDCallback, SenDConfig, SenDTrainer
from tests.common.callback_tester import allow_fsdp_on_cpus, arguments, common_parts, make_model, report, rows


SETTINGS = {"window": 2, "refresh_every": 2, "rho": 0.2}


def tracked():
    return rows(30, seed=5)


def make_trainer(folder, settings, model="plain", **options):
    return SenDTrainer(
        model=make_model(model), args=arguments(folder, **options), send_config=SenDConfig(**{**SETTINGS, **settings}),
        track_dataset=tracked(), **common_parts(),
    )  # fmt: skip


def make_plain_trainer_with_callback(folder, settings, model="plain", **options):
    from transformers import Trainer

    parts = common_parts()
    callback = SenDCallback(SenDConfig(**{**SETTINGS, **settings}), tracked(), parts["data_collator"])
    return Trainer(model=make_model(model), args=arguments(folder, **options), callbacks=[callback], **parts)


def state_of(trainer):
    from eigenhub.training.send import runtime_of

    runtime = runtime_of(trainer.model)
    # without the losses, which are rounded in other ways by other numbers of processes
    refreshes = [{name: entry[name] for name in ("checkpoint", "step", "dropped")} for entry in runtime.refreshes]
    return {"dropped": runtime.dropped, "checkpoints": runtime.checkpoints, "refreshes": refreshes}


def run(folder, settings, options, model="plain", resume_from=None):
    allow_fsdp_on_cpus()
    trainer = make_trainer(folder, settings, model=model, **options)
    trainer.train(resume_from_checkpoint=resume_from)
    return report(trainer, state_of(trainer))


def outputs_around_the_average():
    """Of a model in shards: before, inside and after a block with the average, and of the average itself."""
    import torch
    from torch.distributed.fsdp import fully_shard

    from eigenhub.training.send import WeightAverage

    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)), torch.ones(2, 4)
    whole = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    fully_shard(model[0])
    fully_shard(model)
    with torch.no_grad():
        model(x)
    average = WeightAverage(model, decay=0.5)
    model(x).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    average.update()
    whole.load_state_dict(average.state())
    with torch.no_grad():
        before = model(x)
        with average.applied():
            inside = model(x)
        outputs = {"before": before, "inside": inside, "after": model(x), "expected": whole(x)}
    return {name: [round(value, 5) for value in output.flatten().tolist()] for name, output in outputs.items()}
