# SPDX-License-Identifier: Apache-2.0
"""Rows of the benchmark of reflections and frames: contenders are checked to agree, then timed in turn."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from eigenhub.linalg import gram_defect
from eigenhub.linalg.householder import householder_product
from eigenhub.nn import HouseholderFrame
from support.householder_speed_products import (
    MAPS,
    Function,
    Step,
    dense_reflections,
    gaussian,
    hra_product,
    our_layer,
    rank_one_updates,
    step_of,
    torch_frame,
    torch_layer,
)
from support.report import row
from support.timing import ratio


D, RANK, LAYERS = 512, 10, 17
TORCH_BOUND, MAP_BOUND, SEQUENTIAL_BOUND = 1 / 10, 1 / 30, 1 / 100
OURS, LOOP, DENSE = "ours", "a loop of rank-one updates", "the official dense reflections"
LEAST, LONG = 0.05, 1.0  # seconds: of a timing, for the clock to resolve it; of a call that counts as long


def timed(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds per call, in turn; short calls are repeated within a turn.

    Each turn starts with a call that does not count, unless calls take long: whoever comes after a contender that has filled
    gigabytes would pay for handing them back.

    Args:
        calls (`Mapping[str, Callable]`): what to time, by name; called before already.
        rounds (`int`): of timing.
    """
    once = {name: _seconds(call, 1) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if once[name] < LONG:
                call()
            seconds[name].append(_seconds(call, math.ceil(LEAST / once[name])))
    return seconds


def _seconds(call: Callable[[], object], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def check_agreement(steps: Mapping[str, Step], tolerance: float = 2e-4) -> None:
    """Raises `RuntimeError` if outputs or gradients differ by more than a share of their largest entry.

    Args:
        steps (`Mapping[str, Callable]`): contenders, which return tensors; the first is the measure.
        tolerance (`float`, *optional*, defaults to 2e-4): the share.
    """
    expected, *others = [(name, call()) for name, call in steps.items()]
    for name, found in others:
        for one, other in zip(found, expected[1], strict=True):
            error = (one - other).abs().max() / other.abs().max()
            if not error <= tolerance:
                raise RuntimeError(f"{name} and {expected[0]} differ by {error:.1e}")


def ratio_row(
    what: str, setting: str, seconds: dict[str, list[float]], name: str, peer: str, bound: float | None = None
) -> dict[str, Any]:
    found = ratio(seconds, name, peer)
    return row(what, setting, found.pop("ratio"), bound, **found, fastest=[min(seconds[name]), min(seconds[peer])])


def thin_rows(rounds: int, d: int = D, r: int = RANK) -> list[dict[str, Any]]:
    """Thin frames against torch's product of reflections, and against torch's parametrizations in their best setting.

    Args:
        rounds (`int`): of timing; fewer for the map that takes long.
        d (`int`, *optional*): length of the columns.
        r (`int`, *optional*): number of columns.
    """
    setting = f"forward + backward, d={d}, r={r}, float32"
    steps = thin_contenders(d, r)
    check_agreement(steps)
    seconds = timed(steps, rounds)
    *ours, peer = steps
    rows = [ratio_row(f"{name} / {peer}", setting, seconds, name, peer, TORCH_BOUND) for name in ours]
    for number, name in zip((rounds, rounds, max(rounds // 6, 2)), MAPS, strict=True):
        layers = layer_contenders(d, r, name)
        seconds = timed(layers, number)
        best = min(list(seconds)[1:], key=lambda key: min(seconds[key]))
        what = f"HouseholderFrame / torch orthogonal, {name}"
        rows.append(ratio_row(what, f"{setting}; {best}", seconds, "HouseholderFrame", best, MAP_BOUND))
    return rows


def thin_contenders(d: int, r: int) -> dict[str, Step]:
    """One frame of unit lower triangular vectors."""
    lower, upstream = gaussian(d, r).tril(-1) / r, gaussian(d, r, seed=1)
    forms: dict[str, Function] = {
        "householder_product": lambda a: householder_product(a.tril(-1) + torch.eye(d, r), r),
        "HouseholderFrame": HouseholderFrame(d, r),
        "torch.linalg.householder_product": torch_frame,
    }
    return {name: step_of(form, lower, upstream) for name, form in forms.items()}


def layer_contenders(d: int, r: int, orthogonal_map: str) -> dict[str, Step]:
    """Parametrizations that hold an orthonormal frame, one and the same where torch lets one choose it."""
    frame, upstream = torch.linalg.qr(gaussian(d, r)).Q, gaussian(d, r, seed=1)
    steps = {"HouseholderFrame": our_layer(frame, upstream)}
    for trivial in (True, False):
        name = f"use_trivialization={trivial}"
        steps[name] = torch_layer(frame, upstream, orthogonal_map, trivial)
        found = steps[name]()[0]
        chosen = trivial or orthogonal_map == "householder"
        error = (found - frame).abs().max() if chosen else gram_defect(found).abs().max()
        if not error < 1e-4:
            raise RuntimeError(f"{orthogonal_map}, {name}: {error:.1e} off")
    return steps


def long_rows(rounds: int, d: int = D, k: int = D, r: int = RANK) -> list[dict[str, Any]]:
    """Many reflections against one after the other: as rank-one updates, and as the official dense matrices.

    Args:
        rounds (`int`): of timing.
        d (`int`, *optional*): length of the vectors.
        k (`int`, *optional*): number of reflections.
        r (`int`, *optional*): number of columns, where not all are wanted.
    """
    few, every = long_contenders(d, k, r), long_contenders(d, k, d)
    check_agreement(few)
    check_agreement(every)
    del few[DENSE]  # it makes all columns anyway
    calls = {
        f"{name} {label}": call for label, group in (("few", few), ("all", every)) for name, call in group.items()
    }
    seconds = timed(calls, rounds)
    seconds[f"{DENSE} few"] = seconds[f"{DENSE} all"]
    rows = []
    for label, columns in (("few", f"first {r}"), ("all", "all")):
        setting = f"forward + backward, d={d}, {k} reflections, {columns} columns"
        for peer in (LOOP, DENSE):
            names = f"{OURS} {label}", f"{peer} {label}"
            rows.append(ratio_row(f"ours / {peer}", setting, seconds, *names, bound=SEQUENTIAL_BOUND))
    return rows


def long_contenders(d: int, k: int, r: int) -> dict[str, Step]:
    """The first `r` columns of `k` reflections."""
    vectors, upstream = gaussian(d, k), gaussian(d, r, seed=1)
    forms: dict[str, Callable[..., Tensor]] = {
        OURS: householder_product,
        LOOP: rank_one_updates,
        DENSE: dense_reflections,
    }
    return {name: step_of(partial(form, r=r), vectors, upstream) for name, form in forms.items()}


def batch_contenders(layers: int, d: int, r: int) -> dict[str, Step]:
    vectors, upstream = gaussian(layers, d, r), gaussian(layers, d, r, seed=1)

    def loop(stack: Tensor) -> Tensor:
        return torch.stack([householder_product(one, r) for one in stack.unbind()])

    at_once = step_of(lambda stack: householder_product(stack, r), vectors, upstream)
    return {"at once": at_once, "one by one": step_of(loop, vectors, upstream)}


def hra_contenders(d: int, r: int) -> dict[str, Step]:
    vectors = gaussian(d, r)
    return {"ours": step_of(householder_product, vectors, gaussian(d, d, seed=1)), "PEFT": hra_product(vectors)}


def other_rows(rounds: int) -> list[dict[str, Any]]:
    """Many thin frames at once, and the loop of PEFT's HRA; no bounds.

    Args:
        rounds (`int`): of timing.
    """
    setting = f"forward + backward, {LAYERS} layers, d={D}, r={RANK}"
    cases = [("all frames at once / one by one", setting, batch_contenders(LAYERS, D, RANK))]
    for r in (8, 64):
        setting = f"forward + backward of the {D} x {D} product, r={r}"
        cases.append(("ours / the loop of PEFT's HRA", setting, hra_contenders(D, r)))
    rows = []
    for what, setting, steps in cases:
        check_agreement(steps)
        name, peer = steps
        rows.append(ratio_row(what, setting, timed(steps, rounds), name, peer))
    return rows
