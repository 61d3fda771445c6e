# SPDX-License-Identifier: Apache-2.0
"""What every training protocol must do: subclass [`CallbackTester`] and say how its `Trainer` is made.

    class TestSenDContract(CallbackTester):
        def trainer(self, folder, settings, **options):
            return make_trainer(folder, settings, **options)   # a module-level function, also run in other processes

Its settings are JSON, its state is whatever must be the same: masks, counters, indices.
"""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.testing import assert_close
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from tests.support.data import counting_rows
from tests.support.distributed import run_function
from tests.support.models import tiny_llama, tiny_tokenizer


ROWS = 16
EPOCHS = 6
BATCH = 8
STEPS = EPOCHS * ROWS // BATCH


def rows(number: int = ROWS, seed: int = 0) -> list[dict[str, list[int]]]:
    return [{"input_ids": row} for row in counting_rows(number, length=8, seed=seed)]


def make_model(kind: str = "plain") -> Any:
    model = tiny_llama(num_hidden_layers=3).train()
    if kind == "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return get_peft_model(
                model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
            )
    return model


def arguments(folder: Path | str, **options: Any) -> TrainingArguments:
    return TrainingArguments(
        **{
            "output_dir": str(folder), "num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH, "seed": 0,
            "learning_rate": 3e-3, "save_strategy": "steps", "save_steps": STEPS // 2, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True,
            "lr_scheduler_type": "constant", **options,
        }
    )  # fmt: skip


def common_parts() -> dict[str, Any]:
    """Everything of a `Trainer` but model, arguments and what the protocol adds."""
    tokenizer = tiny_tokenizer()
    return {
        "train_dataset": rows(),
        "eval_dataset": rows(4, seed=7),
        "data_collator": DataCollatorForLanguageModeling(tokenizer, mlm=False),
    }


def plain_trainer(folder: Path | str, model: str = "plain", **options: Any) -> Trainer:
    return Trainer(model=make_model(model), args=arguments(folder, **options), **common_parts())


def weights(trainer: Trainer) -> list[Tensor]:
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in trainer.model.parameters()]
    return [p.detach().clone() for p in whole]


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_same_weights(first: Trainer, second: Trainer) -> None:
    assert all(a.equal(b) for a, b in zip(weights(first), weights(second), strict=True))


