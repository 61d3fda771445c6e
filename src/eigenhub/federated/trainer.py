# SPDX-License-Identifier: Apache-2.0
"""A federated LoRA run in one process: the clients train one after the other on the same model."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.utils import logging

from eigenhub.federated.base_weights import BaseWeights
from eigenhub.federated.callbacks import FederatedCallback
from eigenhub.federated.client import run_client
from eigenhub.federated.client_data import by_client, model_columns, summarised
from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.downlink import num_bytes
from eigenhub.federated.evaluation import Evaluator
from eigenhub.federated.local_job import LocalJob, job_seed
from eigenhub.federated.local_training import LocalTraining
from eigenhub.federated.lora_model import check_lora_model, live_tensors, lora_scalings, read_adapter, write_adapter
from eigenhub.federated.privacy_ledger import PrivacyLedger
from eigenhub.federated.recipes import recipe_of
from eigenhub.federated.refactor_model import prepare_adapter_
from eigenhub.federated.round_files import latest_round, list_rounds, write_round
from eigenhub.federated.sampling import most_participations, sample_clients
from eigenhub.federated.saving import push_adapter, save_adapter
from eigenhub.federated.server import FederatedServer
from eigenhub.federated.updates import ClientUpdate, QuorumError, RejectedUpdate
from eigenhub.files import check_entries, lock_folder, naming, read_json, write_text
from eigenhub.training.accumulation import check_loss_kwargs
from eigenhub.training.checkpoint_files import read_manifest


logger = logging.get_logger(__name__)

HISTORY_FILE = "history.json"
LEDGER_FILE = "ledger_state.json"


class FederatedLoraTrainer:
    """
    Trains one LoRA adapter on the data of many clients, which take their turns in this process.

    The rounds are those of [`FederatedServer`], the local steps those of [`LocalTraining`] on an `Accelerator`
    (several processes are data-parallel inside a client). Every client's part is a function of the broadcast adapter,
    the seed, the round and its id, so a resumed run repeats the uninterrupted one to the bit (under differential privacy
    the noise is drawn anew). Train one at a time: accelerate keeps its state per process, so that two trainers must not
    train in two threads.

    Args:
        model (`PeftModel`): with a plain LoRA adapter; what is trainable in a round is set here.
        args (`TrainingArguments`): of the local training: batch size, accumulation, `optim`, learning rate (constant in a
            round; `lr_scheduler_type` runs over the rounds), clipping, precision; `output_dir` and `save_total_limit` of
            the saved rounds.
        client_datasets (`Mapping[str, Dataset]` or `Sequence[Dataset]`): training rows of every client.
        data_collator (`Callable`, *optional*): by default pads with `processing_class`, or stacks.
        config (`FedSVDConfig`, *optional*): method and rounds.
        compute_metrics (`Callable`, *optional*): of `EvalPrediction`, as for `Trainer`.
        trainer_cls (`type[Trainer]`, *optional*): trains the clients in place of the loop over accelerate.
        eval_dataset (`Dataset`, *optional*): the global adapter is evaluated on it every `eval_every` rounds.
        client_eval_datasets (`Mapping` or `Sequence`, *optional*): held-out rows of every client, for
            [`~FederatedLoraTrainer.evaluate_clients`] and [`~FederatedLoraTrainer.evaluate_personalized`].
        processing_class (`PreTrainedTokenizerBase`, *optional*): pads and is saved beside the adapter.
        callbacks (`Sequence[FederatedCallback]`, *optional*): see [`FederatedCallback`].
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter of the model.
        compute_loss (`Callable`, *optional*): outputs and labels to losses per example, under differential privacy.

    Attributes:
        history (`list[dict]`): one record per round: clients, failures, bytes, seconds, figures.
        server (`FederatedServer`): state of the adapter.
        ledger (`PrivacyLedger`): under differential privacy, else `None`.
        should_stop (`bool`): set by a callback to end after the round.

    Raises:
        ValueError: for a model, arguments or data that cannot be federated.
    """

    def __init__(
        self,
        model: PeftModel,
        args: TrainingArguments,
        client_datasets: Mapping[str, Dataset] | Sequence[Dataset],
        data_collator: Callable[[list], dict[str, Any]] | None = None,
        config: FedSVDConfig | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        trainer_cls: type[Trainer] | None = None,
        *,
        eval_dataset: Dataset | None = None,
        client_eval_datasets: Mapping[str, Dataset] | Sequence[Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: Sequence[FederatedCallback] = (),
        adapter_name: str = "default",
        compute_loss: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> None:
        check_lora_model(model, adapter_name)
        self.model, self.args, self.adapter_name = model, args, adapter_name
        self.output_dir = Path(args.output_dir or "trainer_output")
        self.config = config or FedSVDConfig()
        self.client_datasets = by_client(client_datasets, "client_datasets")
        self.clients = list(self.client_datasets)
        self.client_eval_datasets = (
            by_client(client_eval_datasets, "client_eval_datasets") if client_eval_datasets else {}
        )
        self.eval_dataset, self.compute_metrics, self.processing_class = (
            eval_dataset,
            compute_metrics,
            processing_class,
        )
        self.data_collator = data_collator or _default_collator(processing_class)
        self.callbacks = list(callbacks)
        self.training = LocalTraining(args, self.config, self.data_collator, trainer_cls, compute_loss)
        self.history: list[dict[str, Any]] = []
        self.should_stop = False
        self._served: set[str] = set()
        self._evaluator: Evaluator | None = None
        self._check_arguments(trainer_cls)
        model.to(self.training.accelerator.device)
        prepare_adapter_(model, self.config, adapter_name)
        moves_base = recipe_of(self.config.method).moves_base
        self.base = BaseWeights(model, adapter_name) if moves_base else None
        self.server = FederatedServer(
            self.config, read_adapter(model, adapter_name), lora_scalings(model, adapter_name)
        )
        self.ledger = self._make_ledger()

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> list[dict[str, Any]]:
        """Run the rounds that are left and leave the global adapter in the model.

        Args:
            resume_from_checkpoint (`bool`, `str` or `Path`, *optional*): `True` goes on from the newest complete
                `round_*` folder of `output_dir`, if there is one; a path from that folder.

        Returns:
            `list[dict]`: the history.

        Raises:
            QuorumError: too few usable replies in a round; the state before it is saved.
            ValueError: if `output_dir` holds rounds and it was not said to resume.
        """
        self._resume(resume_from_checkpoint)
        self._call("on_train_begin")
        rounds = range(self.server.round + 1, self.config.num_rounds + 1)
        quiet = self.args.disable_tqdm or not self.training.accelerator.is_local_main_process
        bar = tqdm(rounds, "rounds", initial=self.server.round, total=self.config.num_rounds, disable=quiet)
        for round in bar:
            if not (clients := self._choose(round)):
                logger.warning("the run ends before round %d: every client has spent its privacy budget", round)
                break
            record = self._run_round(round, clients)
            shown = {
                name: f"{record[name]:.4g}" for name in ("eval_accuracy", "epsilon", "eval_loss") if name in record
            }
            bar.set_postfix(shown, refresh=False)
            if self.should_stop:
                break
        self._load_global()
        self._call("on_train_end")
        return self.history

    def evaluate(self, eval_dataset: Dataset | None = None) -> dict[str, Any]:
        """Loss and metrics of the global adapter.

        Args:
            eval_dataset (`Dataset`, *optional*): by default that of the trainer.

        Raises:
            ValueError: if there is none.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("`eval_dataset` is needed here or in the trainer")
        self._load_global()
        return self._evaluate(dataset)

    def evaluate_clients(self) -> dict[str, Any]:
        """The global adapter on every client's held-out rows.

        Returns:
            `dict`: under `clients` the figures of each, and of every figure mean, weighted mean, 10th percentile, worst.

        Raises:
            ValueError: without held-out rows, or under differential privacy without `private_metrics`.
        """
        self._check_private_metrics()
        self._load_global()
        return self._over_clients(lambda client, dataset: self._evaluate(dataset))

    def evaluate_personalized(self, num_steps: int = 10) -> dict[str, Any]:
        """The same after each client has trained B for some more steps on its own rows; nothing leaves it.

        Args:
            num_steps (`int`, *optional*, defaults to 10): local steps; not private, for the client's own use.

        Returns:
            `dict`: see [`~FederatedLoraTrainer.evaluate_clients`].

        Raises:
            ValueError: as there, and for fewer than 1 step.
        """
        if num_steps < 1:
            raise ValueError(f"`num_steps` must be at least 1, got {num_steps}")
        self._check_private_metrics()
        self._load_global()
        training = self.training.without_privacy()

        def personalised(client: str, dataset: Dataset) -> dict[str, Any]:
            job = self._job(client, self.server.round + 1, num_steps)
            rows = self._rows(self.client_datasets[client])
            run_client(self.model, self.server.state, "B", rows, job, training, self.adapter_name, self._rank(client))
            return self._evaluate(dataset)

        scores = self._over_clients(personalised)
        self._load_global()
        return scores

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> Path:
        """Write the global adapter as stock PEFT loads it, the configuration of the run and the privacy ledger.

        For FedEx and FLoRA, which add to the base weights, the adapter contains what they added, at a higher rank.

        Args:
            save_directory (`str` or `Path`): folder, made if necessary.
            push_to_hub (`bool`, *optional*, defaults to `False`): also push it.
            kwargs (`Any`): for [`~FederatedLoraTrainer.push_to_hub`].

        Returns:
            `Path`: the folder.
        """
        folder = Path(save_directory)
        self._load_global()
        if self.training.accelerator.is_main_process:
            save_adapter(self.model, folder, self.server, self.ledger, self.adapter_name)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
            if push_to_hub:
                push_adapter(folder, **{"repo_id": folder.name, **kwargs})
        self.training.accelerator.wait_for_everyone()
        return folder

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Push what [`~FederatedLoraTrainer.save_pretrained`] writes.

        Args:
            repo_id (`str`): repository on the Hub, made if necessary.
            kwargs (`Any`): `private`, `token`, `revision`, `commit_message`.

        Returns:
            `str`: address of the commit.
        """
        folder = self.save_pretrained(self.output_dir / "adapter")
        return push_adapter(folder, repo_id, **kwargs)

    # One round

    def _run_round(self, round: int, clients: list[str]) -> dict[str, Any]:
        started = time.perf_counter()
        self._call("on_round_begin", round, clients)
        if self.base:
            self.base.write(self.server.base_sums)
        self.server.open_round()
        live = live_tensors(self.model, self.adapter_name)
        record: dict[str, Any] = {"round": round, "clients": clients, "download_bytes": 0, "upload_bytes": 0}
        record |= {"seconds_training": 0.0, "client_metrics": {}}
        for client in clients:
            record["download_bytes"] += self._download_bytes(client)
            self._run_client(client, round, record, live)
        self._close_round(record)
        record["seconds"] = time.perf_counter() - started
        if self.eval_dataset is not None and (round % self.config.eval_every == 0 or round == self.config.num_rounds):
            record |= self.evaluate()
        self.history.append(record)
        self._call("on_round_end", record)
        if round % self.config.checkpoint_every == 0 or round == self.config.num_rounds or self.should_stop:
            self._save_round()
        return record

    def _run_client(self, client: str, round: int, record: dict[str, Any], live: Mapping[str, Tensor]) -> None:
        try:
            dataset = self._rows(self.client_datasets[client])
            job = self._job(client, round, self.training.num_steps(len(dataset)))  # type: ignore[arg-type]
            began = time.perf_counter()
            update = run_client(
                self.model,
                self.server.state,
                self.server.factors,
                dataset,
                job,
                self.training,
                self.adapter_name,
                self._rank(client),
                live,
            )
            record["seconds_training"] += time.perf_counter() - began
            self._account(update)
            self._call("on_client_end", update)
            self.server.accept(update)
        except RejectedUpdate as error:
            self._fail(client, error.reason)
        except Exception as error:  # whatever breaks on one client must not end the run of the others
            logger.warning("client %s failed in round %d", client, round, exc_info=True)
            self._fail(client, f"{type(error).__name__}: {error}")
        else:
            record["upload_bytes"] += num_bytes(update.state)
            if update.metrics:
                record["client_metrics"][client] = update.metrics

    def _close_round(self, record: dict[str, Any]) -> None:
        try:
            result = self.server.close_round()
        except QuorumError:
            self._save_round()
            raise
        record["failures"] = dict(self.server.failures)
        if self.ledger is not None:
            # the largest so far: others have not changed, and one look at a thousand accounts is slow
            spent = [self.ledger.epsilon(client) for client in record["clients"]]
            record["epsilon"] = max([*spent, *(past["epsilon"] for past in self.history[-1:])], default=0.0)
        if losses := [
            metrics["train_loss"] for metrics in record["client_metrics"].values() if "train_loss" in metrics
        ]:
            record["train_loss"] = sum(losses) / len(losses)
        self._call("on_aggregate", result)

    def _download_bytes(self, client: str) -> int:
        """Bytes of the broadcast to a client: what never changes goes out with its first round only."""
        once = self.server.sent_once()
        each = {key: tensor for key, tensor in self.server.broadcast().items() if key not in once}
        known = client in self._served
        self._served.add(client)
        return num_bytes(each) + self.server.base_bytes() + (0 if known else num_bytes(once))

    def _choose(self, round: int) -> list[str]:
        allowed = [client for client in self.clients if self.ledger is None or self.ledger.may_participate(client)]
        return sample_clients(self.clients, round, self.config, allowed)

    def _fail(self, client: str, reason: str) -> None:
        self.server.note_failure(client, reason)
        logger.warning("round %d goes on without client %s: %s", self.server.round + 1, client, reason)
        self._call("on_client_error", client, reason)

    def _account(self, update: ClientUpdate) -> None:
        if self.ledger is not None:
            self.ledger.record(update.client_id, self.server.attempts, update.num_steps)

    def _job(self, client: str, round: int, num_steps: int) -> LocalJob:
        sigma = self.ledger.noise_multiplier(client) if self.ledger is not None else None
        return LocalJob(client, round, num_steps, job_seed(self.config.seed, round, client), sigma)

    def _rows(self, dataset: Dataset) -> Dataset:
        if not len(dataset):  # type: ignore[arg-type]
            raise ValueError("has no examples")
        return model_columns(dataset, self.model.get_base_model()) if self.args.remove_unused_columns else dataset

    def _rank(self, client: str) -> int | None:
        return (self.config.client_ranks or {}).get(client)

    def _call(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    # State

    def _load_global(self) -> None:
        if self.base:
            self.base.write(self.server.base_sums)
        write_adapter(self.model, self.server.state, self.adapter_name)

    def _save_round(self) -> None:
        def write(folder: Path) -> None:
            self.server.save(folder)
            write_text(folder / HISTORY_FILE, json.dumps(self.history, indent=1) + "\n")
            if self.ledger is not None:
                write_text(folder / LEDGER_FILE, json.dumps(self.ledger.state_dict()) + "\n")

        if self.training.accelerator.is_main_process:
            write_round(self.output_dir, self.server.round, write, self.args.save_total_limit or 2)
        self.training.accelerator.wait_for_everyone()

    def _resume(self, source: bool | str | Path | None) -> None:
        output_dir = self.output_dir
        if self.training.accelerator.is_main_process:
            self._lock = lock_folder(output_dir)
        if not source:
            if self.server.round == 0 and list_rounds(output_dir):
                raise ValueError(
                    f"{output_dir} holds rounds of a run: pass `resume_from_checkpoint=True` or another folder"
                )
            return
        folder = latest_round(output_dir) if source is True else Path(source)
        if folder is None:
            return
        if read_manifest(folder) is None:
            raise ValueError(f"`resume_from_checkpoint`: {folder} is not a complete round")
        self.server.load(folder)
        self.history = read_json(folder / HISTORY_FILE, kind=list)
        with naming(folder / HISTORY_FILE):
            for number, record in enumerate(self.history):
                check_entries({f"[{number}]": record}, {f"[{number}]": dict})
                check_entries(record, {"clients": list})
        self._served = {client for record in self.history for client in record["clients"]}
        if self.ledger is not None:
            state = read_json(folder / LEDGER_FILE)
            with naming(folder / LEDGER_FILE):
                self.ledger.load_state_dict(state)
        logger.info("resumed after round %d from %s", self.server.round, folder)

    # Set-up

    def _check_arguments(self, trainer_cls: type[Trainer] | None) -> None:
        if self.config.min_clients > len(self.clients):
            raise ValueError(f"`min_clients` is {self.config.min_clients}, there are {len(self.clients)} clients")
        if unknown := sorted(set(self.config.client_ranks or {}) - set(self.clients)):
            raise ValueError(
                f"`client_ranks` names {unknown[0]!r}, which is no client; they are {_some(self.clients)}"
            )
        if unknown := sorted(set(self.client_eval_datasets) - set(self.clients)):
            raise ValueError(
                f"`client_eval_datasets` has {unknown[0]!r}, which is no client; they are {_some(self.clients)}"
            )
        if trainer_cls is None and not self.config.dp:
            check_loss_kwargs(self.model.get_base_model())

    def _make_ledger(self) -> PrivacyLedger | None:
        if self.config.dp is None:
            return None
        ledger = PrivacyLedger(self.config.dp)
        participations = most_participations(len(self.clients), self.config)
        for client in self.clients:
            if size := len(self.client_datasets[client]):  # type: ignore[arg-type]
                ledger.enroll(client, size, self.training.num_steps(size), self.training.batch_size, participations)
        return ledger

    # Evaluation

    def _evaluate(self, dataset: Dataset) -> dict[str, Any]:
        if self._evaluator is None:
            self._evaluator = Evaluator(self.model, self.args, self.data_collator, self.compute_metrics)
        return self._evaluator(dataset)

    def _over_clients(self, score: Callable[[str, Dataset], dict[str, Any]]) -> dict[str, Any]:
        if not self.client_eval_datasets:
            raise ValueError("`client_eval_datasets` is needed in the trainer to evaluate on the clients' rows")
        scores = {client: score(client, dataset) for client, dataset in self.client_eval_datasets.items()}
        sizes = {client: len(dataset) for client, dataset in self.client_eval_datasets.items()}  # type: ignore[arg-type]
        return {**summarised(scores, sizes), "clients": scores}

    def _check_private_metrics(self) -> None:
        if self.config.dp and not self.config.private_metrics:
            raise ValueError(
                "figures on the clients' own rows are not covered by the privacy guarantee: set `private_metrics=True` in "
                "the configuration to compute them all the same"
            )


def _default_collator(processing_class: PreTrainedTokenizerBase | None) -> Callable:
    if processing_class is not None and hasattr(processing_class, "pad"):
        return DataCollatorWithPadding(processing_class)
    return default_data_collator


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
