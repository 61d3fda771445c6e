# SPDX-License-Identifier: Apache-2.0
"""Going on: weights of whatever name, the right checkpoint, the best one, files that are whole."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPTNeoXForCausalLM, Trainer, TrainerCallback

from eigenhub.training.send import SenDCallback, SenDConfig, SenDTrainer, WeightAverage
from eigenhub.training.send.renamed import restore_renamed
from tests.common.callback_tester import EPOCHS, STEPS, arguments, common_parts, losses, weights
from tests.metrics.language_models import gpt_neox, llama, lora
from tests.support.distributed import run_function
from tests.training.send.cases import (
    SETTINGS,
    make_plain_trainer_with_callback,
    make_trainer,
    outputs_around_the_average,
    state_of,
    tracked,
)


MIDDLE = f"checkpoint-{STEPS // 2}"


def neox_trainer(folder, callback_alone=False, **options):
    """GPT-NeoX, whose head is saved as `embed_out` and called `lm_head`."""
    model, parts, config = gpt_neox().train(), common_parts(), SenDConfig(**SETTINGS)
    if callback_alone:
        callback = SenDCallback(config, tracked(), parts["data_collator"])
        return Trainer(model=model, args=arguments(folder, **options), callbacks=[callback], **parts)
    return SenDTrainer(
        model=model, args=arguments(folder, **options), send_config=config, track_dataset=tracked(), **parts
    )


def same_weights(first, second):
    return all(a.equal(b) for a, b in zip(first, second, strict=True))


# ---------------------------------------------------------------- weights saved by another name
@pytest.mark.parametrize("callback_alone", [False, True])
def test_a_head_that_was_saved_by_another_name_comes_back(tmp_path, callback_alone):
    whole = neox_trainer(tmp_path, callback_alone)
    whole.train()
    saved = load_file(tmp_path / MIDDLE / "model.safetensors")
    assert "embed_out.weight" in saved and "lm_head.weight" not in saved
    expected, state, said = weights(whole), state_of(whole), losses(whole)
    resumed = neox_trainer(tmp_path, callback_alone)
    resumed.train(resume_from_checkpoint=str(tmp_path / MIDDLE))
    assert same_weights(weights(resumed), expected)
    assert losses(resumed) == said and state_of(resumed) == state


@pytest.mark.parametrize("limit", ["5GB", "4KB"])
def test_only_what_has_another_name_is_loaded_again(tmp_path, limit):
    for name, saved in (("neox", gpt_neox()), ("llama", llama())):
        folder = tmp_path / name
        saved.save_pretrained(folder, max_shard_size=limit)
        assert len(list(folder.glob("model*.safetensors"))) == 1 or limit == "4KB"
        torch.manual_seed(1)
        model = type(saved)(saved.config)
        model.lm_head.double()
        assert restore_renamed(model, folder) == (name == "neox")
        assert torch.equal(model.lm_head.weight, saved.lm_head.weight.double()) == (name == "neox")
        assert model.lm_head.weight.dtype == torch.float64 and model.dtype == torch.float32


def test_adapters_and_shards_are_left_alone(tmp_path):
    gpt_neox().save_pretrained(tmp_path)
    assert not restore_renamed(lora(), tmp_path)
    assert not restore_renamed(torch.nn.Linear(2, 2), tmp_path)
    assert not restore_renamed(gpt_neox(), tmp_path / "nothing")
    (tmp_path / "pytorch_model_fsdp_0").mkdir()
    assert not restore_renamed(gpt_neox(), tmp_path)


# ---------------------------------------------------------------- which checkpoint
def test_a_checkpoint_from_elsewhere(tmp_path):
    """The trainer takes its state from there; the callback does not take that of another run for it."""
    mine, other = make_trainer(tmp_path / "mine", {}), make_trainer(tmp_path / "other", {}, learning_rate=1e-3)
    mine.train()
    other.train()
    checkpoint = str(tmp_path / "mine" / MIDDLE)
    resumed = make_trainer(tmp_path / "other", {})
    resumed.train(resume_from_checkpoint=checkpoint)
    assert resumed.send.refreshes == mine.send.refreshes != other.send.refreshes
    with pytest.raises(
        ValueError, match="`output_dir` must hold the checkpoint that the run goes on from, .* another"
    ):
        make_plain_trainer_with_callback(tmp_path / "other", {}).train(resume_from_checkpoint=checkpoint)


def test_the_state_is_found_where_an_engine_loads_the_weights(tmp_path):
    """DeepSpeed never comes to `_load_from_checkpoint`."""
    make_trainer(tmp_path / "a", {}).train()
    trainer = make_trainer(tmp_path / "b", {})
    trainer._load_from_checkpoint = lambda *args: None
    trainer.train(resume_from_checkpoint=str(tmp_path / "a" / MIDDLE))
    assert trainer.send.checkpoints == EPOCHS


@pytest.mark.parametrize("mode", ["send", "ema"])
def test_the_best_checkpoint_brings_its_head_its_mask_and_its_average(tmp_path, mode):
    best = str(tmp_path / f"checkpoint-{STEPS // 3}")

    class Best(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            state.best_model_checkpoint = best

    options = {
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "num_train_epochs": 4,
    }
    trainer = SenDTrainer(
        model=gpt_neox().train(), args=arguments(tmp_path, **options), track_dataset=tracked(), callbacks=[Best()],
        send_config=SenDConfig(**{**SETTINGS, "mode": mode, "ema_decay": 0.5}), **common_parts(),
    )  # fmt: skip
    trainer.train()
    saved, state = GPTNeoXForCausalLM.from_pretrained(best), load_file(f"{best}/send_state.safetensors")
    found = dict(trainer.model.named_parameters())
    for name, value in saved.named_parameters():
        expected = value if mode == "send" else state[f"average.{name}"]
        assert torch.equal(found[name], expected), name
    if mode == "send":
        assert trainer.send.dropped == state["dropped"].tolist() != [] and trainer.send.checkpoints == 2


# ---------------------------------------------------------------- when
def test_an_epoch_that_was_broken_off_is_no_checkpoint(tmp_path):
    """A run that was cut in the middle of an epoch goes on as if it had not been."""
    whole = make_trainer(tmp_path / "whole", {}, num_train_epochs=4)
    whole.train()
    short = make_trainer(tmp_path / "short", {}, max_steps=5, save_steps=5)
    short.train()
    assert short.send.checkpoints == 2
    resumed = make_trainer(tmp_path / "short", {}, num_train_epochs=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "short" / "checkpoint-5"))
    assert same_weights(weights(resumed), weights(whole)) and state_of(resumed) == state_of(whole)


@pytest.mark.parametrize("settings", [{}, {"track_strategy": "steps", "track_steps": 4}])
def test_losses_around_a_choice(tmp_path, settings):
    trainer = make_trainer(tmp_path, settings)
    trainer.train()
    by_step = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    for entry in trainer.send.refreshes:
        assert entry["loss_before"] == by_step[entry["step"]]
        assert entry["loss_after"] == by_step.get(entry["step"] + 1)
    resumed = make_trainer(tmp_path, settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / MIDDLE))
    assert resumed.send.refreshes == trainer.send.refreshes


def test_looking_leaves_the_random_numbers_of_training_alone(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, {})
    before = torch.get_rng_state()
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeds the accelerators too"))
    trainer.send.observe(trainer.model, 0)
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- files
def test_a_state_that_is_cut_short_leaves_the_one_before(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, {}, save_strategy="no", num_train_epochs=2)
    trainer.train()
    trainer.send.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def cut(tensors, path, metadata=None):
        path.write_bytes(b"half")
        raise OSError("disk full")

    trainer.send.reset()
    monkeypatch.setattr("safetensors.torch.save_file", cut)
    with pytest.raises(OSError, match="disk full"):
        trainer.send.save(tmp_path)
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    again = make_trainer(tmp_path / "again", {})
    again.send.load(tmp_path)
    assert again.send.dropped and again.send.checkpoints == 2


def test_parameters_in_pieces_are_not_averaged():
    empty = torch.nn.Linear(2, 2)
    empty.weight = torch.nn.Parameter(torch.empty(0))
    with pytest.raises(ValueError, match="whole or in shards of FSDP2 to be averaged; weight is flattened or empty"):
        WeightAverage(empty, 0.9)


@pytest.mark.slow
def test_shards_follow_what_is_written():
    """What FSDP2 has gathered for an evaluation must not outlive the weights it was gathered from."""
    for found in run_function(outputs_around_the_average, nproc=2):
        assert found["after"] == found["before"] != found["inside"] == found["expected"]
