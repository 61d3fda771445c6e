# SPDX-License-Identifier: Apache-2.0
"""When masks act, what is tracked, what is saved, and what is refused."""

import json
import logging
import warnings

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, TrainerCallback

from eigenhub.metrics.decoder_blocks import block_at
from eigenhub.training.send import (
    SenDCallback,
    SenDConfig,
    SenDRuntime,
    SenDTrainer,
    remove_send,
    runtime_of,
    sensitivity,
    tracked_embeddings,
)
from tests.common.callback_tester import EPOCHS, arguments, common_parts, make_model, rows, weights
from tests.training.send.cases import make_plain_trainer_with_callback, make_trainer, tracked


pytestmark = pytest.mark.filterwarnings("ignore:.*tracked texts are few")


class Watcher(TrainerCallback):
    """Masks at the beginning of each epoch, and how many hooks there are."""

    def __init__(self):
        self.masks, self.hooks = [], []

    def on_epoch_begin(self, args, state, control, **kwargs):
        block = block_at(kwargs["model"], -2)
        self.masks.append((1 - runtime_of(kwargs["model"]).gate.mask).nonzero().flatten().tolist())
        self.hooks.append(len(block._forward_hooks))


def watched(folder, settings, **options):
    trainer, watcher = make_trainer(folder, settings, **{"save_strategy": "no", **options}), Watcher()
    trainer.add_callback(watcher)
    return trainer, watcher


@pytest.mark.parametrize(("window", "every", "first"), [(2, 2, 2), (3, 2, 4), (2, 3, 3), (3, 1, 3)])
def test_masks_act_in_their_intervals_and_are_replaced(tmp_path, window, every, first):
    trainer, watcher = watched(tmp_path, {"window": window, "refresh_every": every})
    trainer.train()
    refreshes = {entry["checkpoint"]: entry["dropped"] for entry in trainer.send.refreshes}
    assert list(refreshes) == list(range(first, EPOCHS + 1, every))
    expected = [refreshes.get(max((t for t in refreshes if t <= done), default=None), []) for done in range(EPOCHS)]
    assert watcher.masks == expected
    assert all(len(dropped) == 3 for dropped in refreshes.values())  # floor(0.2 * 16), never more
    logged = [entry for entry in trainer.state.log_history if "send/num_dropped" in entry]
    assert [entry["send/checkpoint"] for entry in logged] == list(refreshes)


