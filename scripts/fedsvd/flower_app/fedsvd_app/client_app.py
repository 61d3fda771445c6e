# SPDX-License-Identifier: Apache-2.0
"""A client of the federation."""

from functools import cache
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from eigenhub.federated.flower import make_client_app
from fedsvd_app.task import accuracy, client_data, make_collator, make_model, training_arguments


app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the adapter on the client's rows."""
    return client_of(*sorted(context.run_config.items()))(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the adapter on rows that the client holds out."""
    return client_of(*sorted(context.run_config.items()))(message, context)


@cache
def client_of(*run_items: tuple[str, Any]) -> ClientApp:
    """The app for the configuration of a run, made once per process: it keeps the model."""
    run = dict(run_items)
    return make_client_app(
        model_fn=lambda context: make_model(run),
        data_fn=lambda context: client_data(run, context.node_config)["train"],
        eval_data_fn=lambda context: client_data(run, context.node_config)["test"],
        args=training_arguments(run),
        data_collator=make_collator(run),
        compute_metrics=accuracy,
    )
