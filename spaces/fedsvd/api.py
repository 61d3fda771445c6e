# SPDX-License-Identifier: Apache-2.0
"""The endpoints. Types and docstrings become the description of the API.

The functions import what computes when they run, so the page opens long before torch and transformers are loaded.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from eigenhub.hub.space_events import shown_to_visitor


def federate(
    method: str = "fedsvd",
    clients: int = 6,
    alpha: float = 0.5,
    rounds: int = 15,
    steps: int = 10,
    epsilon: float = 0.0,
    delta: float = 1e-3,
    optimizer: str = "sgd",
    init: str = "kaiming",
    rate: float = 0.0,
    share: float = 0.5,
    clip: float = 2.0,
    rotation: bool = False,
    show_private: bool = False,
    seed: int = 0,
) -> Iterator[dict]:
    """Train one LoRA adapter of a small ViT on the digits of several clients; answers again after every round.

    Args:
        method: "fedsvd", "ffa_orth", "ffa", "fedavg", "fedex", "flexlora", "flora" or "rolora".
        clients: Number of clients, 2 to 12.
        alpha: Concentration of the Dirichlet split; small values give every client a few digits only.
        rounds: Rounds, 1 to 40.
        steps: Optimizer steps of a client in a round, 1 to 20.
        epsilon: 0 for no differential privacy, or the target of every client, 1 to 10.
        delta: Delta of the guarantee.
        optimizer: "sgd" or "adamw".
        init: How A begins: "kaiming", "gaussian" or "orthonormal".
        rate: Learning rate; 0 for 0.5 with SGD and 0.003 with AdamW.
        share: Share of the clients in a round.
        clip: Norm to which gradients of examples are clipped under differential privacy.
        rotation: Broadcast A as a small matrix on a basis sent once; for fedsvd, ffa_orth and ffa.
        show_private: Under differential privacy, tell what clients measure on their own rows all the same.
        seed: Of the split, the initial adapter and the choice of clients.

    Returns:
        accuracy (before the first round and after each), client_accuracy, epsilon (by client), singular_values (by layer and
        round), upload_bytes and download_bytes (so far, beside those of plain LoRA averaging), averaging_error, participants,
        failures, claim, class_counts, settings, seconds, finished.
    """
    from computing import federate as run
    from settings import Settings

    budget, training = (epsilon, delta), (optimizer, init, rate, share, clip, rotation, show_private, seed)
    settings = Settings(clients, alpha, method, rounds, steps, *budget, *training)
    for record in run(settings):
        yield {name: value for name, value in record.items() if name != "files"}


def pair(
    clients: int = 6,
    alpha: float = 0.5,
    rounds: int = 12,
    steps: int = 10,
    optimizer: str = "sgd",
    init: str = "kaiming",
    epsilon: float = 0.0,
    seed: int = 0,
) -> Iterator[dict]:
    """Run FedSVD and FFA-LoRA with an orthonormal A in step, and tell how far their changes of the weights are apart.

    Args:
        clients: Number of clients, 2 to 12.
        alpha: Concentration of the Dirichlet split.
        rounds: Rounds, 1 to 40.
        steps: Optimizer steps of a client in a round, 1 to 20.
        optimizer: "sgd" (the two agree up to rounding) or "adamw" (they do not).
        init: How A begins: "kaiming", "gaussian" or "orthonormal".
        epsilon: 0 for no differential privacy, or the target of every client, 1 to 10.
        seed: Of the split, the initial adapter and the choice of clients.

    Returns:
        distance (relative, after every round) and accuracy of both methods so far.
    """
    from computing import run_pair
    from settings import Settings

    settings = Settings(
        clients, alpha, rounds=rounds, steps=steps, optimizer=optimizer, init=init, epsilon=epsilon, seed=seed
    )
    for found in run_pair(settings):
        scores = {record["settings"]["method"]: list(record["accuracy"]) for record in found["runs"]}
        yield {"distance": found["distance"], "accuracy": scores}


def split(clients: int = 6, alpha: float = 0.5, seed: int = 0) -> dict[str, list[int]]:
    """Tell how many images of each digit every client has.

    Args:
        clients: Number of clients, 2 to 12.
        alpha: Concentration of the Dirichlet split.
        seed: Of the split.

    Returns:
        Ten counts for each client.
    """
    from computing import class_counts, client_rows
    from settings import Settings

    settings = Settings(clients=clients, alpha=alpha, seed=seed)
    with shown_to_visitor("This split cannot be made"):
        return class_counts(client_rows(settings))


def inspect(adapter: str) -> dict[str, Any]:
    """Look at a LoRA adapter: singular values by layer, how it was trained, and what its clients have spent.

    Args:
        adapter: "embedded:fedavg", "embedded:private", a Hub id or a folder.

    Returns:
        layers (as `refactor` tells them), lora (adapter_config.json), run (fedsvd_config.json, or null), ledger (one record
        for each client) and claim, the guarantee in words, as the ledger says.
    """
    from computing import layer_records, ledger_records, refactor

    loaded = named_adapter(adapter)
    with shown_to_visitor(f"{adapter} cannot be refactored"):
        _, layers = refactor(loaded)
        return {
            "layers": layer_records(layers),
            "lora": loaded.lora,
            "run": loaded.run.to_dict() if loaded.run else None,
            "ledger": ledger_records(loaded),
            "claim": loaded.ledger.claim() if loaded.ledger else "",
        }


def refactor(file: str | None) -> tuple[str, list[dict[str, Any]]]:
    """Refactor a LoRA adapter: A with orthonormal rows, the singular values in B, the product as it was.

    Args:
        file: The adapter's `adapter_model.safetensors`; up to 256 MiB, no pickled file.

    Returns:
        The new `adapter_model.safetensors`, and for each layer: name, shape, rank, effective_rank, kappa (condition number of
        A; null if infinite), new_kappa, singular_values, error (relative change of the product).
    """
    from computing import layer_records, write_refactored

    loaded, state, layers = refactored_file(file)
    return write_refactored(loaded, state), layer_records(layers)


def named_adapter(name: str | None) -> Any:
    """The adapter that a visitor named, or why there is none."""
    from computing import load_adapter

    name = (name or "").strip()
    if not name:
        raise gr.Error("Name an adapter: an embedded one, a Hub id or a folder.")
    with shown_to_visitor(f"Cannot load {name!r}"):
        return load_adapter(name)


def refactored_file(file: str | None) -> tuple[Any, Any, Any]:
    """The adapter of an uploaded file, its new tensors, and what was found."""
    from computing import load_file
    from computing import refactor as refactor_adapter

    if not file:
        raise gr.Error("Upload an adapter_model.safetensors first.")
    with shown_to_visitor("This file cannot be refactored"):
        loaded = load_file(file)
        return loaded, *refactor_adapter(loaded)