def test_the_sets_are_those_of_the_definition(tmp_path):
    """The states of the tracked texts, taken from outside at every epoch without the mask."""
    seen = []
    trainer = make_trainer(tmp_path, {"window": 2, "refresh_every": 2}, save_strategy="no")

    class Outside(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            model = kwargs["model"].eval()
            ids = torch.tensor([row["input_ids"] for row in tracked()])
            with torch.no_grad():
                states = model(input_ids=ids, output_hidden_states=True).hidden_states[-2]
            model.train()
            seen.append((states.mean(1) + states[:, -1]) / 2)

    trainer.add_callback(Outside())
    trainer.train()
    for entry in trainer.send.refreshes:
        t = entry["checkpoint"]
        scores = sensitivity(torch.stack(seen[t - 2 : t]))
        assert entry["dropped"] == scores.topk(3).indices.sort().values.tolist()


def test_checkpoints_by_steps(tmp_path):
    trainer = make_trainer(tmp_path, {"track_strategy": "steps", "track_steps": 4}, save_strategy="no")
    trainer.train()
    assert [entry["step"] for entry in trainer.send.refreshes] == [8] and trainer.send.checkpoints == 3


def test_random_sets_have_the_same_times_and_sizes(tmp_path):
    first, second, other = (
        make_trainer(tmp_path / str(n), {"mode": "random", "seed": seed}, save_strategy="no")
        for n, seed in enumerate((0, 0, 1))
    )
    for trainer in (first, second, other):
        trainer.train()
    assert first.send.refreshes == second.send.refreshes != other.send.refreshes
    assert [len(entry["dropped"]) for entry in first.send.refreshes] == [3, 3, 3]
    assert first.send.refreshes[0]["dropped"] != first.send.refreshes[1]["dropped"]
    assert first.send.tracker.history == []  # nothing is looked at


def test_a_second_run_begins_anew(tmp_path):
    trainer, watcher = watched(tmp_path, {})
    trainer.train()
    trainer.train()
    assert watcher.masks[EPOCHS : EPOCHS + 2] == [[], []]
    assert [entry["checkpoint"] for entry in trainer.send.refreshes] == [2, 4, 6]


def test_no_stale_hook_after_a_resume(tmp_path):
    trainer, watcher = watched(tmp_path, {}, save_strategy="steps", restore_callback_states_from_checkpoint=True)
    trainer.train()
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert len(set(watcher.hooks)) == 1
    dropped = trainer.send.refreshes[0]["dropped"]
    assert watcher.masks[EPOCHS] == dropped  # the one of checkpoint 2 acts in epoch 4
    remove_send(trainer.model)
    assert runtime_of(trainer.model) is None


def test_a_new_trainer_takes_the_old_gate_off(tmp_path):
    model = make_model()
    for site in ("hidden", "mlp", "hidden"):
        SenDTrainer(
            model=model, args=arguments(tmp_path), send_config=SenDConfig(site=site), track_dataset=tracked(),
            **common_parts(),
        )  # fmt: skip
    assert len(block_at(model, -2)._forward_hooks) == 1 and not block_at(model, -2).mlp.down_proj._forward_pre_hooks


def test_a_tracked_row_is_in_no_training_batch(tmp_path):
    """What the collator is given while the model trains, and while it looks."""
    given = {True: set(), False: set()}
    stack = common_parts()["data_collator"]

    def collate(batch):
        given[trainer.model.training].update(tuple(row["input_ids"]) for row in batch)
        return stack(batch)

    parts = {"train_dataset": [{"input_ids": [4 + n, 5, 6, 7]} for n in range(40)], "data_collator": collate}
    options = {"num_train_epochs": 2, "save_strategy": "no"}
    trainer = SenDTrainer(
        model=make_model(), args=arguments(tmp_path, **options), send_config={"track_fraction": 0.25}, **parts
    )
    with pytest.warns(UserWarning, match="2 checkpoints"):
        trainer.train()
    assert (len(given[True]), len(given[False])) == (30, 10) and not given[True] & given[False]
    assert {tuple(row["input_ids"]) for row in trainer.track_dataset} == given[False]


def test_processes_that_choose_differently_are_stopped(monkeypatch):
    def gather(found, own):
        found[:] = [own, [*own[:-1], own[-1] + 1]]

    for name, value in (
        ("get_world_size", lambda: 2),
        ("all_gather_object", gather),
        ("is_initialized", lambda: True),
    ):
        monkeypatch.setattr(torch.distributed, name, value)
    runtime = SenDRuntime(make_model(), SenDConfig(mode="random", window=2, refresh_every=1), [], None)
    runtime.observe(None, 0)
    with pytest.raises(RuntimeError, match=r"have chosen different indices: \[\[.*\], \[.*\]\]"):
        runtime.observe(None, 1)
    assert runtime.dropped == []


# ---------------------------------------------------------------- files
def test_a_saved_model_is_a_plain_one(tmp_path, caplog, monkeypatch):
    """It loads without a warning, be it one of Python or in the log, and to the bit."""
    trainer = make_trainer(tmp_path / "run", {}, save_strategy="no")
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    entries = json.loads((tmp_path / "model" / "send_config.json").read_text())
    assert entries["dropped"] == trainer.send.dropped != [] and entries["rho"] == 0.2
    ids = torch.tensor([rows(1)[0]["input_ids"]])
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert caplog.messages == []
    assert loaded.state_dict().keys() == make_model().state_dict().keys()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, trainer.model.eval()(input_ids=ids).logits)


