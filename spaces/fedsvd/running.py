# SPDX-License-Identifier: Apache-2.0
"""A run, told round by round in plain numbers; nothing outside of it is changed, so many may go on side by side."""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from changes import averaging_error, distance, singular_values
from federation import TRAINING, class_counts, new_trainer
from names import RANK
from settings import Settings

from eigenhub.federated import ClientUpdate, FederatedCallback, FederatedLoraTrainer, pair_lora_keys
from eigenhub.federated.downlink import num_bytes
from eigenhub.hub.space import download_folder, on_gpu
from eigenhub.hub.space_events import shown_to_visitor


CANNOT_RUN = "This run cannot be made"


class Observer(FederatedCallback):
    """Notes what the clients of a round sent, for the error that averaging would make of it."""

    def __init__(self) -> None:
        self.broadcast: dict[str, Any] = {}
        self.updates: list[ClientUpdate] = []

    def on_round_begin(self, trainer: FederatedLoraTrainer, round: int, clients: Sequence[str]) -> None:
        self.broadcast, self.updates = dict(trainer.server.state), []

    def on_client_end(self, trainer: FederatedLoraTrainer, update: ClientUpdate) -> None:
        self.updates.append(update)

    def averaging_error(self, weighting: str | None) -> float:
        """Of the round that has just ended."""
        weights = [float(update.num_examples) for update in self.updates] if weighting == "num_examples" else None
        return averaging_error(self.broadcast, [update.state for update in self.updates], weights)


class Run:
    """
    One run and what it has come to.

    Args:
        settings (`Settings`): what to do.
        folder (`str` or `Path`): for the state of its rounds.

    Attributes:
        record (`dict`): plain numbers and words, complete after every round.
    """

    def __init__(self, settings: Settings, folder: str | Path) -> None:
        self.settings, self.observer = settings, Observer()
        with TRAINING:
            self.trainer = new_trainer(settings, folder, [self.observer])
            self.record = self._new_record()
            self._measure({**self.trainer.evaluate(), "seconds": 0.0})

    @property
    def is_over(self) -> bool:
        return self.trainer.server.round >= self.settings.rounds

    def next_round(self) -> None:
        """Train one more round."""
        with TRAINING:
            self._train_round()
            if self.is_over:
                self._save()

    def _train_round(self) -> None:
        done = self.trainer.server.round
        self.trainer.should_stop = True  # after the round; the next call goes on from there
        self.trainer.train()
        if self.trainer.server.round == done:
            raise RuntimeError("every client has spent its privacy budget")
        row = self.trainer.history[-1]
        self._count(row)
        record, server = self.record, self.trainer.server
        record["participants"].append(list(row["clients"]))
        record["failures"].append(dict(row["failures"]))
        record["averaging_error"].append(self.observer.averaging_error(self.trainer.config.weighting))
        for layer, values in singular_values(server, RANK).items():
            record["singular_values"].setdefault(layer, []).append(values)
        self._measure(row)
        record["finished"] = self.is_over

    def _save(self) -> None:
        """Write the adapter where the visitor can take it from."""
        folder = self.trainer.save_pretrained(download_folder())
        names = ("adapter_model.safetensors", "adapter_config.json", "fedsvd_config.json", "privacy_ledger.json")
        self.record["files"] = [str(folder / name) for name in names if (folder / name).is_file()]

    def _new_record(self) -> dict[str, Any]:
        ledger, settings = self.trainer.ledger, self.settings
        training, kept = self.trainer.client_datasets, self.trainer.client_eval_datasets
        return {
            "label": settings.label,
            "settings": settings.to_dict(),
            "clients": list(self.trainer.clients),
            "class_counts": class_counts({name: [*training[name], *kept[name]] for name in training}),
            "accuracy": [],
            "client_accuracy": {} if settings.hides_clients else {name: [] for name in self.trainer.clients},
            "epsilon": {} if ledger is None else {name: [] for name in self.trainer.clients},
            "noise": {} if ledger is None else {name: ledger.noise_multiplier(name) for name in self.trainer.clients},
            **{name: [0] for name in ("upload_bytes", "download_bytes", "plain_upload_bytes", "plain_download_bytes")},
            **{name: [] for name in ("participants", "failures", "averaging_error", "seconds", "files")},
            "singular_values": {},
            "claim": "",
            "finished": False,
        }

    def _measure(self, row: dict[str, Any]) -> None:
        record, ledger = self.record, self.trainer.ledger
        record["accuracy"].append(row["eval_accuracy"])
        record["seconds"].append(row["seconds"])
        if record["client_accuracy"]:
            for name, scores in self.trainer.evaluate_clients()["clients"].items():
                record["client_accuracy"][name].append(scores["eval_accuracy"])
        if ledger is not None:
            for name, spent in ledger.spent().items():
                record["epsilon"][name].append(spent)
            record["claim"] = ledger.claim()

    def _count(self, row: dict[str, Any]) -> None:
        """Bytes so far, and what plain averaging of both factors would have sent."""
        state, asked = self.trainer.server.state, row["clients"]
        factors = num_bytes({key: state[key] for pair in pair_lora_keys(state).values() for key in pair})
        known = {name for names in self.record["participants"] for name in names}
        head = num_bytes(state) - factors  # never changes, so it goes out with a client's first round only
        added = {
            "upload_bytes": row["upload_bytes"],
            "download_bytes": row["download_bytes"],
            "plain_upload_bytes": factors * len(asked),
            "plain_download_bytes": factors * len(asked) + head * len(set(asked) - known),
        }
        for name, count in added.items():
            self.record[name].append(self.record[name][-1] + count)


@on_gpu
def federate(settings: Settings) -> Iterator[dict[str, Any]]:
    """The record before the first round and after every round; that of the last one names the adapter's files."""
    with tempfile.TemporaryDirectory() as folder, shown_to_visitor(CANNOT_RUN):
        run = Run(settings, folder)
        yield copy.deepcopy(run.record)
        while not run.is_over:
            run.next_round()
            yield copy.deepcopy(run.record)


@on_gpu
def run_pair(settings: Settings, methods: Sequence[str] = ("fedsvd", "ffa_orth")) -> Iterator[dict[str, Any]]:
    """Two methods in step under the same settings: their records, and how far their products are apart after each round."""
    apart: list[float] = []
    with tempfile.TemporaryDirectory() as folder, shown_to_visitor(CANNOT_RUN):
        runs = [Run(replace(settings, method=method), Path(folder) / method) for method in methods]
        while True:
            yield {"runs": [copy.deepcopy(run.record) for run in runs], "distance": list(apart)}
            if runs[0].is_over:
                return
            for run in runs:
                run.next_round()
            apart.append(distance(*(run.trainer.server for run in runs)))
