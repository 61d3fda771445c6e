# SPDX-License-Identifier: Apache-2.0
"""What the embedded trainer does around the rounds; the rounds themselves are in test_common.py."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig
from transformers import Trainer

from eigenhub.federated import FederatedCallback, FederatedLoraTrainer, FedSVDConfig, QuorumError
from eigenhub.federated.client import cut_to_rank
from eigenhub.federated.lora_model import live_tensors, read_adapter
from eigenhub.federated.saving import push_adapter
from tests.common.federated_cases import (
    SIZES,
    a_trainer,
    arguments,
    image_rows,
    logits,
    lora_model,
    rows_of_clients,
    token_rows,
)
from tests.common.federated_tester import Recorder
from tests.support.models import tiny_bert


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def test_one_client_is_plain_training(tmp_path):
    """A loop in ten lines, with the same batches, gives the same B to rounding."""
    rows = image_rows(16, 0)
    recorder = Recorder()
    trainer = a_trainer(
        tmp_path, client_datasets={"a": rows}, num_rounds=1, local_steps=4, method="ffa", callbacks=[recorder],
        args=arguments(tmp_path, per_device_train_batch_size=16, max_grad_norm=0.5),
    )  # fmt: skip
    trainer.train()
    model = lora_model()
    parameters = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    model.requires_grad_(False)
    batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.5)
    for _ in range(4):
        model.train()(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    for key, tensor in live_tensors(model).items():
        assert torch.allclose(tensor, trainer.server.state[key], atol=1e-6), key


def test_accumulation_does_not_change_the_result(tmp_path):
    states = []
    for size, parts in ((8, 1), (4, 2)):
        args = arguments(tmp_path / str(parts), per_device_train_batch_size=size, gradient_accumulation_steps=parts)
        trainer = a_trainer(tmp_path / str(parts), args=args, client_datasets={"a": image_rows(8, 0)}, num_rounds=1)
        trainer.train()
        states.append(trainer.server.state)
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-6) for key in states[0])


def test_evaluation_does_not_change_training(tmp_path):
    states = []
    for every in (1, 3):
        folder = tmp_path / str(every)
        args = arguments(folder, per_device_train_batch_size=4, gradient_accumulation_steps=2)
        trainer = a_trainer(folder, args=args, eval_dataset=image_rows(8, 5), num_rounds=3, eval_every=every)
        trainer.train()
        states.append(trainer.server.state)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("method", ["fedsvd", "fedavg"])
def test_the_trainer_of_transformers_can_train_the_clients(method, tmp_path):
    rows = {"a": image_rows(8, 0), "b": image_rows(8, 1)}  # one batch each: the order of rows does not matter
    args = {"per_device_train_batch_size": 8}
    states = []
    for kind in (None, Trainer):
        folder = tmp_path / str(kind)
        trainer = a_trainer(
            folder, args=arguments(folder, **args), client_datasets=rows, trainer_cls=kind, method=method
        )
        trainer.train()
        states.append(trainer.server.state)
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-5) for key in states[0])


def test_the_learning_rate_follows_the_rounds(tmp_path):
    args = arguments(tmp_path, lr_scheduler_type="linear", warmup_steps=1, learning_rate=0.4)
    training = a_trainer(tmp_path, args=args, num_rounds=5).training
    assert [training.learning_rate(round) for round in range(1, 6)] == pytest.approx([0.0, 0.4, 0.3, 0.2, 0.1])
    with pytest.raises(ValueError, match="`lr_scheduler_type` must be a function of the round"):
        a_trainer(tmp_path, args=arguments(tmp_path, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="steps"))


def test_local_epochs_count_passes(tmp_path):
    training = a_trainer(tmp_path, local_steps=None, local_epochs=2.0).training
    assert [training.num_steps(size) for size in SIZES] == [6, 4, 3]


def test_bytes_are_those_of_the_factors(tmp_path):
    """B alone is half of the upload where layers are square; the frozen head goes out once."""
    b_only, both = (a_trainer(tmp_path / m, method=m).train() for m in ("fedsvd", "fedavg"))
    assert 2 * b_only[0]["upload_bytes"] == both[0]["upload_bytes"]
    factors, head = 2 * b_only[0]["upload_bytes"], 3 * 4 * (10 * 16 + 10)
    assert b_only[0]["download_bytes"] == factors + head and b_only[1]["download_bytes"] == factors
    fedex = a_trainer(tmp_path / "fedex", method="fedex").train()
    assert fedex[1]["download_bytes"] > both[1]["download_bytes"]


def test_evaluation_of_the_global_adapter(tmp_path):
    test = image_rows(20, 7)
    trainer = a_trainer(tmp_path, eval_dataset=test, num_rounds=3, eval_every=2)
    trainer.compute_metrics = accuracy
    history = trainer.train()
    assert ["eval_accuracy" in record for record in history] == [False, True, True]
    assert set(trainer.evaluate()) == {"eval_loss", "eval_accuracy"}
    images, labels = torch.stack([row["pixel_values"] for row in test]), torch.stack([row["labels"] for row in test])
    with torch.no_grad():
        output = trainer.model.eval()(pixel_values=images, labels=labels)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(output.loss.item(), abs=1e-5)
    assert trainer.evaluate()["eval_accuracy"] == pytest.approx(
        (output.logits.argmax(-1) == labels).float().mean().item()
    )


def test_evaluation_on_the_clients_rows(tmp_path):
    held_out = {name: rows[:4] for name, rows in rows_of_clients().items()}
    trainer = a_trainer(tmp_path, client_eval_datasets=held_out)
    trainer.train()
    before = read_adapter(trainer.model)
    plain, own = trainer.evaluate_clients(), trainer.evaluate_personalized(num_steps=20)
    losses = [scores["eval_loss"] for scores in plain["clients"].values()]
    assert plain["eval_loss_mean"] == pytest.approx(sum(losses) / 3) and plain["eval_loss_worst"] == max(losses)
    assert own["eval_loss_mean"] < plain["eval_loss_mean"]
    assert all(torch.equal(tensor, before[key]) for key, tensor in live_tensors(trainer.model).items())
    with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
        trainer.evaluate_personalized(num_steps=0)
    with pytest.raises(ValueError, match="`client_eval_datasets` is needed"):
        a_trainer(tmp_path / "none").evaluate_clients()
    with pytest.raises(ValueError, match="`eval_dataset` is needed"):
        a_trainer(tmp_path / "none").evaluate()


def test_a_client_of_lower_rank_trains_the_smaller_model(tmp_path):
    recorder = Recorder()
    trainer = a_trainer(
        tmp_path, method="flexlora", client_ranks={"clinic-0": 1}, callbacks=[recorder], num_rounds=2, local_steps=3
    )
    trainer.train()
    update = next(u for u in recorder.updates if u.client_id == "clinic-0" and u.round == 2)
    assert {tensor.shape[0 if "lora_A" in key else 1] for key, tensor in update.state.items()} == {1}
    small = lora_model(r=1, lora_alpha=2)  # the same alpha / r
    alone = FederatedLoraTrainer(
        small, arguments(tmp_path / "small"), {"clinic-0": rows_of_clients()["clinic-0"]},
        config=FedSVDConfig(method="flexlora", num_rounds=2, local_steps=3, client_fraction=1.0),
    )  # fmt: skip
    alone.server.state = cut_to_rank(recorder.states[1], 1)
    alone.server.round = 1
    own = Recorder()
    alone.callbacks = [own]
    alone.train()
    assert all(torch.allclose(update.state[key], own.updates[0].state[key], atol=1e-6) for key in update.state)


class Unreliable:
    """Rows that cannot be read."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        raise OSError("disk gone")


