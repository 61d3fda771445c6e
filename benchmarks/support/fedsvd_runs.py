# SPDX-License-Identifier: Apache-2.0
"""Single federated runs of the FedSVD study."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import EvalPrediction, TrainingArguments
from transformers.utils import logging

from eigenhub.federated import DPConfig, FederatedCallback, FederatedLoraTrainer, FedSVDConfig
from support.fedsvd_tasks import TASKS, FederatedTask


LOCAL_STEPS, FRACTION = 10, 0.5
CLIP, DP_CLIP, EPSILON = 1.0, 2.0, 6.0


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def new_trainer(
    task: FederatedTask,
    method: str,
    lr: float,
    rounds: int,
    seed: int,
    folder: str,
    dp_clip: float | None = None,
    optim: str = "sgd",
    eval_every: int = 5,
    init_A: str = "keep",
    callbacks: Sequence[FederatedCallback] = (),
    model: PeftModel | None = None,
) -> FederatedLoraTrainer:
    """A trainer with the settings of the study: 3 of 6 clients a round, 10 steps each, nothing kept between rounds.

    Args:
        task (`FederatedTask`): clients and model.
        method (`str`): of `FedSVDConfig`.
        lr (`float`): constant learning rate.
        rounds (`int`): rounds of the run.
        seed (`int`): of A, a random head, the choice of clients and the order of their rows.
        folder (`str`): for the saved rounds.
        dp_clip (`float`, *optional*): C; with it the run is private at an epsilon of 6.
        optim (`str`, *optional*, defaults to `"sgd"`): of `TrainingArguments`.
        eval_every (`int`, *optional*, defaults to 5): rounds between two evaluations.
        init_A (`str`, *optional*, defaults to `"keep"`): of `FedSVDConfig`.
        callbacks (`Sequence[FederatedCallback]`, *optional*): watch the run.
        model (`PeftModel`, *optional*): in place of a new one.
    """
    args = TrainingArguments(
        folder,
        per_device_train_batch_size=task.batch_size,
        per_device_eval_batch_size=256,
        learning_rate=lr,
        optim=optim,
        lr_scheduler_type="constant",
        max_grad_norm=CLIP,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    # Rényi accounting: half of the rounds of a client are planned, and it is a second quicker for every client and round
    dp = DPConfig(EPSILON, task.delta, max_grad_norm=dp_clip, accountant="rdp") if dp_clip else None
    config = FedSVDConfig(
        method=method,
        num_rounds=rounds,
        local_steps=LOCAL_STEPS,
        client_fraction=FRACTION,
        seed=seed,
        eval_every=eval_every,
        checkpoint_every=1 if dp else rounds,
        init_A=init_A,
        train_head=task.train_head,
        dp=dp,
    )
    return FederatedLoraTrainer(
        model or task.new_model(seed),
        args,
        task.clients,
        config=config,
        compute_metrics=accuracy,
        eval_dataset=task.splits["test"],
        processing_class=task.tokenizer,
        callbacks=callbacks,
    )


def federated_run(
    task: str,
    method: str,
    lr: float,
    rounds: int,
    seed: int,
    dp_clip: float | None = None,
    optim: str = "sgd",
    eval_every: int = 5,
) -> dict[str, Any]:
    """Test accuracy by round of one run, in per cent, that on the dev split at its end, and what the run cost.

    Args:
        task (`str`): `digits`, `sentences` or `frozen head`.
        method (`str`): see [`new_trainer`], as for the others.
        lr (`float`): learning rate.
        rounds (`int`): rounds.
        seed (`int`): also of the division among clients.
        dp_clip (`float`, *optional*): C of a private run.
        optim (`str`, *optional*, defaults to `"sgd"`): optimizer.
        eval_every (`int`, *optional*, defaults to 5): rounds between two evaluations.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        made = TASKS[task](seed)
        trainer = new_trainer(made, method, lr, rounds, seed, folder, dp_clip, optim, eval_every)
        history = trainer.train()
        dev = 100 * trainer.evaluate(made.splits["dev"])["eval_accuracy"] if "dev" in made.splits else None
    last = history[-1]
    return {
        "accuracy": {
            str(record["round"]): 100 * record["eval_accuracy"] for record in history if "eval_accuracy" in record
        },
        "dev": dev,
        "epsilon": last.get("epsilon"),
        "upload_bytes": sum(record["upload_bytes"] for record in history),
        "seconds": sum(record["seconds_training"] for record in history),
    }


@contextlib.contextmanager
def quiet() -> Any:
    """Without the bars and the advice of the libraries; what fails is still raised."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def products(state: dict[str, torch.Tensor]) -> torch.Tensor:
    """B A of all layers of an adapter in one float64 vector.

    Args:
        state (`dict[str, Tensor]`): of the whole adapter.
    """
    from eigenhub.federated import pair_lora_keys

    pairs = pair_lora_keys(state)
    return torch.cat([(state[pair.B].double() @ state[pair.A].double()).flatten() for pair in pairs.values()])
