# SPDX-License-Identifier: Apache-2.0
"""The client's side on Flower: an app that trains one LoRA adapter on rows that never leave it."""

from collections.abc import Callable
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor
from transformers import EvalPrediction, Trainer, TrainingArguments, default_data_collator

from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.flower.client import DataFn, EvalFn, FlowerClient, ModelFn, RefusedRound, TrainFn
from eigenhub.federated.flower.client_state import client_name


#: Code of the error by which a client declines a round.
REFUSED = 100


def make_client_app(
    model_fn: ModelFn,
    train_fn: TrainFn | None = None,
    eval_fn: EvalFn | None = None,
    *,
    data_fn: DataFn,
    eval_data_fn: DataFn | None = None,
    args: TrainingArguments | None = None,
    data_collator: Callable[[list], dict[str, Any]] = default_data_collator,
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
    compute_loss: Callable[[Any, Tensor], Tensor] | None = None,
    trainer_cls: type[Trainer] | None = None,
    dp: DPConfig | None = None,
    adapter_name: str = "default",
) -> ClientApp:
    """A Flower client app for the rounds of a [`FedSVDStrategy`].

    What to train, for how long and how privately comes with every message. Without `train_fn` a round is that of
    [`FederatedLoraTrainer`], step for step. A client's name is `client-id` of its node's configuration, or else its
    `partition-id`; it decides on seed and rank.

    Under differential privacy the client keeps its own ledger in `context.state`: a round enters it before the reply
    leaves, and beyond the cap, under other settings than before, or without privacy after private rounds, the client
    declines. The budget is that of one Flower run.

    Args:
        model_fn (`Callable`): makes the PEFT model of a client from its `Context`; called once per process and the model
            used for all clients that come along, since each message brings the whole adapter.
        train_fn (`Callable`, *optional*): trains in place of our own loop: model, rows and [`LocalJob`] to
            [`LocalOutcome`]. Not under differential privacy, whose steps it could not prove.
        eval_fn (`Callable`, *optional*): model and rows to figures by name; by default loss and `compute_metrics`.
        data_fn (`Callable`): the client's training rows from its `Context`.
        eval_data_fn (`Callable`, *optional*): its held-out rows; without them it declines to evaluate.
        args (`TrainingArguments`, *optional*): of the local training; needed without `train_fn`.
        data_collator (`Callable`, *optional*): makes a batch of a list of rows.
        compute_metrics (`Callable`, *optional*): of `EvalPrediction`, as for `Trainer`.
        compute_loss (`Callable`, *optional*): outputs and labels to losses per example, under differential privacy.
        trainer_cls (`type[Trainer]`, *optional*): trains in place of the loop over accelerate.
        dp (`DPConfig`, *optional*): what this client insists on: it declines every round that asks for anything else.
            By default it trusts the server's settings, and holds it to those of the first round.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter of the model.

    Raises:
        ValueError: if there is neither `train_fn` nor `args`.

    Example:

    ```python
    >>> from eigenhub.federated.flower import make_client_app
    >>> app = make_client_app(
    ...     model_fn=lambda context: get_peft_model(make_base(), lora_config),
    ...     data_fn=lambda context: parts[int(context.node_config["partition-id"])],
    ...     args=TrainingArguments("runs", per_device_train_batch_size=32, optim="sgd", learning_rate=0.5),
    ... )  # doctest: +SKIP
    ```
    """
    if train_fn is None and args is None:
        raise ValueError("`args` must be given: the training arguments of the local steps, unless `train_fn` is")
    if train_fn is not None and dp is not None:
        raise ValueError("`train_fn` cannot train under `dp`: the ledger would vouch for steps that it does not see")
    client = FlowerClient(
        model_fn=model_fn,
        train_fn=train_fn,
        eval_fn=eval_fn,
        data_fn=data_fn,
        eval_data_fn=eval_data_fn,
        args=args,
        data_collator=data_collator,
        compute_metrics=compute_metrics,
        compute_loss=compute_loss,
        trainer_cls=trainer_cls,
        dp=dp,
        adapter_name=adapter_name,
    )
    app = ClientApp()
    app.train()(_declining(client.train))
    app.evaluate()(_declining(client.evaluate))
    return app


def _declining(answer: Callable[[Message, Context], RecordDict]) -> Callable[[Message, Context], Message]:
    """A function of a client app: the content as a reply, a refusal as an error reply, which no traceback belongs to."""

    def reply(message: Message, context: Context) -> Message:
        try:
            return Message(answer(message, context), reply_to=message)
        except RefusedRound as refusal:
            return Message(Error(REFUSED, f"{client_name(context)}: {refusal}"), reply_to=message)

    return reply
