# SPDX-License-Identifier: Apache-2.0
"""The endpoints. Types and docstrings become the description of the API.

The functions import what computes when they run, so the page opens long before torch and transformers are loaded.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from names import ADAMW, AUON, AUX_RATE, DCT, HYBRID, MATRICES, MUON, RATES, TRION

from eigenhub.hub.space_events import shown_to_visitor


def energy(model: str, matrix: str = "", moment: str = "weight", side: str = "auto", score_norm: int = 1) -> dict:
    """Share of the squared norm of a matrix that r directions hold, for every r and basis.

    Args:
        model: "embedded:trained", "embedded:untrained", a Hub id or a folder.
        matrix: Name of the weight; empty for the first one.
        moment: "weight", "gradient" or "momentum".
        side: "auto" projects the shorter side, "right" the rows, "left" the columns.
        score_norm: 1 chooses directions by sums of absolute values, 2 by sums of squares.

    Returns:
        model, matrix, shape, width, curves (svd, dct2, dct3, random, identity) and chance (lowest and highest of several
        random bases); entry r - 1 of every list belongs to r directions.
    """
    from computing import measure

    found = measure(model, matrix, moment, side, int(score_norm))
    captured = found.captured
    low, high = captured.chance.aminmax(dim=0)
    return {
        "model": model,
        "matrix": found.matrix,
        "shape": list(found.shape),
        "width": captured.width,
        "curves": {kind: curve.tolist() for kind, curve in captured.curves.items()},
        "chance": {"lowest": low.tolist(), "highest": high.tolist()},
    }


def race(
    contenders: list[str],
    bases: list[str],
    rank: int = 32,
    gap: int = 10,
    left_over: str = "dropped",
    steps: int = 60,
    lr_adamw: float = RATES[ADAMW],
    lr_muon: float = RATES[MUON],
    lr_dct_adamw: float = RATES[DCT],
    lr_trion: float = RATES[TRION],
    lr_auon: float = RATES[AUON],
    lr_hybrid_auon: float = RATES[HYBRID],
    lr_others: float = AUX_RATE,
    seed: int = 0,
) -> Iterator[list[dict]]:
    """Race optimizers on a byte-level Llama and Python's sources; answers again and again while it runs.

    Args:
        contenders: Any of "frozen (control)", "AdamW", "Muon", "DCT-AdamW", "Trion", "AuON", "Hybrid AuON".
        bases: Any of "dct2", "dct3", "random", "identity"; DCT-AdamW and Trion run once with each.
        rank: Directions of DCT-AdamW and Trion, of 128.
        gap: Steps between two choices of directions in DCT-AdamW.
        left_over: What DCT-AdamW does with the rest of the gradient: "dropped", "fira", "fp32", "bf16" or "int8".
        steps: Optimizer steps, 10 to 300.
        lr_adamw: Peak rate of AdamW.
        lr_muon: Peak rate of Muon.
        lr_dct_adamw: Peak rate of DCT-AdamW.
        lr_trion: Peak rate of Trion.
        lr_auon: Peak rate of AuON.
        lr_hybrid_auon: Peak rate of Hybrid AuON.
        lr_others: Peak rate of AdamW for everything that is no matrix, the same in all runs.
        seed: Of the initial weights and of the order of the text.

    Returns:
        One record per run: name, lr, losses (training, step by step), smoothed, held_out_loss (at the end), state_bytes,
        optimizer_milliseconds (per step), diverged.
    """
    from computing import report

    rates = dict(zip(RATES, (lr_adamw, lr_muon, lr_dct_adamw, lr_trion, lr_auon, lr_hybrid_auon), strict=True))
    yield from report(contenders, bases, rank, gap, left_over, steps, rates, lr_others, seed)


def memory(model: str, rank: float = 256, dtype: str = "float32") -> list[dict]:
    """Bytes of optimizer state for an architecture, by formula; no weight is loaded.

    Args:
        model: "llama_60m", "llama_130m", "llama_350m", "llama_1b", "llama_7b", a Hub id, a folder or a config.json.
        rank: Rank of the low-rank optimizers; below 1 a share of each matrix' width.
        dtype: "float32" or "bfloat16", of weights and state.

    Returns:
        One record per optimizer: optimizer, formula, matrix_bytes, other_bytes, total_bytes.
    """
    from computing import records

    with shown_to_visitor("Cannot read this architecture"):
        return records(model, as_rank(rank), as_dtype(dtype))


def check_memory(model: str, rank: float = 256, dtype: str = "float32") -> tuple[str, list[dict]]:
    """Build a small model, let every optimizer take a step, and compare its state with the formulas.

    Args:
        model: As for `memory`; one of more than 30 million parameters is stood in for by the embedded Llama.
        rank: As for `memory`.
        dtype: As for `memory`.

    Returns:
        What was built, and one record per optimizer: optimizer, formula_bytes, measured_bytes, equal.
    """
    from computing import check

    with shown_to_visitor("Cannot build this architecture"):
        return check(model, as_rank(rank), as_dtype(dtype))


def brake(gamma: float = 1.5, rows: int = 64, columns: int = 64, matrix: str = "gaussian") -> dict:
    """AuON's brake on one matrix, and the singular values of the updates of AuON, its hybrid and Muon.

    Args:
        gamma: Steepness of the brake, 0 to 40.
        rows: Rows of the momentum matrix, 1 to 512.
        columns: Columns of the momentum matrix, 1 to 512.
        matrix: "gaussian", "ill_conditioned" or "spike".

    Returns:
        rho, the brake; lowest and highest, its bounds for this size; singular_values by optimizer, in descending order.
    """
    found = braking_of(gamma, rows, columns, matrix)
    values = {name: tensor.tolist() for name, tensor in found.values.items()}
    return {"rho": found.rho, "lowest": found.lowest, "highest": found.highest, "singular_values": values}


def braking_of(gamma: float, rows: int, columns: int, matrix: str) -> Any:
    """`braking.apply_brake` with checked arguments."""
    from computing import MAX_SIDE, apply_brake

    rows, columns, gamma = int(rows), int(columns), float(gamma)
    if not (0 <= gamma <= 40 and 1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE):
        raise gr.Error(
            f"gamma must be in 0 to 40, rows and columns in 1 to {MAX_SIDE}; got {gamma}, {rows}, {columns}."
        )
    if matrix not in MATRICES:
        raise gr.Error(f"The matrix is one of {', '.join(MATRICES)}, not {matrix!r}.")
    return apply_brake(gamma, rows, columns, matrix)


def as_rank(value: float | None) -> int | float:
    """From 1 on a number of columns, below it a share; gradio turns 1.0 into 1."""
    if value is None or value <= 0 or (value >= 1 and value != int(value)):
        raise ValueError(f"the rank must be a whole number of columns, or a share of the width below 1, not {value}")
    return int(value) if value >= 1 else float(value)


def as_dtype(name: str) -> str:
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"the dtype must be float32 or bfloat16, not {name!r}")
    return name
