# SPDX-License-Identifier: Apache-2.0
"""Differential privacy under the embedded trainer: budgets over rounds, caps, nothing private in what comes out."""

import json

import pytest
import torch

from eigenhub.federated import DPConfig, PrivacyLedger, QuorumError
from eigenhub.federated.accounting import compute_epsilon
from tests.common.federated_cases import a_trainer, rows_of_clients
from tests.common.federated_tester import Recorder, Saboteur, StopAfter


pytest.importorskip("opacus")

DP = {"target_epsilon": 8.0, "target_delta": 1e-3, "accountant": "rdp", "max_grad_norm": 1.0}


def private(folder, callbacks=(), dp=(), **options):
    held_out = {name: rows[:4] for name, rows in rows_of_clients().items()}
    return a_trainer(
        folder, dp=DPConfig(**(DP | dict(dp))), callbacks=list(callbacks), client_eval_datasets=held_out, **options
    )


def test_the_account_of_a_client_runs_over_all_rounds(tmp_path):
    trainer = private(tmp_path, num_rounds=4, client_fraction=0.67)
    history = trainer.train()
    ledger = trainer.ledger
    rounds = {client: sum(client in record["clients"] for record in history) for client in trainer.clients}
    assert sum(rounds.values()) == 8 and max(rounds.values()) - min(rounds.values()) <= 1
    for client, count in rounds.items():
        run = (ledger.noise_multiplier(client), ledger.sample_rate(client), 2 * count)
        assert ledger.epsilon(client) == pytest.approx(compute_epsilon([run], 1e-3, "rdp"), rel=1e-9)
        one_round = (*run[:2], 2)
        assert ledger.epsilon(client) > 1.02 * compute_epsilon([one_round], 1e-3, "rdp")
    assert history[-1]["epsilon"] == pytest.approx(max(ledger.spent().values())) and history[-1]["epsilon"] <= 8.0


def test_a_client_at_its_cap_is_left_out_and_the_run_goes_on(tmp_path):
    trainer = private(
        tmp_path, dp={"max_participations": 2}, num_rounds=3, client_sampling="uniform", client_fraction=0.67
    )
    history = trainer.train()
    counts = {client: sum(client in record["clients"] for record in history) for client in trainer.clients}
    assert set(counts.values()) == {2} and all(len(record["clients"]) == 2 for record in history)
    assert not any(trainer.ledger.may_participate(client) for client, count in counts.items() if count == 2)


def test_when_every_budget_is_spent_the_run_ends(tmp_path, caplog):
    trainer = private(tmp_path, dp={"max_participations": 2}, num_rounds=3)
    assert len(trainer.train()) == trainer.server.round == 2
    assert "before round 3: every client has spent its privacy budget" in caplog.text


def test_no_private_figure_comes_out_unasked(tmp_path):
    recorder = Recorder()
    trainer = private(tmp_path, [recorder], num_rounds=1)
    (record,) = trainer.train()
    assert "train_loss" not in record and record["client_metrics"] == {}
    assert all(update.metrics == {} for update in recorder.updates)
    for evaluate in (trainer.evaluate_clients, trainer.evaluate_personalized):
        with pytest.raises(ValueError, match="set `private_metrics=True`"):
            evaluate()
    open_trainer = private(tmp_path / "open", num_rounds=1, private_metrics=True)
    assert "train_loss" in open_trainer.train()[0]
    assert "eval_loss_mean" in open_trainer.evaluate_clients()


def test_only_B_moves_and_its_noise_is_there(tmp_path):
    recorder = Recorder()
    private(tmp_path, [recorder], num_rounds=1).train()
    for update in recorder.updates:
        assert all("lora_B" in key for key in update.state)
        assert all(tensor.abs().min() > 0 for tensor in update.state.values())


def test_a_reply_that_is_not_used_has_been_paid_for(tmp_path):
    trainer = private(tmp_path, [Saboteur("clinic-1")], num_rounds=1)
    trainer.train()
    assert trainer.ledger.epsilon("clinic-1") > 0


def test_a_round_below_the_quorum_is_paid_for_and_can_be_repeated(tmp_path):
    broken = private(tmp_path, [Saboteur("clinic-1")], num_rounds=1, min_clients=3, dp={"max_participations": 2})
    with pytest.raises(QuorumError):
        broken.train()
    mended = private(tmp_path, num_rounds=1, min_clients=3, dp={"max_participations": 2})
    assert len(mended.train(resume_from_checkpoint=True)) == 1
    assert {account.participations for account in mended.ledger.accounts.values()} == {2}


def test_the_ledger_lies_beside_the_adapter_and_is_resumed(tmp_path):
    first = private(tmp_path / "run", [StopAfter(1)], num_rounds=2)
    first.train()
    second = private(tmp_path / "run", num_rounds=2)
    second.train(resume_from_checkpoint=True)
    folder = second.save_pretrained(tmp_path / "adapter")
    ledger = PrivacyLedger.load(folder)
    assert ledger.spent() == pytest.approx(second.ledger.spent())
    content = json.loads((folder / "privacy_ledger.json").read_text())
    assert "Example-level" in content["claim"] and "client-level" in content["claim"]
    assert json.loads((folder / "fedsvd_config.json").read_text())["dp"]["target_epsilon"] == 8.0
    straight = private(tmp_path / "straight", num_rounds=2)
    straight.train()
    assert ledger.spent() == pytest.approx(straight.ledger.spent())


def test_a_seed_makes_a_private_run_repeatable_and_clients_different(tmp_path):
    recorders = [Recorder(), Recorder(), Recorder()]
    for i, seed in enumerate((5, 5, None)):
        private(tmp_path / str(i), [recorders[i]], dp={"seed": seed}, num_rounds=1).train()
    one, two, fresh = ([update.state for update in recorder.updates] for recorder in recorders)
    key = next(iter(one[0]))
    assert all(torch.equal(x[key], y[key]) for x, y in zip(one, two, strict=True))
    assert not torch.equal(one[0][key], fresh[0][key])
    assert not torch.allclose(one[0][key] / one[0][key].norm(), one[1][key] / one[1][key].norm(), atol=0.05)


def test_a_target_out_of_reach_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="target_epsilon"):
        private(tmp_path, dp={"target_epsilon": 1e-4})


def test_a_trainer_class_is_refused(tmp_path):
    from transformers import Trainer

    with pytest.raises(ValueError, match="`trainer_cls` cannot train under `dp`"):
        private(tmp_path, trainer_cls=Trainer)
