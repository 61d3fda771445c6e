# SPDX-License-Identifier: Apache-2.0
"""What an adapter is, where it comes from, and what refactoring does to it, in tiles, tables, words and records."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from adapters import Adapter
from names import METHODS
from refactoring import Layer

from eigenhub.hub.space import html_table, tiles


LAYER_COLUMNS = ("layer", "weight", "rank", "effective", "largest σ", "smallest σ", "κ(A)", "refactored")
LEDGER_COLUMNS = ("client", "ε spent", "images", "noise σ", "rate", "steps", "rounds")
MOST_ROWS = 200


def adapter_tiles(adapter: Adapter, layers: Sequence[Layer]) -> str:
    """The adapter in four figures."""
    ranks = sorted({layer.rank for layer in layers})
    effective = sorted({layer.effective_rank for layer in layers})
    kappas = [layer.kappa for layer in layers]
    worst = max(layer.error for layer in layers)
    largest = max(layer.new_kappa for layer in layers)
    return tiles(
        [
            ("Layers", str(len(layers)), f"rank {span(ranks)}"),
            ("Effective rank", span(effective), "singular values above rounding"),
            ("κ(A)", f"{max(kappas):.3g}", f"the largest; refactored {largest:.6g}"),
            ("Product B A", f"{worst:.0e}", "largest relative change by refactoring"),
        ]
    )


def span(values: Sequence[int]) -> str:
    """`8`, or `4 to 8`."""
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def layer_table(layers: Sequence[Layer]) -> str:
    """HTML: one row for each layer, the first ones of very many."""
    rows = [
        [
            short_key(layer.name),
            " × ".join(map(str, layer.shape)),
            str(layer.rank),
            str(layer.effective_rank),
            f"{layer.singular_values[0]:.3g}",
            f"{layer.singular_values[-1]:.3g}",
            f"{layer.kappa:.3g}",
            f"{layer.new_kappa:.3g}",
        ]
        for layer in layers[:MOST_ROWS]
    ]
    more = "" if len(layers) <= MOST_ROWS else f"<p>{len(layers) - MOST_ROWS} more layers are not listed.</p>"
    return html_table(LAYER_COLUMNS, rows) + more


def short_key(name: str) -> str:
    """The name of a layer without what PEFT puts in front of all of them."""
    return name.removeprefix("base_model.model.")


def layer_records(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """The layers for programs; JSON has no infinity."""
    return [
        {**vars(layer), "shape": list(layer.shape), "kappa": layer.kappa if math.isfinite(layer.kappa) else None}
        for layer in layers
    ]


def provenance(adapter: Adapter) -> str:
    """HTML: how the adapter was trained, and what its clients have spent, as the files beside it say."""
    parts = [f"<p>{escape(_lora_words(adapter))}</p>", f"<p>{escape(_run_words(adapter))}</p>"]
    if adapter.ledger is not None:
        parts.append(f"<p>{escape('As its ledger says, which is not verified here: ' + adapter.ledger.claim())}</p>")
        parts.append(html_table(LEDGER_COLUMNS, [_ledger_row(row) for row in ledger_records(adapter)]))
    return "".join(parts)


def _lora_words(adapter: Adapter) -> str:
    config = adapter.lora
    if not config:
        return "A file alone: it does not say which model it belongs to."
    targets = config.get("target_modules") or "unknown modules"
    targets = ", ".join(sorted(map(str, targets))) if isinstance(targets, list) else str(targets)
    base = config.get("base_model_name_or_path") or "a model that it does not name"
    base = "the embedded ViT" if "vit-digits" in str(base) else base
    return f"LoRA of rank {config.get('r')}, alpha {config.get('lora_alpha')}, on {targets} of {base}."


def _run_words(adapter: Adapter) -> str:
    run = adapter.run
    if run is None:
        return "No fedsvd_config.json lies beside it: nothing is known of how it was trained."
    steps = f"{run.local_steps} local steps" if run.local_steps else f"{run.local_epochs:g} local epochs"
    privacy = "with differential privacy" if run.dp else "without differential privacy"
    return (
        f"Federated by {METHODS[run.method]}: {run.num_rounds} rounds of {steps}, {run.client_fraction:.0%} of the clients in "
        f"each, weighted by {'equal shares' if run.weighting == 'uniform' else 'examples'}, {privacy}."
    )


def ledger_records(adapter: Adapter) -> list[dict[str, Any]]:
    """One record for each client of the ledger; empty without one."""
    if adapter.ledger is None:
        return []
    spent = adapter.ledger.spent()
    return [
        {
            "client": name,
            "epsilon": spent[name] if math.isfinite(spent[name]) else None,
            "num_examples": account.num_examples,
            "noise_multiplier": account.noise_multiplier,
            "sample_rate": account.sample_rate,
            "steps": account.steps,
            "participations": account.participations,
            "max_participations": account.max_participations,
        }
        for name, account in adapter.ledger.accounts.items()
    ]


def _ledger_row(row: dict[str, Any]) -> list[str]:
    epsilon, noise = row["epsilon"], row["noise_multiplier"]
    return [
        row["client"],
        "∞" if epsilon is None else f"{epsilon:.3f}",
        str(row["num_examples"]),
        "" if noise is None else f"{noise:.3f}",
        f"{row['sample_rate']:.3f}",
        str(row["steps"]),
        f"{row['participations']} of {row['max_participations']}",
    ]