class CallbackTester:
    """Contract of a callback or protocol under `Trainer`."""

    #: Sets of settings by name, each of which acts before the last epochs.
    variants: ClassVar[dict[str, dict[str, Any]]]
    #: Names of those that the default tests leave out.
    slow_variants: ClassVar[tuple[str, ...]] = ()
    #: Settings that watch only.
    no_op: ClassVar[dict[str, Any]]
    #: Module-level function with the arguments `(folder, settings, model="plain", **options)` for `TrainingArguments`.
    make: ClassVar[Any]
    #: Module-level function from a trainer to JSON.
    state_of: ClassVar[Any]
    #: Module-level function `(folder, settings, options, model, resume_from=None)` that trains and returns [`report`].
    run: ClassVar[Any]

    # pytest calls this for every test of a subclass
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "variant" in metafunc.fixturenames:
            slow = [pytest.param(name, marks=pytest.mark.slow) for name in self.slow_variants]
            metafunc.parametrize("variant", [*sorted(self.variants.keys() - set(self.slow_variants)), *slow])

    def trained(self, folder: Path, settings: dict[str, Any], **options: Any) -> Trainer:
        trainer = type(self).make(folder, settings, **options)
        trainer.train()
        return trainer

    @pytest.fixture(scope="class")
    @classmethod
    def runs(cls, tmp_path_factory: pytest.TempPathFactory) -> "Runs":
        return Runs(cls.make, tmp_path_factory)

    def resumed(self, whole: Trainer, folder: Path, settings: dict[str, Any], **options: Any) -> Trainer:
        """A run that goes on from the middle of another one."""
        trainer = type(self).make(folder, settings, **options)
        trainer.train(resume_from_checkpoint=str(Path(str(whole.args.output_dir)) / f"checkpoint-{STEPS // 2}"))
        return trainer

    @pytest.mark.parametrize("model", ["plain", "lora"])
    def test_the_no_op_is_plain_training_to_the_bit(self, tmp_path: Path, runs: "Runs", model: str) -> None:
        expected = runs.plain(model)
        watched = self.trained(tmp_path / "watched", self.no_op, model=model, save_strategy="no")
        assert_same_weights(watched, expected)
        assert losses(watched) == losses(expected)

    def test_it_acts(self, runs: "Runs", variant: str) -> None:
        found = runs.whole(self.variants[variant])
        assert not all(a.equal(b) for a, b in zip(weights(found), weights(runs.plain("plain")), strict=True))

    def test_accumulation_changes_nothing_but_rounding(self, tmp_path: Path, runs: "Runs", variant: str) -> None:
        options = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2, "save_strategy": "no"}
        parts = self.trained(tmp_path, self.variants[variant], **options)
        self.assert_close_runs(parts, runs.whole(self.variants[variant]))

    @pytest.mark.parametrize("restore", [False, True])
    def test_a_resumed_run_ends_the_same(self, tmp_path: Path, runs: "Runs", variant: str, restore: bool) -> None:
        whole = runs.whole(self.variants[variant])
        options = {"restore_callback_states_from_checkpoint": restore}
        resumed = self.resumed(whole, tmp_path, self.variants[variant], **options)
        assert_same_weights(resumed, whole)
        assert losses(resumed) == losses(whole)
        assert type(self).state_of(resumed) == type(self).state_of(whole)

    def test_adapters_train_with_it_and_resume(self, tmp_path: Path, runs: "Runs", variant: str) -> None:
        whole = runs.whole(self.variants[variant], "lora")
        resumed = self.resumed(whole, tmp_path, self.variants[variant], model="lora")
        assert_same_weights(resumed, whole)
        assert type(self).state_of(resumed) == type(self).state_of(whole)

    def test_gradient_checkpointing_changes_nothing(self, tmp_path: Path, runs: "Runs", variant: str) -> None:
        saving = self.trained(tmp_path, self.variants[variant], save_strategy="no", activation_checkpointing=True)
        self.assert_close_runs(saving, runs.whole(self.variants[variant]))

    @pytest.mark.slow
    def test_compilation_changes_nothing(self, tmp_path: Path, runs: "Runs", variant: str) -> None:
        torch.compiler.reset()
        compiled = self.trained(tmp_path, self.variants[variant], save_strategy="no", torch_compile_backend="eager")
        assert isinstance(compiled.model_wrapped, torch._dynamo.OptimizedModule)
        self.assert_close_runs(compiled, runs.whole(self.variants[variant]))

    @pytest.mark.slow
    @pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
    def test_two_processes_end_where_one_does_and_resume(
        self, tmp_path: Path, runs: "Runs", variant: str, engine: str
    ) -> None:
        self.check_two_processes(tmp_path, runs, self.variants[variant], engine, "plain")

    @pytest.mark.slow
    @pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
    def test_adapters_in_two_processes(self, tmp_path: Path, runs: "Runs", engine: str) -> None:
        self.check_two_processes(tmp_path, runs, next(iter(self.variants.values())), engine, "lora")

    def check_two_processes(
        self, folder: Path, runs: "Runs", settings: dict[str, Any], engine: str, model: str
    ) -> None:
        """Against one process up to rounding, and from the middle on against itself to the bit."""
        one = runs.whole(settings, model)
        # evaluations in between must leave no trace
        options = {"per_device_train_batch_size": BATCH // 2, "eval_strategy": "epoch", **ENGINES[engine]}
        keywords = {"folder": str(folder), "settings": settings, "options": options, "model": model}
        straight = run_function(type(self).run, nproc=2, **keywords)
        for found in straight:
            assert found["sharded"] == (engine == "fsdp2")
            assert found["state"] == type(self).state_of(one)
            assert found["losses"] == pytest.approx(losses(one), abs=5e-3)
            for a, b in zip(found["weights"], weights(one), strict=True):
                assert_close(torch.tensor(a).view(b.shape), b, atol=2e-4, rtol=1e-3)
        middle = str(folder / f"checkpoint-{STEPS // 2}")
        assert run_function(type(self).run, nproc=2, **keywords, resume_from=middle) == straight

    def assert_close_runs(self, first: Trainer, second: Trainer) -> None:
        assert type(self).state_of(first) == type(self).state_of(second)
        for a, b in zip(weights(first), weights(second), strict=True):
            assert_close(a, b, atol=2e-4, rtol=1e-3)


class Runs:
    """Uninterrupted runs with their checkpoints, made once for all tests of a class."""

    def __init__(self, make: Any, folders: pytest.TempPathFactory) -> None:
        self.make, self.folders = make, folders
        self.known: dict[str, Trainer] = {}

    def plain(self, model: str) -> Trainer:
        return self._run(f"plain {model}", lambda folder: plain_trainer(folder, model, save_strategy="no"))

    def whole(self, settings: dict[str, Any], model: str = "plain") -> Trainer:
        return self._run(f"{settings} {model}", lambda folder: self.make(folder, settings, model=model))

    def _run(self, name: str, make: Any) -> Trainer:
        if name not in self.known:
            self.known[name] = make(self.folders.mktemp("run"))
            self.known[name].train()
        return self.known[name]


FSDP2 = {
    "version": 2,
    "state_dict_type": "SHARDED_STATE_DICT",
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"],
}
ENGINES: dict[str, dict[str, Any]] = {"ddp": {}, "fsdp2": {"fsdp": True, "fsdp_config": FSDP2}}


def allow_fsdp_on_cpus() -> None:
    """Accelerate takes no notice of FSDP where the processes are on CPUs, and would train by DDP; torch can do it there."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    plain = AcceleratorState.__init__

    def patched(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        plain(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    AcceleratorState.__init__ = patched


def report(trainer: Trainer, state: Any) -> dict[str, Any]:
    """What a process of [`CallbackTester.run`] returns: numbers that JSON takes."""
    flat = [value.flatten().tolist() for value in weights(trainer)]
    sharded = any(hasattr(parameter, "full_tensor") for parameter in trainer.model.parameters())
    return {"losses": losses(trainer), "state": state, "weights": flat, "sharded": sharded}
