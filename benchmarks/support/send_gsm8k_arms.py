# SPDX-License-Identifier: Apache-2.0
"""The model trained further on problems it has not seen: plainly, with SenD, with random indices, with averaged weights."""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import (
    DataCollatorForSeq2Seq,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from eigenhub.training.held_out import HeldOut
from eigenhub.training.send import SenDConfig, SenDTrainer, split_tracking
from support.send_gsm8k_data import Step, is_right, read, text_of
from support.send_gsm8k_model import BLOCK, gsm8k_tokenizer, load_model, new_rows
from support.send_gsm8k_scores import greedy_answers


#: Name of an arm and the mode of `SenDConfig`; all train on the same rows.
ARMS = {"plain": "off", "SenD": "send", "random indices": "random", "averaged weights": "ema"}
RHO, WINDOW, REFRESH, BATCH, LR = 0.2, 3, 3, 8, 1e-3
PROBLEMS, TRACKED, HELD_OUT = 160, 0.2, 32


class _Evaluations(TrainerCallback):
    """Which steps are right and the loss on test problems, before and after each epoch; of the average in mode `"ema"`."""

    def __init__(self, trainer: SenDTrainer, steps: Sequence[Step], collate: DataCollatorForSeq2Seq) -> None:
        self.trainer, self.steps = trainer, steps
        self.held_out = HeldOut(trainer.accelerator, encoded(read("test")[:HELD_OUT]), BATCH, collate)
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._evaluate()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Here and not at the end of the epoch, so that the average is that of the step and the masks are not yet new."""
        epoch = state.epoch or 0.0
        if epoch == int(epoch):
            self._evaluate()

    def _evaluate(self) -> None:
        model: Any = self.trainer.model
        average = self.trainer.send.average
        with nullcontext() if average is None else average.applied():
            answers = greedy_answers(model, self.steps)
            loss = self.held_out.loss(model)
        right = [is_right(answer, step.answer) for answer, step in zip(answers, self.steps, strict=True)]
        self.rows.append({"loss": loss, "right": right, "dropped": self.trainer.send.dropped})


def train_arm(base: Path, arm: str, epochs: int, seed: int, steps: Sequence[Step]) -> dict[str, Any]:
    """One run and its evaluations.

    Args:
        base (`Path`): folder of the model to start from.
        arm (`str`): of `ARMS`.
        epochs (`int`): passes over the new problems; the first mask comes after the third.
        seed (`int`): of order, tracked problems and random indices.
        steps (`Sequence[Step]`): what is asked.
    """
    set_seed(seed)
    tokenizer = gsm8k_tokenizer()
    collate = DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100)
    config = SenDConfig(mode=ARMS[arm], rho=RHO, window=WINDOW, refresh_every=REFRESH, seed=seed)
    trained, tracked = split_tracking(encoded(new_rows()[:PROBLEMS]), TRACKED, seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SenDTrainer(
            load_model(base),
            training_arguments(folder, epochs, seed),
            train_dataset=trained,
            track_dataset=tracked,
            data_collator=collate,
            send_config=config,
        )
        watch = _Evaluations(trainer, steps, collate)
        trainer.add_callback(watch)
        trainer.train()
        return {"evaluations": watch.rows, "refreshes": trainer.send.refreshes}


def training_arguments(folder: str, epochs: int, seed: int) -> TrainingArguments:
    """AdamW at a constant rate, as in the published runs.

    Args:
        folder (`str`): nothing is saved there.
        epochs (`int`): passes.
        seed (`int`): of the order.
    """
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        num_train_epochs=epochs,
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        seed=seed,
        data_seed=seed,
        use_cpu=Accelerator().device.type == "cpu",
        disable_tqdm=True,
    )


def encoded(rows: Sequence[dict[str, str]]) -> list[dict[str, list[int]]]:
    """Problems with a loss on all their tokens, cut at the length that the model was trained on.

    Args:
        rows (`Sequence[dict]`): with `question` and `answer`.
    """
    tokenizer = gsm8k_tokenizer()
    found = []
    for ids in tokenizer([text_of(row) for row in rows])["input_ids"]:
        whole = [*ids, tokenizer.eos_token_id][:BLOCK]
        found.append({"input_ids": whole, "labels": list(whole)})
    return found


def flip_share(evaluations: Sequence[dict[str, Any]], first: int = 1) -> float:
    """Mean share of the steps that were right and are not, or the other way round, from one epoch to the next.

    Args:
        evaluations (`Sequence[dict]`): with `right`.
        first (`int`, *optional*, defaults to 1): epoch that the first comparison starts from.
    """
    pairs = list(zip(evaluations[first:-1], evaluations[first + 1 :], strict=True))
    if not pairs:
        raise ValueError(f"`evaluations` must be three or more, got {len(evaluations)}")
    shares = [
        sum(a != b for a, b in zip(before["right"], after["right"], strict=True)) / len(before["right"])
        for before, after in pairs
    ]
    return sum(shares) / len(shares)