def test_resuming_without_state_or_with_other_settings_is_an_error(tmp_path):
    first = make_trainer(tmp_path, {})
    first.train()
    checkpoint = tmp_path / "checkpoint-6"
    for settings, said in (
        ({"rho": 0.3}, "`rho` must be 0.2 as in .*checkpoint-6, got 0.3"),
        ({"mode": "random"}, "`mode` must be 'send'"),
    ):
        with pytest.raises(ValueError, match=said):
            make_trainer(tmp_path, settings).train(resume_from_checkpoint=str(checkpoint))
    other = SenDTrainer(
        model=make_model(),
        args=arguments(tmp_path),
        send_config=first.send.config,
        track_dataset=rows(31),
        **common_parts(),
    )
    with pytest.raises(ValueError, match=r"`track_dataset` must be that of .*\(30, 16\), got \(31, 16\)"):
        other.train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "send_state.safetensors").unlink()
    for make in (make_trainer, make_plain_trainer_with_callback):
        with pytest.raises(ValueError, match="cannot go on without its masks: .* has no send_state.safetensors"):
            make(tmp_path, {}).train(resume_from_checkpoint=str(checkpoint))


# ---------------------------------------------------------------- tracking
@pytest.mark.parametrize("site", ["hidden", "mlp"])
def test_tracked_embeddings_are_those_of_single_texts(site):
    model = make_model().eval()
    block = block_at(model, -2)
    module = block.mlp.down_proj if site == "mlp" else block
    texts = [{"input_ids": row["input_ids"][: 3 + n % 4]} for n, row in enumerate(rows(7))]
    found = tracked_embeddings(model, module, texts, common_parts()["data_collator"], 3, before=site == "mlp")
    seen = []
    module.register_forward_pre_hook(lambda m, i: seen.append(i[0][0])) if site == "mlp" else (
        module.register_forward_hook(lambda m, i, o: seen.append(o[0]))
    )
    with torch.no_grad():
        for text in texts:
            model(input_ids=torch.tensor([text["input_ids"]]))
    assert_close(found, torch.stack([(states.mean(0) + states[-1]) / 2 for states in seen]), rtol=1e-5, atol=1e-6)


def test_the_mask_is_off_while_it_looks(tmp_path):
    trainer = make_trainer(tmp_path, {"mask_in_eval": True}, save_strategy="no")
    runtime, model = trainer.send, trainer.model
    runtime.observe(model, 0)
    runtime.gate.set_dropped([0, 1, 2])
    with pytest.warns(RuntimeWarning, match="no tracked activation has moved"):
        runtime.observe(model, 0)
    assert torch.equal(runtime.tracker.history[0], runtime.tracker.history[1])


def test_a_model_compiled_in_place_is_not_tracked_silently(tmp_path):
    trainer = make_trainer(tmp_path, {}, save_strategy="no")
    module = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="ran 0 times in one forward"):
        tracked_embeddings(trainer.model, module, tracked(), common_parts()["data_collator"], 8)


def test_states_that_are_not_finite_keep_the_old_mask(tmp_path):
    trainer = make_trainer(tmp_path, {"refresh_every": 1}, save_strategy="no")
    runtime, model = trainer.send, trainer.model
    runtime.observe(model, 0)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1.1)
    runtime.observe(model, 1)
    before = runtime.dropped
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = float("nan")
    with pytest.warns(RuntimeWarning, match="NaN or infinite"):
        runtime.observe(model, 2)
    assert runtime.dropped == before != [] and runtime.checkpoints == 3


def test_a_model_that_stands_still_drops_nothing(tmp_path):
    trainer = make_trainer(tmp_path, {}, save_strategy="no")
    trainer.send.observe(trainer.model, 0)
    with pytest.warns(RuntimeWarning, match="no tracked activation has moved"):
        trainer.send.observe(trainer.model, 1)
    assert trainer.send.dropped == []


def test_too_short_runs_and_few_texts_are_said(tmp_path):
    with pytest.warns(UserWarning, match="2 checkpoints and the first indices are dropped after 2"):
        make_trainer(tmp_path, {}, num_train_epochs=2, save_strategy="no").train()
    with pytest.warns(UserWarning, match="5 tracked texts are few: below 30"):
        SenDRuntime(make_model(), SenDConfig(), rows(5), common_parts()["data_collator"])