def test_a_client_that_breaks_down_is_named_and_the_run_goes_on(tmp_path):
    rows = {**rows_of_clients(), "broken": Unreliable(), "empty": []}
    history = a_trainer(tmp_path, client_datasets=rows).train()
    assert history[-1]["failures"] == {"broken": "OSError: disk gone", "empty": "ValueError: has no examples"}
    with pytest.raises(QuorumError, match="1 usable|0 usable.*broken: OSError: disk gone"):
        a_trainer(tmp_path / "alone", client_datasets={"broken": Unreliable()}).train()


class Tamperer(FederatedCallback):
    """Trains what is shared."""

    def on_client_end(self, trainer, update):
        update.fingerprint = "0" * 16


def test_a_client_that_changes_A_is_found_out(tmp_path):
    with pytest.raises(QuorumError, match="clinic-0: has changed tensors that are shared and frozen"):
        a_trainer(tmp_path, callbacks=[Tamperer()]).train()


def test_a_folder_with_rounds_is_not_overwritten(tmp_path):
    a_trainer(tmp_path).train()
    with pytest.raises(ValueError, match="holds rounds of a run: pass `resume_from_checkpoint=True`"):
        a_trainer(tmp_path).train()
    assert len(a_trainer(tmp_path).train(resume_from_checkpoint=True)) == 2


