# SPDX-License-Identifier: Apache-2.0
"""Trainers with SenD on a tiny Llama that counts."""

from eigenhub.training.send import SenDCallback, SenDConfig, SenDTrainer
from tests.common.callback_tester import arguments, common_parts, make_model, report, rows


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
    return {"dropped": runtime.dropped, "checkpoints": runtime.checkpoints, "refreshes": runtime.refreshes}


def run(folder, settings, options):
    trainer = make_trainer(folder, settings, **options)
    trainer.train()
    return report(trainer, state_of(trainer))
