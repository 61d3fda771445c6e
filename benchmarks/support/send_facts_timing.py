# SPDX-License-Identifier: Apache-2.0
"""What SenD costs: an epoch of it beside one of the stock `Trainer`, and the tracking apart."""

import copy
import tempfile
import time
from statistics import median, quantiles
from typing import Any

from transformers import DataCollatorForSeq2Seq, PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from eigenhub.training.send import SenDConfig, SenDRuntime, SenDTrainer
from support.send_facts_runs import loaded, quiet
from support.timing import interleaved, ratio


class Stopwatch:
    """Seconds of everything that SenD does at a checkpoint, summed until it is read.

    Args:
        runtime ([`SenDRuntime`]): that is watched from now on.
    """

    def __init__(self, runtime: SenDRuntime) -> None:
        self.seconds, self._observe = 0.0, runtime.observe
        runtime.observe = self._timed  # type: ignore[method-assign]

    def _timed(self, *args: Any) -> dict[str, float]:
        started = time.perf_counter()
        logs = self._observe(*args)
        self.seconds += time.perf_counter() - started
        return logs

    def read(self) -> float:
        """The sum, which is then 0 again."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def timing(epochs: int, rounds: int) -> dict[str, Any]:
    """Seconds per epoch of both trainers on the same rows, in turn.

    Args:
        epochs (`int`): epochs in one call; from the fourth on indices are dropped.
        rounds (`int`): timed calls of each.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        task = loaded(0, 0.1)
        args = TrainingArguments(
            folder,
            per_device_train_batch_size=64,
            num_train_epochs=epochs,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        shared: dict[str, Any] = {
            "args": args,
            "train_dataset": task.train,
            "data_collator": DataCollatorForSeq2Seq(task.tokenizer, padding=True, label_pad_token_id=-100),
        }
        plain = Trainer(copy.deepcopy(task.model), **shared)
        send = SenDTrainer(
            copy.deepcopy(task.model), **shared, send_config=SenDConfig(track_batch_size=64), track_dataset=task.track
        )
        for trainer in (plain, send):
            trainer.remove_callback(PrinterCallback)
            trainer.remove_callback(ProgressCallback)
        watch, tracking = Stopwatch(send.send), list[float]()

        def run_send() -> None:
            send.train()
            tracking.append(watch.read())

        seconds = interleaved({"plain": plain.train, "SenD": run_send}, rounds, "time of an epoch")
    seconds["tracking"] = tracking[1:]  # the first call was not timed
    return {name: [value / epochs for value in values] for name, values in seconds.items()}


def timing_rows(seconds: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Ratios round by round, with their quartiles: SenD without its tracking, tracking, and both, over the stock trainer.

    Args:
        seconds (`dict`): from [`timing`].
    """
    outside = [whole - part for whole, part in zip(seconds["SenD"], seconds["tracking"], strict=True)]
    every = {**seconds, "outside": outside}
    return {name: ratio(every, name, "plain") for name in ("outside", "tracking", "SenD")}


def milliseconds(values: list[float]) -> str:
    """Median and quartiles, for people.

    Args:
        values (`list[float]`): seconds.
    """
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{1000 * median(values):.0f} ms ({1000 * low:.0f} to {1000 * high:.0f})"