def test_a_torn_round_is_passed_over_and_old_ones_are_deleted(tmp_path):
    trainer = a_trainer(tmp_path, num_rounds=4)
    trainer.train()
    folders = sorted(path.name for path in tmp_path.glob("round_*"))
    assert folders == ["round_0003", "round_0004"]
    (tmp_path / "round_0004" / "adapter_state.safetensors").write_bytes(b"cut")
    again = a_trainer(tmp_path, num_rounds=4)
    again.train(resume_from_checkpoint=True)
    assert all(torch.equal(again.server.state[key], trainer.server.state[key]) for key in again.server.state)
    (tmp_path / "round_0004" / "checkpoint.json").unlink()
    with pytest.raises(ValueError, match="round_0004 is not a complete round"):
        a_trainer(tmp_path, num_rounds=4).train(resume_from_checkpoint=tmp_path / "round_0004")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client_datasets": {}}, "`client_datasets` is empty"),
        ({"client_datasets": {1: []}}, "text as client ids, got 1"),
        ({"min_clients": 4}, "`min_clients` is 4, there are 3 clients"),
        ({"client_ranks": {"nobody": 1}}, "`client_ranks` names 'nobody'.*they are clinic-0, clinic-1, clinic-2"),
        ({"client_eval_datasets": {"nobody": []}}, "`client_eval_datasets` has 'nobody'"),
    ],
)
def test_bad_arguments_are_refused_before_training(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        a_trainer(tmp_path, **options)


def test_a_bare_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a PeftModel"):
        a_trainer(tmp_path, model=tiny_bert())


def test_half_precision_adapters_are_averaged_exactly_and_stay_half(tmp_path):
    model = lora_model("bert", modules_to_save=None).to(torch.bfloat16)
    trainer = a_trainer(tmp_path, "bert", model=model, args=arguments(tmp_path, learning_rate=0.1))
    trainer.train()
    assert {tensor.dtype for tensor in trainer.server.state.values()} == {torch.bfloat16}
    folder = trainer.save_pretrained(tmp_path / "adapter")
    assert (folder / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("half", [True, False])
def test_mixed_precision_is_that_of_the_arguments(half, tmp_path):
    model, seen = lora_model(), set()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    a_trainer(tmp_path, model=model, args=arguments(tmp_path, bf16=half), num_rounds=1).train()
    assert seen == {torch.bfloat16 if half else torch.float32}


def test_the_head_moves_only_if_told(tmp_path):
    frozen, trained = (a_trainer(tmp_path / str(t), train_head=t, num_rounds=1) for t in (False, True))
    start = read_adapter(frozen.model)
    for trainer in (frozen, trained):
        trainer.train()
    (key,) = (key for key in start if key.endswith("classifier.weight"))
    assert torch.equal(frozen.server.state[key], start[key])
    assert not torch.equal(trained.server.state[key], start[key])


def test_columns_that_the_model_does_not_take_are_dropped(tmp_path):
    from datasets import Dataset

    rows = token_rows(12, 0)
    columns = {key: torch.stack([row[key] for row in rows]).tolist() for key in rows[0]}
    dataset = Dataset.from_dict({**columns, "sentence": ["x"] * 12}).rename_column("labels", "label")
    trainer = a_trainer(tmp_path, "bert", client_datasets=[dataset.with_format("torch")] * 2, num_rounds=1)
    assert trainer.train()[0]["failures"] == {}
    assert trainer.clients == ["0", "1"]
    odd = a_trainer(tmp_path / "odd", "bert", client_datasets=[dataset.select_columns(["sentence"])], num_rounds=1)
    with pytest.raises(QuorumError, match="none of the columns \\['sentence'\\] is an argument of BertFor"):
        odd.train()


def test_another_adapter_of_the_model_is_left_alone(tmp_path):
    model = lora_model("bert")
    model.add_adapter("other", LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    before = read_adapter(model, "other")
    a_trainer(tmp_path, "bert", model=model).train()
    assert all(torch.equal(tensor, before[key]) for key, tensor in live_tensors(model, "other").items())


class Lazy(dict):
    """Makes a client's rows when asked for them."""

    def __init__(self, count):
        super().__init__({f"{i:04d}": None for i in range(count)})
        self.made = 0

    def __getitem__(self, client):
        self.made += 1
        return image_rows(8, int(client))


def test_of_many_clients_only_the_asked_ones_are_made(tmp_path):
    rows = Lazy(1000)
    trainer = a_trainer(tmp_path, client_datasets=rows, client_fraction=0.005, local_steps=1)
    trainer.train()
    assert rows.made == 10


def test_the_result_loads_in_a_process_without_this_package(tmp_path):
    trainer = a_trainer(tmp_path / "run", "bert")
    trainer.train()
    folder = trainer.save_pretrained(tmp_path / "adapter")
    trainer.model.get_base_model()  # the base is written before the adapter went in
    tiny_bert().save_pretrained(tmp_path / "base")
    rows = token_rows(4, 99)
    ids = torch.stack([row["input_ids"] for row in rows]).tolist()
    code = (
        "import sys, json, torch\nsys.modules['eigenhub'] = None\n"
        "from transformers import AutoModelForSequenceClassification as Auto\nfrom peft import PeftModel\n"
        f"model = PeftModel.from_pretrained(Auto.from_pretrained({str(tmp_path / 'base')!r}), {str(folder)!r}).eval()\n"
        f"print(json.dumps(model(torch.tensor({ids})).logits.tolist()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert torch.allclose(torch.tensor(json.loads(out.splitlines()[-1])), logits(trainer.model, "bert"), atol=1e-6)


def test_what_is_pushed(monkeypatch, tmp_path):
    calls = {}

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private=None, exist_ok=False):
            calls["repo"] = repo_id
            return type("Repo", (), {"repo_id": f"me/{repo_id}"})

        def upload_folder(self, **options):
            calls.update(options)
            return type("Commit", (), {"commit_url": "https://example.org/commit"})

    monkeypatch.setattr("eigenhub.federated.saving.HfApi", Api)
    assert push_adapter(tmp_path, "adapter", private=True) == "https://example.org/commit"
    assert calls["repo_id"] == "me/adapter" and "round_*/*" in calls["ignore_patterns"]
    trainer = a_trainer(tmp_path / "run")
    trainer.train()
    trainer.push_to_hub("mine")
    assert calls["folder_path"] == tmp_path / "run" / "adapter"
