# SPDX-License-Identifier: Apache-2.0
"""What FedSVD gains over the other ways to average LoRA, with and without privacy, beside every control that belongs there.

    python benchmarks/fedsvd_methods.py            # one seed, two rounds of everything; saves nothing
    python benchmarks/fedsvd_methods.py --full     # some 210 federated runs, half an hour on an idle core; saves its results and fills the card

Digits: a ViT that knows digits turned by a quarter circle learns upright ones, head frozen. Sentences: SST-2 with a small
RoBERTa pretrained on its text (set EIGENHUB_SST2 to a folder with train.tsv, dev.tsv, test.tsv), once with its head trained
and averaged too, once under a frozen random head. Finished runs are kept in
--cache, so it can be stopped and continued.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from support.arguments import add_cache, arguments
from support.cached import cached


METHODS = ("fedsvd", "ffa", "ffa_orth", "fedavg", "fedex", "flexlora", "flora", "rolora")
SEEDS, CLIP, ROOT3 = (0, 1, 2), 2.0, 3**0.5
DIGITS_LR, ADAM_LR, EVERY = 0.5, 3e-3, 5
MODES = ("no privacy", "epsilon 6")
#: For each variant of the sentences: modes, rates and rounds. All methods get the same rates, the published ones for methods that
#: train B alone (0.1 to 1), moved down where the head is trained and up where it is not.
GRIDS = {
    "sentences": (MODES, (0.05, 0.1, 0.2, 0.5), 12),
    "frozen head": (MODES[:1], (0.5, 1.0, 2.0, 4.0), 20),
}
NOTE = (
    "Test accuracy in per cent after the last round, mean over seeds {seeds} with the smallest and the largest; a seed draws "
    "A, a random head, the division among 6 clients and which 3 of them take part in a round of 10 local steps. Private runs: "
    "clipping at 2, Renyi accountant, delta 1e-3 (digits) and 1e-4 (sentences), fresh noise in every run. A Kaiming A has "
    'rows of length 1/sqrt(3): "lr x 3" and "C / sqrt 3" undo that and are the fair control of FedSVD\'s orthonormal A. '
    "Under SGD fedsvd and ffa_orth are one method, to rounding without privacy and in law with it: where they differ in private "
    "runs, that is what fresh noise alone does. 597 test digits and 1,820 test sentences: differences below two points mean "
    "nothing on three seeds. Sentences: the rate of each method is the best of four on the dev split with seed 0; the encoder has "
    "seen the labels of the other half of the training sentences, its head is random. Below the tables: "
    "differences between methods, the error of averaging both factors, the equivalence of FedSVD and FFA-LoRA with an "
    "orthonormal A, what the noise of released code really costs, and the condition of PEFT's A."
)


@dataclass(frozen=True)
class Run:
    """One line of a table: its name, the method and how its settings differ from those of the others."""

    name: str
    method: str
    lr_factor: float = 1.0
    dp_clip: float = CLIP


PLAIN = tuple(Run(method, method) for method in METHODS)
CONTROLS = {
    "no privacy": Run("ffa, lr x 3", "ffa", 3.0),
    "epsilon 6": Run("ffa, lr x 3, C / sqrt 3", "ffa", 3.0, CLIP / ROOT3),
}
Table = dict[str, dict[str, dict[str, Any]]]  # mode, name, {"lr", "runs"}


def one_run(cache: Path, **task: Any) -> dict[str, Any]:
    from support.fedsvd_runs import federated_run

    return cached(cache, task, lambda: federated_run(**task))


def digits(rounds: dict[str, int], seeds: Sequence[int], cache: Path) -> Table:
    """All methods at the same learning rate, the controls of their scale, and the pair that AdamW tells apart."""
    from tqdm import tqdm

    table: Table = {mode: {} for mode in rounds}
    jobs = [(mode, run) for mode in MODES for run in (*PLAIN, CONTROLS[mode])]
    jobs += [("AdamW", run) for run in PLAIN if run.method in ("fedsvd", "ffa_orth")]
    for mode, run in tqdm(jobs, desc="digits"):
        settings: dict[str, Any] = {"lr": DIGITS_LR * run.lr_factor, "rounds": rounds[mode], "eval_every": EVERY}
        if mode == "epsilon 6":
            settings["dp_clip"] = run.dp_clip
        elif mode == "AdamW":
            settings |= {"lr": ADAM_LR, "optim": "adamw_torch"}
        runs = [one_run(cache, task="digits", method=run.method, seed=seed, **settings) for seed in seeds]
        table[mode][run.name] = {"lr": settings["lr"], "runs": runs}
    return table


def sentences(task: str, seeds: Sequence[int], full: bool, cache: Path) -> Table:
    """All methods at the rate of the grid that was best on the dev split with the first seed."""
    from tqdm import tqdm

    modes, grid, rounds = GRIDS[task] if full else (GRIDS[task][0], GRIDS[task][1][:1], 2)
    table: Table = {mode: {} for mode in modes}
    for mode, run in tqdm([(mode, run) for mode in modes for run in PLAIN], desc=task):
        settings: dict[str, Any] = {"task": task, "method": run.method, "rounds": rounds, "eval_every": rounds}
        if mode == "epsilon 6":
            settings["dp_clip"] = run.dp_clip
        tried = {lr: one_run(cache, seed=seeds[0], lr=lr, **settings)["dev"] for lr in grid}
        lr = max(tried, key=lambda lr: tried[lr])
        runs = [one_run(cache, seed=seed, lr=lr, **settings) for seed in seeds]
        table[mode][run.name] = {"lr": lr, "runs": runs, "dev": tried}
    return table


def final(run: dict[str, Any]) -> float:
    """Accuracy after the last round."""
    return run["accuracy"][max(run["accuracy"], key=int)]


def finals(entry: dict[str, Any]) -> list[float]:
    return [final(run) for run in entry["runs"]]


def entry(what: str, setting: str, values: Sequence[float], bound: float | None = None) -> dict[str, Any]:
    from support.report import row

    return row(what, setting, mean(values), bound, range=[min(values), max(values)], seeds=list(values))


def table_rows(task: str, table: Table) -> list[dict[str, Any]]:
    rows = []
    for mode, runs in table.items():
        for name, found in runs.items():
            rounds = sorted(found["runs"][0]["accuracy"], key=int)
            early = ", ".join(
                f"{mean(run['accuracy'][r] for run in found['runs']):.1f} after {r}"
                for r in rounds[:-1]
                if int(r) <= 10
            )
            setting = f"lr {found['lr']:g}, {rounds[-1]} rounds" + (f"; {early}" if early else "")
            rows.append(entry(f"{task}, {mode}: {name}", setting, finals(found)) | {"all": found})
    return rows


def claims(digits: Table, sentences: Table, frozen: Table) -> list[dict[str, Any]]:
    """Differences of accuracies, seed by seed; a bound is what the documentation says of them."""

    def less(table: Table, task: str, mode: str, left: str, right: str, bound: float | None = None) -> dict[str, Any]:
        pairs = zip(finals(table[mode][left]), finals(table[mode][right]), strict=True)
        return entry(f"{task}, {mode}: {left} less {right}", "points, seed by seed", [a - b for a, b in pairs], bound)

    rows = [less(digits, "digits", mode, "ffa", "fedsvd", 0.0) for mode in MODES]
    for mode in MODES:
        for other in ("ffa_orth", CONTROLS[mode].name, "fedavg"):
            rows.append(less(digits, "digits", mode, other, "fedsvd"))
    rows.append(less(digits, "digits", "AdamW", "ffa_orth", "fedsvd"))
    for mode in MODES:
        rows += [less(sentences, "sentences", mode, other, "fedsvd") for other in ("ffa", "ffa_orth", "fedavg")]
    for other in ("ffa", "ffa_orth", "fedavg"):
        rows.append(less(frozen, "frozen head", MODES[0], other, "fedsvd"))
    return rows


def main() -> None:
    full = "all seeds and rounds; saves its results, fills the card"
    parser = arguments(__doc__, "short", "one seed, two rounds of everything; prints only", full)
    add_cache(parser, "fedsvd_methods")
    parser.add_argument(
        "--only", choices=("digits", *GRIDS, "findings"), help="fill the cache with this part; prints nothing"
    )
    args = parser.parse_args()

    import torch
    from support import fedsvd_findings
    from support.card_figures import replace_measured
    from support.fedsvd_card import card_figures
    from support.report import save

    torch.set_num_threads(1)
    seeds = SEEDS if args.full else SEEDS[:1]
    rounds = {"no privacy": 20, "epsilon 6": 15, "AdamW": 15} if args.full else dict.fromkeys((*MODES, "AdamW"), 2)
    parts = {
        "digits": lambda: digits(rounds, seeds, args.cache),
        **{task: lambda task=task: sentences(task, seeds, args.full, args.cache) for task in GRIDS},
        "findings": lambda: fedsvd_findings.rows(12 if args.full else 2, args.cache),
    }
    found: dict[str, Any] = {name: part() for name, part in parts.items() if args.only in (None, name)}
    if args.only:
        return
    tables = {task: found[task] for task in ("digits", *GRIDS)}
    rows = [line for task, table in tables.items() for line in table_rows(task, table)]
    rows += [*claims(*tables.values()), *found["findings"]]
    packages = ["transformers", "peft", "opacus", "eigenhub"]
    note = NOTE.format(seeds=", ".join(map(str, seeds)))
    save(
        "fedsvd_methods",
        "FedSVD: findings on digits and sentences",
        rows,
        packages,
        keep=args.full,
        note=note,
        kind="quality",
    )
    if args.full:
        command = "python benchmarks/fedsvd_methods.py --full"
        replace_measured("fedsvd", card_figures(tables, list(seeds), command))


if __name__ == "__main__":
    main()
