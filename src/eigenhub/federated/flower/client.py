# SPDX-License-Identifier: Apache-2.0
"""What a Flower client does with a message: the local part of a round, or an evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Context, Message, MetricRecord, RecordDict
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Dataset
from transformers import EvalPrediction, Trainer, TrainingArguments, set_seed

from eigenhub.federated.base_weights import BaseWeights
from eigenhub.federated.client import run_client
from eigenhub.federated.client_data import model_columns
from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.evaluation import Evaluator
from eigenhub.federated.flower.client_state import client_name, has_ledger, keep_once, read_ledger, write_ledger
from eigenhub.federated.flower.messages import METRICS, NUM_EXAMPLES, RoundRequest, update_to_records
from eigenhub.federated.local_job import LocalJob, LocalOutcome, job_seed
from eigenhub.federated.local_training import LocalTraining
from eigenhub.federated.lora_keys import pair_lora_keys
from eigenhub.federated.lora_model import check_lora_model, read_adapter, write_adapter
from eigenhub.federated.privacy_ledger import PrivacyLedger
from eigenhub.federated.recipes import recipe_of
from eigenhub.federated.updates import ClientUpdate, fingerprint, uploaded_keys


ModelFn = Callable[[Context], PeftModel]
DataFn = Callable[[Context], Dataset]
TrainFn = Callable[[PeftModel, Dataset, LocalJob], LocalOutcome]
EvalFn = Callable[[PeftModel, Dataset], Mapping[str, float]]


class RefusedRound(ValueError):
    """A client declines to take part in a round; the message is what the server is told."""


@dataclass
class OwnTraining:
    """A user's training function in the place of [`LocalTraining`].

    Args:
        config (`FedSVDConfig`): of the run.
        train_fn (`Callable`): model, rows and job to outcome.
    """

    config: FedSVDConfig
    train_fn: TrainFn
    keeps_memory = False  # who knows what the function does with the model

    def num_steps(self, num_examples: int) -> int:
        """Steps of the configuration; 0 if it counts epochs.

        Args:
            num_examples (`int`): rows of the client's data.
        """
        return self.config.local_steps or 0

    def run(self, model: PeftModel, dataset: Dataset, job: LocalJob) -> LocalOutcome:
        """Train in place.

        Args:
            model (`PeftModel`): with the factors of the round trainable.
            dataset (`Dataset`): the client's.
            job (`LocalJob`): what to do.
        """
        set_seed(job.seed)
        return self.train_fn(model, dataset, job)


@dataclass
class FlowerClient:
    """The functions of the app; see [`make_client_app`] for the fields."""

    model_fn: ModelFn
    train_fn: TrainFn | None
    eval_fn: EvalFn | None
    data_fn: DataFn
    eval_data_fn: DataFn | None
    args: TrainingArguments | None
    data_collator: Callable[[list], dict[str, Any]]
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None
    compute_loss: Callable[[Any, Tensor], Tensor] | None
    trainer_cls: type[Trainer] | None
    dp: DPConfig | None
    adapter_name: str
    _model: PeftModel | None = field(default=None, init=False)
    _base: BaseWeights | None = field(default=None, init=False)
    _training: LocalTraining | OwnTraining | None = field(default=None, init=False)
    _evaluator: Evaluator | None = field(default=None, init=False)

    def train(self, message: Message, context: Context) -> RecordDict:
        """One client's part of a round.

        Args:
            message (`Message`): from the strategy.
            context (`Context`): of the client.

        Raises:
            RefusedRound: if the client declines.
        """
        request, name = RoundRequest.from_records(message.content), client_name(context)
        self._check_consent(request, context)
        model, training = self._model_of(context), self._training_for(request.config)
        dataset = self._rows(self.data_fn(context), model)
        steps = training.num_steps(len(dataset))  # type: ignore[arg-type]
        ledger = self._ledger(request, context, name, len(dataset), training)  # type: ignore[arg-type]
        sigma = ledger.noise_multiplier(name) if ledger else None
        job = LocalJob(name, request.round, steps, job_seed(request.config.seed, request.round, name), sigma)
        state = self._broadcast(request, context, model)
        own_fingerprint = self._check_arrival(request, state)
        rank = (request.config.client_ranks or {}).get(name)
        update: ClientUpdate = run_client(
            model,
            state,
            request.factors,
            dataset,
            job,
            training,  # type: ignore[arg-type]  # has all that is used of it
            self.adapter_name,
            rank,
        )
        if ledger:
            ledger.record(name, update.round, update.num_steps)
            write_ledger(context, ledger)
        if update.fingerprint == own_fingerprint:
            update.fingerprint = request.fingerprint
        sizes_are_private = request.config.dp is not None and request.config.weighting == "uniform"
        return update_to_records(update, share_size=not sizes_are_private)

    def evaluate(self, message: Message, context: Context) -> RecordDict:
        """The global adapter on the client's held-out rows.

        Args:
            message (`Message`): from the strategy.
            context (`Context`): of the client.

        Raises:
            RefusedRound: if the client declines.
        """
        request = RoundRequest.from_records(message.content)
        if self.eval_data_fn is None:
            raise RefusedRound("has no rows to evaluate on")
        if (request.config.dp or self.dp or has_ledger(context)) and not request.config.private_metrics:
            raise RefusedRound("figures on its own rows are not covered by the privacy guarantee")
        model = self._model_of(context)
        dataset = self._rows(self.eval_data_fn(context), model)
        write_adapter(model, self._broadcast(request, context, model), self.adapter_name)
        scores = {name: float(value) for name, value in self._scores(model, dataset).items()}
        return RecordDict({METRICS: MetricRecord({NUM_EXAMPLES: len(dataset), **scores})})  # type: ignore[arg-type]

    def _check_consent(self, request: RoundRequest, context: Context) -> None:
        asked = request.config.dp
        if self.dp is not None and asked != self.dp:
            raise RefusedRound(f"insists on {self.dp}, the round has {asked}")
        if asked is None and has_ledger(context):
            raise RefusedRound("has trained privately in this run and takes part in no round without privacy")
        if asked is not None and self.train_fn is not None:
            raise RefusedRound("trains by a function of its own, which no privacy ledger can vouch for")

    def _ledger(
        self, request: RoundRequest, context: Context, name: str, size: int, training: LocalTraining | OwnTraining
    ) -> PrivacyLedger | None:
        """The client's ledger with a round left in it, or `None` without differential privacy."""
        if request.config.dp is None or not isinstance(training, LocalTraining):
            return None
        try:
            ledger = read_ledger(context, request.config.dp)
            ledger.enroll(name, size, training.num_steps(size), training.batch_size, request.participations)
        except ValueError as error:
            raise RefusedRound(str(error)) from error
        if not ledger.may_participate(name):
            raise RefusedRound(f"its privacy budget of {ledger.accounts[name].max_participations} rounds is spent")
        if (last := ledger.accounts[name].last_round) >= request.round:
            raise RefusedRound(f"has answered round {last}, and is asked for round {request.round}")
        return ledger

    def _broadcast(self, request: RoundRequest, context: Context, model: PeftModel) -> dict[str, Tensor]:
        """The adapter of the message; the base weights get what the message says was added to them."""
        if recipe_of(request.config.method).moves_base:
            self._base = self._base or BaseWeights(model, self.adapter_name)
            self._base.restore()
            self._base.write(request.base_sums)
        try:
            return request.adapter(keep_once(context, request.once), like=read_adapter(model, self.adapter_name))
        except ValueError as error:
            raise RefusedRound(str(error)) from error

    def _check_arrival(self, request: RoundRequest, state: Mapping[str, Tensor]) -> str:
        """The fingerprint of the frozen factors as they have arrived.

        A rotated A is computed here, and its last bits depend on the machine: there only what training does to it counts.
        """
        trained = uploaded_keys(state, request.factors)
        frozen = [key for pair in pair_lora_keys(state).values() for key in pair if key not in trained]
        found = fingerprint(state, frozen) if frozen else ""
        if request.config.downlink == "full" and found != request.fingerprint:
            raise RefusedRound("the factors that have arrived are not those that the server has sent")
        return found

    def _model_of(self, context: Context) -> PeftModel:
        if self._model is None:
            model = self.model_fn(context)
            check_lora_model(model, self.adapter_name)
            self._model = model
        return self._model

    def _training_for(self, config: FedSVDConfig) -> LocalTraining | OwnTraining:
        if self._training is None or self._training.config != config:
            if self.train_fn is not None:
                self._training = OwnTraining(config, self.train_fn)
            else:
                self._training = LocalTraining(
                    self.args,  # type: ignore[arg-type]  # `make_client_app` asks for them without a `train_fn`
                    config,
                    self.data_collator,
                    self.trainer_cls,
                    self.compute_loss,
                )
            if isinstance(self._training, LocalTraining) and self._model is not None:
                self._model.to(self._training.accelerator.device)
        return self._training

    def _rows(self, dataset: Dataset, model: PeftModel) -> Dataset:
        if not len(dataset):  # type: ignore[arg-type]
            raise RefusedRound("has no examples")
        keeps_all = self.args is not None and not self.args.remove_unused_columns
        return dataset if keeps_all else model_columns(dataset, model.get_base_model())

    def _scores(self, model: PeftModel, dataset: Dataset) -> Mapping[str, float]:
        if self.eval_fn is not None:
            return self.eval_fn(model, dataset)
        if self._evaluator is None:
            args = self.args or TrainingArguments("unused", report_to="none")
            self._evaluator = Evaluator(model, args, self.data_collator, self.compute_metrics)
        return self._evaluator(dataset)
