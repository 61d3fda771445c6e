# SPDX-License-Identifier: Apache-2.0
"""What DCT-AdamW, Trion and AuON gain and do not gain at small scale, beside every control that belongs there.

    python benchmarks/dct_findings.py            # a look at everything, a minute or two; saves nothing
    python benchmarks/dct_findings.py --full     # the grid: some 280 runs, forty minutes on two idle cores; fills the card

A byte-level Llama of 0.5 million parameters learns the sources of Python's standard library. For every contender both the
rate of the matrices and that of everything else are searched on seed 0, open-ended, the same way for all; the pair that is
best is then repeated on two more seeds. Finished runs are kept in --cache, so the grid can be stopped and continued.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from support.arguments import add_cache, arguments
from support.cached import cached


PROCESSES = 2
ADAM, MOMENTUM, DCT, SGD = (5e-4, 1e-3, 2e-3), (0.02, 0.05, 0.1), (1e-3, 2e-3, 4e-3), (0.02, 0.08, 0.32)
NOTE = (
    "Held-out loss (nats per byte) of a small Llama after {steps} steps, mean over seeds {seeds} with the smallest and the "
    "largest, at the rates that were best on seed 0; then differences of such losses (the bound says what had been expected), "
    "bases at equal rates, energies and overlaps. Seeds differ by up to 0.2, and a rate that is best on one seed need not be "
    "on another: a difference below 0.05 means nothing."
)


@dataclass(frozen=True)
class Contender:
    """One line of the race: a kind of `support.race.KINDS`, its options, and the rates that the search begins with."""

    name: str
    kind: str
    rates: tuple[float, ...]
    options: dict[str, Any] = field(default_factory=dict)


def dct(name: str, rank: int, kind: str = "dct", gap: int = 1, **options: Any) -> Contender:
    return Contender(name, kind, DCT, {"rank": rank, "update_proj_gap": gap, **options})


def trion(name: str, rank: int, kind: str = "trion", **options: Any) -> Contender:
    return Contender(name, kind, MOMENTUM, {"rank": rank, **options})


def auon(name: str, rates: tuple[float, ...], **options: Any) -> Contender:
    return Contender(name, "auon", rates, options)


CONTENDERS = (
    Contender("frozen", "frozen", (0.0,)),
    Contender("AdamW", "adamw", ADAM),
    Contender("Muon", "muon", MOMENTUM),
    Contender("GaLore r=32, gap 50", "galore", (5e-3, 1e-2, 2e-2), {"rank": 32, "update_proj_gap": 50, "scale": 0.25}),
    dct("DCT r=8", 8),
    dct("DCT r=32", 32),
    dct("DCT r=64", 64),
    dct("DCT r=32, not rotated", 32, rotate=False),
    dct("DCT r=32, error feedback", 32, error_feedback="fp32"),
    dct("DCT r=32, error feedback int8", 32, error_feedback="int8"),
    dct("DCT r=32, gap 10", 32, gap=10),
    dct("DCT-III r=32, gap 10", 32, gap=10, basis="dct3"),
    dct("random r=32, gap 10", 32, gap=10, basis="random"),
    dct("identity r=32, gap 10", 32, gap=10, basis="identity"),
    dct("SVD r=32, gap 10", 32, kind="svd", gap=10),
    dct("SVD r=32, gap 10, error feedback", 32, kind="svd", gap=10, error_feedback=True),
    dct("DCT r=32, gap 10, fira", 32, gap=10, residual="fira"),
    dct("DCT r=8, gap 10, fira", 8, gap=10, residual="fira"),
    dct("identity r=32, gap 10, fira", 32, gap=10, residual="fira", basis="identity"),
    trion("Trion r=32", 32),
    trion("Trion r=64", 64),
    trion("Trion r=32, random", 32, basis="random"),
    trion("Trion r=32, identity", 32, basis="identity"),
    trion("Dion r=32", 32, kind="dion"),
    auon("AuON package", SGD, variant="package", gamma=1.5),
    auon("Nesterov SGD", SGD, variant="package", gamma=0.0),
    auon("AuON normalised", (3e-3, 1e-2, 3e-2), variant="normalized", gamma=1.0, adjust_lr="original"),
    auon("normalised Nesterov SGD", (3e-3, 1e-2, 3e-2), variant="normalized", gamma=0.0, adjust_lr="original"),
    auon("Hybrid AuON, 1 iteration", (0.05, 0.1, 0.2), variant="package", gamma=1.5, ns_steps=1),
    auon("Hybrid AuON, 5 iterations", (0.01, 0.02, 0.04), variant="package", gamma=1.5, ns_steps=5),
)
#: Losses that are compared: what, first, second, and the largest difference first - second that agrees with the docs.
COMPARED = (
    ("more columns help: r=64 over r=32", "DCT r=64", "DCT r=32", 0.0),
    ("more columns help: r=32 over r=8", "DCT r=32", "DCT r=8", 0.0),
    ("a real decomposition is better", "SVD r=32, gap 10", "DCT r=32, gap 10", 0.0),
    ("cosines are no better than a random basis", "random r=32, gap 10", "DCT r=32, gap 10", 0.02),
    ("cosines are no better than the coordinate axes", "identity r=32, gap 10", "DCT r=32, gap 10", 0.02),
    ("carrying moments along", "DCT r=32", "DCT r=32, not rotated", None),
    ("the fira residual, at equal memory", "DCT r=32, gap 10, fira", "DCT r=32, gap 10", -0.02),
    ("the fira residual against AdamW", "DCT r=32, gap 10, fira", "AdamW", None),
    ("int8 error feedback loses nothing", "DCT r=32, error feedback int8", "DCT r=32, error feedback", 0.02),
    ("Muon over Dion", "Muon", "Dion r=32", 0.0),
    ("a power iteration over cosines", "Dion r=32", "Trion r=32", 0.0),
    ("Trion's cosines are no better than a random basis", "Trion r=32, random", "Trion r=32", 0.02),
    ("freezing over AuON package", "frozen", "AuON package", 0.02),
    ("AuON package is Nesterov SGD", "AuON package", "Nesterov SGD", 0.005),
    ("AuON normalised is normalised Nesterov SGD", "AuON normalised", "normalised Nesterov SGD", 0.005),
    ("five iterations make it Muon", "Hybrid AuON, 5 iterations", "Muon", None),
)
#: Bases at equal rates: the best of one seed can be another seed's second, which alone moves a loss by more than a basis does.
BASES = ("dct2", "dct3", "random", "identity")
EQUAL_RATES = (
    ("DCT-AdamW r=32, gap 10", "dct", {"rank": 32, "update_proj_gap": 10}, (2e-3, 4e-3), 3e-3),
    ("Trion r=32", "trion", {"rank": 32}, (0.02, 0.05), 1e-2),
)


@dataclass(frozen=True)
class Plan:
    """How much is run: steps of a race, its seeds, whether rates are searched, and where results are kept."""

    steps: int
    seeds: tuple[int, ...]
    searched: bool
    cache: Path


FULL, SHORT = (200, (0, 1, 2), True), (8, (0,), False)


def contest(contender: Contender, plan: Plan) -> dict[str, Any]:
    """The best rates of one contender and its losses there; runs in a process of its own."""
    from support.race import race
    from support.search import tune

    tried: list[dict[str, float]] = []

    def loss(rate: float, aux: float, seed: int = 0) -> float:
        at = {"lr": rate, "aux_lr": aux, "seed": seed}
        task = {"kind": contender.kind, "options": contender.options, "steps": plan.steps, **at}
        found = cached(plan.cache, task, lambda: race(**task))["val_loss"]
        tried.append({**at, "loss": found})
        return found

    rate, aux = tune(loss, contender.rates) if plan.searched else (contender.rates[len(contender.rates) // 2], 3e-3)
    losses = [loss(rate, aux, seed) for seed in plan.seeds]
    return {"name": contender.name, "lr": rate, "aux_lr": aux, "losses": losses, "tried": tried}


def equal_rate(name: str, kind: str, options: dict[str, Any], lr: float, aux_lr: float, plan: Plan) -> dict[str, Any]:
    """The losses of one basis at a given rate; runs in a process of its own."""
    from support.race import race

    tasks = [
        {"kind": kind, "options": options, "steps": plan.steps, "lr": lr, "aux_lr": aux_lr, "seed": s}
        for s in plan.seeds
    ]
    losses = [cached(plan.cache, task, partial(race, **task))["val_loss"] for task in tasks]
    return {"tag": "equal", "what": name, "basis": options.get("basis", "dct2"), "lr": lr, "losses": losses}


def measure(what: str, plan: Plan, **arguments: Any) -> dict[str, Any]:
    """One of the measurements in `support.subspaces`, kept like the runs."""
    from support import subspaces

    task = {"what": what, **arguments}
    return cached(plan.cache, task, lambda: getattr(subspaces, what)(**arguments))


def run_all(jobs: list[partial]) -> Iterator[dict[str, Any]]:
    """The results of all jobs as they come, from processes with one thread each."""
    from tqdm import tqdm

    # spawn: a forked child would inherit torch's thread pool in an unusable state
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(job) for job in jobs]
        for future in tqdm(as_completed(futures), total=len(futures), desc="contenders and measurements"):
            yield future.result()


def find(plan: Plan) -> tuple[dict[str, dict], dict[str, list[dict]]]:
    """Race results by name; by tag, bases at equal rates, gradient measurements by seed, overlaps with their settings."""
    from support.race import available

    watched = max(12, plan.steps * 3 // 5)  # past the warm-up, at high rates; two choices at gap 10
    races = [partial(contest, contender, plan) for contender in CONTENDERS if available(contender.kind)]
    energies = [partial(tagged, "energy", {"seed": s}, plan, "gradients", watched) for s in plan.seeds]
    overlaps = [
        partial(tagged, "overlap", {"seed": s, "gap": gap, "error_feedback": kept}, plan, "index_overlap", watched)
        for s in plan.seeds
        for gap in (1, 10)
        for kept in (None, "fp32")
    ]
    equal = [
        partial(equal_rate, name, kind, options | ({} if basis == "dct2" else {"basis": basis}), lr, aux_lr, plan)
        for name, kind, options, rates, aux_lr in EQUAL_RATES
        for lr in rates
        for basis in BASES
    ]
    found = list(run_all([*races, *energies, *overlaps, *equal]))
    by_name = {entry["name"]: entry for entry in found if "name" in entry}
    order = {contender.name: by_name[contender.name] for contender in CONTENDERS if contender.name in by_name}
    return order, {tag: [e for e in found if e.get("tag") == tag] for tag in ("equal", "energy", "overlap")}


def tagged(tag: str, setting: dict[str, Any], plan: Plan, what: str, steps: int) -> dict[str, Any]:
    return {"tag": tag, **setting, **measure(what, plan, steps=steps, **setting)}


def race_rows(races: dict[str, dict]) -> list[dict]:
    from support.report import row

    rows = []
    for name, entry in races.items():
        losses = entry["losses"]
        setting = f"lr {entry['lr']:g}, aux {entry['aux_lr']:g}"
        spread = {"range": [min(losses), max(losses)], "digits": 4}
        rows.append(row(f"loss: {name}", setting, mean(losses), **spread, losses=losses, tried=entry["tried"]))
    return rows


def comparison_rows(races: dict[str, dict]) -> list[dict]:
    from support.report import row

    rows = []
    for what, first, second, bound in COMPARED:
        if first in races and second in races:
            pairs = zip(races[first]["losses"], races[second]["losses"], strict=True)
            differences = [a - b for a, b in pairs]
            spread = [min(differences), max(differences)]
            rows.append(row(what, f"{first} - {second}", mean(differences), bound, range=spread))
    return rows


def equal_rows(equal: list[dict]) -> list[dict]:
    from support.report import row

    rows = []
    for entry in sorted(equal, key=lambda e: (e["what"], e["lr"], BASES.index(e["basis"]))):
        losses = entry["losses"]
        spread = {"range": [min(losses), max(losses)], "digits": 4, "losses": losses}
        rows.append(
            row(
                f"loss at equal rates: {entry['basis']}",
                f"{entry['what']}, lr {entry['lr']:g}",
                mean(losses),
                **spread,
            )
        )
    return rows


def energy_rows(energies: list[dict]) -> list[dict]:
    from support.report import row

    rows = []
    for moment, table in energies[0]["energy"].items():
        for share, by_basis in table.items():
            for basis in by_basis:
                values = [entry["energy"][moment][share][basis] for entry in energies]
                setting = f"{moment}, {float(share):.0%} of the columns"
                rows.append(row(f"energy: {basis}", setting, mean(values), range=[min(values), max(values)]))
    largest = max(entry["largest_brake"] for entry in energies)
    rows.append(row("AuON's brake minus one, largest", "every matrix and step, gamma 1.5", largest, 6e-4))
    return rows


def overlap_rows(overlaps: list[dict]) -> list[dict]:
    from support.report import row

    rows = []
    for gap, kept in sorted({(o["gap"], o["error_feedback"] or "") for o in overlaps}):
        values = [o["overlap"] for o in overlaps if (o["gap"], o["error_feedback"] or "") == (gap, kept)]
        setting = f"r = n/4 (chance 0.25), gap {gap}, {'with' if kept else 'without'} error feedback"
        rows.append(row("overlap of consecutive index sets", setting, mean(values), range=[min(values), max(values)]))
    return rows


def card_figures(races: dict[str, dict], seeds: tuple[int, ...], steps: int, packages: list[str]) -> list[Any]:
    """The losses of the race in the form of a results file; the method is the kind of contender."""
    from support.card_figures import measured_figure

    from eigenhub.hub.results import DatasetRef

    kinds = {contender.name: contender.kind for contender in CONTENDERS}
    return [
        measured_figure(
            entry["losses"],
            packages,
            id="stdlib-bytes-" + "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split()),
            method=kinds[name],
            task="text-generation",
            dataset=DatasetRef("python/standard-library", "Sources of Python's standard library", "test"),
            metric="held-out loss, nats per byte",
            setting=f"{name}; byte-level Llama of 0.5 M parameters, {steps} steps, learning rate {entry['lr']:g}, "
            f"of everything else {entry['aux_lr']:g}",
            seeds=list(seeds),
            command="python benchmarks/dct_findings.py --full",
        )
        for name, entry in races.items()
    ]


def main() -> None:
    parser = arguments(__doc__, "short", "a few steps of everything; prints only", "the whole grid; saves its results")
    add_cache(parser, "dct_findings")
    args = parser.parse_args()
    steps, seeds, searched = FULL if args.full else SHORT
    races, others = find(Plan(steps, seeds, searched, args.cache))

    import torch
    from support.card_figures import replace_measured
    from support.report import save

    torch.set_num_threads(1)  # as in the processes that did the work; the report notes it
    rows = [*race_rows(races), *comparison_rows(races), *equal_rows(others["equal"])]
    rows += [*energy_rows(others["energy"]), *overlap_rows(others["overlap"])]
    packages = ["transformers", "eigenhub", *(["galore-torch"] if "GaLore r=32, gap 50" in races else [])]
    note = NOTE.format(steps=steps, seeds=", ".join(map(str, seeds)))
    save("dct_findings", "DCT-AdamW, Trion, AuON: findings", rows, packages, args.full, note, "quality")
    if args.full:
        replace_measured("dct", card_figures(races, seeds, steps, packages))


if __name__ == "__main__":
    main()