# ---------------------------------------------------------------- controls and stopping
def test_the_average_is_an_average(tmp_path):
    """Against a loop over the weights after each step; evaluation sees the average, training does not."""
    expected, evaluated = {}, []

    class Outside(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            expected.update({n: p.detach().double().clone() for n, p in kwargs["model"].named_parameters()})

        def on_step_end(self, args, state, control, **kwargs):
            for name, parameter in kwargs["model"].named_parameters():
                expected[name] = 0.8 * expected[name] + 0.2 * parameter.detach().double()

    trainer = make_trainer(tmp_path, {"mode": "ema", "ema_decay": 0.8}, save_strategy="no", num_train_epochs=2)
    trainer.add_callback(Outside())
    trainer.compute_metrics = lambda prediction: evaluated.append(1) or {}
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert_close(parameter.detach().double(), expected[name], rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(1.0)
    moved = weights(trainer)
    averaged = trainer.evaluate(rows(4))["eval_loss"]
    assert all(a.equal(b) for a, b in zip(weights(trainer), moved, strict=True))
    trainer.send.average.write()
    assert trainer.evaluate(rows(4))["eval_loss"] == pytest.approx(averaged, abs=1e-6)


def test_dropout_acts_in_training_only(tmp_path):
    trainer = make_trainer(tmp_path, {"mode": "dropout", "dropout": 0.5}, save_strategy="no")
    ids = {"input_ids": torch.tensor([rows(1)[0]["input_ids"]])}
    with torch.no_grad():
        plain = make_model().eval()(**ids).logits
        assert torch.equal(trainer.model.eval()(**ids).logits, plain)
        assert not torch.equal(trainer.model.train()(**ids).logits, plain)


def test_stopping_needs_loss_and_score(tmp_path):
    calls = []

    def make(score, loss):
        return SenDTrainer(
            model=make_model(), args=arguments(tmp_path, save_strategy="no"), track_dataset=tracked(),
            send_config=SenDConfig(stop_loss=loss, stop_score=-1.0),
            score_function=lambda model: calls.append(1) or score, **common_parts(),
        )  # fmt: skip

    for score, loss, epochs, asked in ((-2.0, 99.0, 1, 1), (0.0, 99.0, EPOCHS, EPOCHS), (-2.0, 0.0, EPOCHS, 0)):
        calls.clear()
        trainer = make(score, loss)
        trainer.train()
        assert (trainer.send.checkpoints, len(calls)) == (epochs, asked)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: SenDRuntime(make_model(), SenDConfig(), [], None), "`track_dataset` must have texts for mode 'send'"),
        (lambda: SenDRuntime(make_model(), SenDConfig(rho=0.05), rows(30), None), "`rho` must drop an index or more of 16"),
        (lambda: SenDRuntime(make_model(), SenDConfig(layer=7), rows(30), None), "`index` must be from -3 to 2, got 7"),
        (
            lambda: SenDRuntime(make_model(), SenDConfig(stop_loss=1.0, stop_score=1.0), rows(30), None),
            "`stop_score` and `score_function` must be given together",
        ),
        (lambda: SenDTrainer(model=make_model()), "`train_dataset` must be given by name"),
        (lambda: SenDCallback({"rho": 1.0}), "`rho` must be above 0 and below 0.9"),
    ],
)  # fmt: skip
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_indices_of_the_hidden_state_at_the_mlp(tmp_path):
    trainer = make_trainer(tmp_path, {"site": "mlp", "index_space": "hidden"}, save_strategy="no")
    assert (trainer.send.index_size, trainer.send.size) == (16, 24)
    trainer.train()
    assert len(trainer.send.dropped) == 3 and max(trainer.send.dropped) < 16
    own = make_trainer(tmp_path, {"site": "mlp"}, save_strategy="no")
    assert (own.send.index_size, own.send.count) == (24, 4)
