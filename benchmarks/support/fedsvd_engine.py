# SPDX-License-Identifier: Apache-2.0
"""Rounds of the federated trainer timed against the same rounds by hand."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import RobertaForSequenceClassification, set_seed

from eigenhub.embedded.roberta import TARGET_MODULES, small_roberta_config
from eigenhub.federated.sampling import sample_clients
from support.fedsvd_bare import bare_rounds
from support.fedsvd_runs import CLIP, LOCAL_STEPS, new_trainer, quiet
from support.fedsvd_tasks import FederatedTask, digits_task, lora_config, sentences_task
from support.report import row


def seconds_of(call: Callable[[], object]) -> float:
    """Processor seconds of one call.

    Args:
        call (`Callable`): what to time.
    """
    start = time.process_time()
    call()
    return time.process_time() - start


def engines(rounds: int, repeats: int) -> list[dict]:
    """The engine under steps of three lengths: what it adds to a step does not grow with the model.

    Args:
        rounds (`int`): rounds of one timing.
        repeats (`int`): timings, of which the fastest count.
    """
    return [
        engine("small ViT", digits_task(0), rounds, repeats, None),
        engine("small RoBERTa", sentences_task(0), rounds, repeats, None),
        engine("RoBERTa of width 256", wide_task(), max(2, rounds // 5), repeats, 0.05),
    ]


def wide_task() -> FederatedTask:
    """The sentences with an untrained RoBERTa of width 256 and four layers: a step of a tenth of a second."""
    task = sentences_task(0)

    def new_model(seed: int) -> PeftModel:
        set_seed(seed)
        config = small_roberta_config(task.tokenizer, hidden_size=256, num_layers=4)
        return get_peft_model(RobertaForSequenceClassification(config), lora_config(TARGET_MODULES))

    return replace(task, new_model=new_model)


def engine(name: str, task: FederatedTask, rounds: int, repeats: int, bound: float | None) -> dict:
    """Processor time of the trainer's rounds beyond that of the same rounds by hand."""
    _engine_and_hand(task, 1)  # imports and first calls
    pairs = [_engine_and_hand(task, rounds) for _ in range(repeats)]
    extra = [ours / by_hand - 1 for ours, by_hand in pairs]
    fastest = [min(seconds) for seconds in zip(*pairs, strict=True)]
    a_step = 1e3 * fastest[1] / (rounds * 3 * 10)
    setting = f"{name}, {rounds} rounds of 3 clients with 10 steps, batch {task.batch_size}; {a_step:.2g} ms a step"
    return row(
        "time of the engine beyond a loop by hand",
        setting,
        fastest[0] / fastest[1] - 1,
        bound,
        "excess",
        range=[min(extra), max(extra)],
    )


def _engine_and_hand(task: FederatedTask, rounds: int) -> tuple[float, float]:
    """Seconds of both, after a check that they end at the same B: else a comparison means nothing."""
    task, lr, found = replace(task, train_head=False), 0.1, {}  # the loop by hand has no head to train
    with quiet(), tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(task, "ffa", lr, rounds, 0, folder)
        trainer.eval_dataset = None
        chosen = [sample_clients(trainer.clients, number, trainer.config) for number in range(1, rounds + 1)]
        model = task.new_model(0)
        ours = seconds_of(trainer.train)
        by_hand = seconds_of(lambda: found.update(bare_rounds(task, model, chosen, LOCAL_STEPS, lr, CLIP, 0)))
    _check_same(trainer.server.state, found)
    return ours, by_hand


def _check_same(state: dict[str, Tensor], by_hand: dict[str, Tensor]) -> None:
    for name, tensor in by_hand.items():
        ours = state[name.replace(".default.", ".")]
        if (ours - tensor).norm() > 1e-3 * tensor.norm():
            raise RuntimeError(f"the engine and the loop by hand end at different values of {name}")
