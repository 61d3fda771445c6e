# SPDX-License-Identifier: Apache-2.0
"""The training of one client in one round: a new optimizer, some steps, and nothing that survives the round."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import GradientState
from peft import PeftModel
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, RandomSampler
from transformers import PrinterCallback, Trainer, TrainingArguments, default_data_collator, get_scheduler, set_seed
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.local_job import LocalJob, LocalOutcome, accumulation_plugin, make_federated_accelerator
from eigenhub.federated.local_step import local_step
from eigenhub.federated.private_training import train_privately


class LocalTraining:
    """Trains a model on one client's data after another.

    The optimizer is made anew for every job: after a refactorisation the old state is in the wrong basis. The learning
    rate is constant within a round and follows `lr_scheduler_type` over the rounds, warm-up counted in rounds.

    Args:
        args (`TrainingArguments`): batch size, accumulation, optimizer, learning rate, clipping, precision.
        config (`FedSVDConfig`): steps per round, rounds, differential privacy.
        data_collator (`Callable`, *optional*): makes a batch of a list of rows; by default stacks their tensors.
        trainer_cls (`type[Trainer]`, *optional*): train by this class instead of the loop over accelerate.
        compute_loss (`Callable`, *optional*): outputs and labels to losses per example; under differential privacy only.
        accelerator (`Accelerator`, *optional*): by default from [`make_federated_accelerator`].
    """

    def __init__(
        self,
        args: TrainingArguments,
        config: FedSVDConfig,
        data_collator: Callable[[list], dict[str, Any]] = default_data_collator,
        trainer_cls: type[Trainer] | None = None,
        compute_loss: Callable[[Any, Tensor], Tensor] | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        if config.dp and trainer_cls is not None:
            raise ValueError(
                "`trainer_cls` cannot train under `dp`: its loss scaling breaks the scale of single examples"
            )
        if compute_loss is not None and not config.dp:
            raise ValueError("`compute_loss` is for training under `dp`; override `Trainer.compute_loss` instead")
        self.args = args
        self.config = config
        self.data_collator = data_collator
        self.trainer_cls = trainer_cls
        self.compute_loss = compute_loss
        self.accelerator = accelerator or make_federated_accelerator(args)
        self._rate_factor = _rate_over_rounds(args, config.num_rounds)
        self._wrapped: dict[frozenset[str], nn.Module] = {}

    @property
    def keeps_memory(self) -> bool:
        """Whether parameters stay where they are: several processes wrap the model, which gives them other memory."""
        return self.accelerator.num_processes == 1

    def without_privacy(self) -> "LocalTraining":
        """The same training without noise, for what never leaves a client."""
        if self.config.dp is None:
            return self
        config = dataclasses.replace(self.config, dp=None)
        return LocalTraining(self.args, config, self.data_collator, accelerator=self.accelerator)

    @property
    def batch_size(self) -> int:
        """Examples of one optimizer step, over all processes."""
        processes = self.accelerator.num_processes
        return self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * processes

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps of a client per round.

        Args:
            num_examples (`int`): rows of its data.
        """
        if self.config.local_epochs is None:
            return int(self.config.local_steps or 0)
        size = self.config.dp.batch_size(self.batch_size) if self.config.dp else self.batch_size
        return max(1, math.ceil(self.config.local_epochs * num_examples / size))

    def optimizer(self, parameters: Iterable[nn.Parameter], round: int) -> Optimizer:
        """A new optimizer, by the names and options of `TrainingArguments.optim`.

        Args:
            parameters (`Iterable[nn.Parameter]`): what it trains.
            round (`int`): from 1, tells the learning rate.
        """
        kind, options = Trainer.get_optimizer_cls_and_kwargs(self.args)
        options["lr"] = self.learning_rate(round)
        return kind(parameters, **{"weight_decay": self.args.weight_decay, **options})

    def learning_rate(self, round: int) -> float:
        """The rate of a round.

        Args:
            round (`int`): from 1.
        """
        return self.args.learning_rate * self._rate_factor(round - 1)

    def run(self, model: nn.Module, dataset: Dataset, job: LocalJob) -> LocalOutcome:
        """Train in place.

        Args:
            model (`nn.Module`): unwrapped, with the factors of the round trainable.
            dataset (`Dataset`): the client's.
            job (`LocalJob`): what to do.
        """
        set_seed(job.seed)
        if self.config.dp:
            return self._run_privately(model, dataset, job, self.config.dp)
        if self.trainer_cls is not None:
            return self._run_trainer(model, dataset, job, self.trainer_cls)
        return self._run_loop(model, dataset, job)

    def _run_loop(self, model: nn.Module, dataset: Dataset, job: LocalJob) -> LocalOutcome:
        parameters = trainable(model)
        optimizer = self.optimizer(parameters, job.round)
        optimizer = AcceleratedOptimizer(optimizer, device_placement=False, scaler=self.accelerator.scaler)
        wrapped = self._wrap(model)
        # One state for all accelerators of a process: that of the `Trainer` which evaluates has set it to single batches.
        GradientState(accumulation_plugin(self.args))
        self.accelerator.step = 0  # a client that failed in the midst of an accumulation must not shift the next
        batches = self._batches(dataset, job.seed)
        shifted = predicts_next(model)
        losses = []
        wrapped.train()
        for _ in range(job.num_steps):
            window = [next(batches) for _ in range(self.args.gradient_accumulation_steps)]
            losses.append(
                local_step(self.accelerator, wrapped, optimizer, parameters, window, shifted, self.args.max_grad_norm)
            )
        total = self.accelerator.reduce(torch.stack(losses).mean(), reduction="sum")
        return LocalOutcome(job.num_steps, {"train_loss": total.item()})

    def _wrap(self, model: nn.Module) -> nn.Module:
        """The model for the processes at hand; wrapped once for each set of trained parameters, as DDP needs it."""
        if self.accelerator.num_processes == 1:
            return model
        key = frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)
        if key not in self._wrapped:
            if any(key & other for other in self._wrapped):
                raise ValueError("with several processes every round must train the same tensors or disjoint ones")
            self._wrapped[key] = self.accelerator.prepare_model(model)
        return self._wrapped[key]

    def _batches(self, dataset: Dataset, seed: int) -> Iterator[Mapping[str, Tensor]]:
        """Batches without end: every row once per pass, in an order fixed by the seed."""
        size, state = self.args.per_device_train_batch_size, self.accelerator
        rows: Sized = dataset  # type: ignore[assignment]
        loader = DataLoader(
            dataset,
            batch_size=size,
            sampler=RandomSampler(rows, generator=torch.Generator().manual_seed(seed)),
            collate_fn=self.data_collator,
            drop_last=len(rows) >= size * state.num_processes,
        )
        if state.num_processes > 1 or state.device.type != "cpu":
            loader = prepare_data_loader(
                loader, state.device, state.num_processes, state.process_index, put_on_device=True
            )
        while True:
            yield from loader

    def _run_trainer(self, model: nn.Module, dataset: Dataset, job: LocalJob, kind: type[Trainer]) -> LocalOutcome:
        args = dataclasses.replace(
            self.args,
            max_steps=job.num_steps,
            learning_rate=self.learning_rate(job.round),
            lr_scheduler_type="constant",
            warmup_steps=0,
            seed=job.seed,
            data_seed=job.seed,
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            load_best_model_at_end=False,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = kind(model, args=args, train_dataset=dataset, data_collator=self.data_collator)
        trainer.remove_callback(PrinterCallback)  # the rounds have their own progress bar
        output = trainer.train()
        return LocalOutcome(output.global_step, {"train_loss": output.training_loss})

    def _run_privately(self, model: nn.Module, dataset: Dataset, job: LocalJob, dp: DPConfig) -> LocalOutcome:
        if job.noise_multiplier is None:
            raise ValueError(f"client {job.client_id}: `dp` needs a noise multiplier, see `PrivacyLedger.enroll`")
        run = train_privately(
            model,
            dataset,
            self.data_collator,
            lambda parameters: self.optimizer(parameters, job.round),
            dp=dp,
            noise_multiplier=job.noise_multiplier,
            num_steps=job.num_steps,
            batch_size=self.batch_size,
            device=self.accelerator.device,
            compute_loss=self.compute_loss,
            stream_key=(job.seed,),
            report_metrics=self.config.private_metrics,
        )
        return LocalOutcome(run.steps, run.metrics)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that gradients go into.

    Args:
        model (`nn.Module`): any.
    """
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def predicts_next(model: nn.Module) -> bool:
    """Whether the first label of a row does not count, because the model predicts the next token.

    Args:
        model (`nn.Module`): a transformers model or a PEFT model around one.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return type(base).__name__ in set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())


def _rate_over_rounds(args: TrainingArguments, num_rounds: int) -> Callable[[int], float]:
    """The factor on the learning rate after so many rounds."""
    dummy = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = args.get_warmup_steps(num_rounds)
    options: Any = args.lr_scheduler_kwargs or {}
    schedule = get_scheduler(args.lr_scheduler_type, dummy, warmup, num_rounds, options)
    if not isinstance(schedule, LambdaLR):
        raise ValueError(f"`lr_scheduler_type` must be a function of the round, got {args.lr_scheduler_type}")
    return schedule.lr_lambdas[0]
