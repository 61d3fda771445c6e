# SPDX-License-Identifier: Apache-2.0
"""What BT2 gains over its baselines on the embedded glyphs, with every control that belongs there, on three seeds.

    python benchmarks/bt2_glyphs.py            # one seed, a few steps of what is compared; saves nothing
    python benchmarks/bt2_glyphs.py --full     # some hundred trainings of eight seconds; saves its results and fills the card

The old model knows 30 of 60 classes; the new teacher is wider and knows all. Every method takes the same trunk, the same
2,400 images and 15 passes unless it says otherwise. Finished runs are kept in --cache, so it can be stopped and continued.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from support.arguments import add_cache, arguments
from support.cached import cached


STEPS, SEEDS = 555, (0, 1, 2)
COLD = ("--init", "random", "--no-warm_start")
TWICE = 2
#: Name, flags of the script, and how many times the steps.
TRAINED: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("independent", ("--method", "independent", "--old_model", "embedded"), 1),
    ("independent, twice the steps", ("--method", "independent", "--old_model", "embedded"), TWICE),
    ("BCT, alpha 10", ("--method", "bct"), 1),
    ("BCT, alpha 1", ("--method", "bct", "--influence_weight", "1"), 1),
    ("BCT, alpha 10, 8 wider", ("--method", "bct", "--embedding_dim", "40"), 1),
    ("BCT, alpha 10, twice the steps", ("--method", "bct"), TWICE),
    ("BCT, alpha 10, from the new teacher", ("--method", "bct", "--new_model", "embedded", "--warm_start"), 1),
    (
        "BCT, alpha 1, from the new teacher",
        ("--method", "bct", "--influence_weight", "1", "--new_model", "embedded", "--warm_start"),
        1,
    ),
    ("OCA, 8 wider", ("--method", "oca", "--added_dim", "8"), 1),
    ("OCA, 16 wider", ("--method", "oca"), 1),
    ("OCA, 16 wider, twice the steps", ("--method", "oca"), TWICE),
    *((f"BT2 as published, k={k}", (*COLD, "--added_dim", str(k)), 1) for k in (4, 8, 16, 32)),
    ("BT2 as published, k=16, twice the steps", COLD, TWICE),
    ("BT2, k=16, Procrustes base alone", ("--no-warm_start",), 1),
    ("BT2, k=16, warm start alone", ("--init", "random"), 1),
    *((f"BT2, k={k}", ("--added_dim", str(k)), 1) for k in (0, 4, 8, 16, 32)),
    ("BT2, k=16, linear", ("--added", "linear"), 1),
    ("BT2, k=16, without influence", ("--influence_weight", "0"), 1),
    ("BT2, k=16, without old match", ("--old_match_weight", "0"), 1),
    ("BT2, k=16, without new teacher", ("--new_teacher_weight", "0"), 1),
    ("BT2, k=16, C=1", ("--scale", "1"), 1),
    ("BT2, k=16, C=4", ("--scale", "4"), 1),
    ("BT2, k=16, label smoothing 0.1", ("--label_smoothing", "0.1"), 1),
    ("BT2, k=16, rank 4", ("--basis_rank", "4"), 1),
)
MAPPED = ("Procrustes", "least squares", "ridge 0.01", "residual MLP")
OURS = "BT2, k=16"
#: The contenders of the claims, which are all that a short run trains.
CLAIMED = (
    "independent",
    "BCT, alpha 10",
    "BCT, alpha 10, from the new teacher",
    "OCA, 16 wider, twice the steps",
    OURS,
)
METRICS = ("cmc@1", "cmc@5", "map")
NOTE = (
    "Retrieval among {test} test images, each query and gallery, itself excluded, in per cent; query/gallery; mean over "
    'seeds {seeds} with the smallest and the largest. "BT2" starts from the new teacher at the Procrustes base, so it has '
    'seen the images twice as often as the methods that start from nothing; the rows "twice the steps" and "from the new '
    'teacher" are the fair comparison. A bound is met when the difference named is not larger.'
)
Table = dict[str, dict[str, dict[str, list[float]]]]  # method, pair, metric, seeds


def run_all(
    names: Sequence[str], steps: int, seeds: Sequence[int], folder: Path
) -> tuple[Table, list[dict[str, dict]]]:
    """Retrieval of contenders, those named and the maps, and the backfill curves of ours, seed by seed."""
    from support import glyph_runs
    from tqdm import tqdm

    table: Table = {}
    jobs = [(name, seed) for name in [*names, *MAPPED] for seed in seeds]
    settings = {name: (flags, times) for name, flags, times in TRAINED}
    for name, seed in tqdm(jobs, desc="contenders"):
        if name in settings:
            flags, times = settings[name]
            task = {"flags": flags, "steps": times * steps, "seed": seed}
            found = cached(folder, task, lambda t=task: glyph_runs.train(**t, folder=str(folder / "runs" / _slug(t))))
        else:
            task = {"map": name, "seed": seed}
            found = cached(folder, task, lambda n=name, s=seed: glyph_runs.fitted_map(n, s))
        for pair, values in found["retrieval"].items():
            for metric, value in values.items():
                table.setdefault(name, {}).setdefault(pair, {}).setdefault(metric, []).append(100 * value)
    curves = []
    for seed in tqdm(seeds, desc="backfills"):
        task = {"flags": settings[OURS][0], "steps": steps, "seed": seed}
        where = str(folder / "runs" / ("curve-" + _slug(task)))
        curves.append(cached(folder, {"curves": task}, lambda t=task, w=where: glyph_runs.backfill(**t, folder=w)))
    return table, curves


def _slug(task: dict[str, Any]) -> str:
    return "_".join([*(flag.lstrip("-") for flag in task["flags"]), str(task["steps"]), str(task["seed"])])


def entry(what: str, setting: str, values: list[float], bound: float | None = None) -> dict[str, Any]:
    from support.report import row

    return row(what, setting, mean(values), bound, range=[min(values), max(values)], seeds=values)


def rows_of(table: Table) -> list[dict[str, Any]]:
    """One row per method and direction: first hits, with the other two metrics in the setting."""
    rows = []
    for what, pair in (("old model", "old/old"), ("new teacher", "teacher/teacher"), ("new teacher", "teacher/old")):
        rows.append(_row(what, pair, table[OURS][pair]))
    for name, pairs in table.items():
        rows += [_row(name, pair, pairs[pair]) for pair in ("new/old", "new/new") if pair in pairs]
    return rows


def _row(name: str, pair: str, values: dict[str, list[float]]) -> dict[str, Any]:
    others = ", ".join(f"{metric} {mean(values[metric]):.1f}" for metric in METRICS[1:])
    return entry(f"{pair}: {name}", f"cmc@1; {others}", values["cmc@1"]) | {"digits": 3, "all": values}


def claims(table: Table) -> list[dict[str, Any]]:
    """What the documentation says, as differences of first hits, seed by seed."""

    def difference(
        what: str, left: tuple[str, str], right: tuple[str, str], margin: float, bound: float | None
    ) -> dict:
        pairs = zip(table[left[0]][left[1]]["cmc@1"], table[right[0]][right[1]]["cmc@1"], strict=True)
        setting = " - ".join(f"{pair} of {name}" for name, pair in (left, right)) + (f" {margin:+g}" if margin else "")
        return entry(what, setting, [a - b + margin for a, b in pairs], bound)

    ours = (OURS, "new/old"), (OURS, "new/new")
    best = max(MAPPED, key=lambda name: mean(table[name]["new/old"]["cmc@1"]))
    return [
        entry("an independent new model cannot search", "new/old", table["independent"]["new/old"]["cmc@1"], 8.0),
        difference("BT2 searches 8 better than the old model", (OURS, "old/old"), ours[0], 8.0, 0.0),
        difference("BT2 is not more than 1 below its teacher", (OURS, "teacher/teacher"), ours[1], -1.0, 0.0),
        difference("BT2 is 1 above BCT after backfill", ("BCT, alpha 10", "new/new"), ours[1], 1.0, 0.0),
        difference("BT2 is 5 above any map in search", (best, "new/old"), ours[0], 5.0, 0.0),
        difference(
            "BCT from the same start, in search", ("BCT, alpha 10, from the new teacher", "new/old"), ours[0], 0, None
        ),
        difference(
            "BCT from the same start, backfilled", ("BCT, alpha 10, from the new teacher", "new/new"), ours[1], 0, None
        ),
        difference(
            "OCA with as many steps, in search", ("OCA, 16 wider, twice the steps", "new/old"), ours[0], 0, None
        ),
        difference(
            "OCA with as many steps, backfilled", ("OCA, 16 wider, twice the steps", "new/new"), ours[1], 0, None
        ),
    ]


def curve_rows(curves: list[dict[str, dict]]) -> list[dict[str, Any]]:
    rows = []
    for name in curves[0]:
        found = [curve[name] for curve in curves]
        points = [mean(values) for values in zip(*(curve["values"] for curve in found), strict=True)]
        setting = "shares 0, .2, .. 1: " + ", ".join(f"{100 * point:.1f}" for point in points)
        rows.append(entry(f"backfill, mean over shares: {name}", setting, [100 * curve["auc"] for curve in found]))
        bound = 5.0 if name.startswith("calibrated") else None
        depth = [100 * (1 - curve["dip"]) for curve in found]
        rows.append(entry(f"backfill, depth of the dip: {name}", "per cent of the left end", depth, bound))
    return rows


def main() -> None:
    full = "all seeds and steps; saves its results and fills the card"
    parser = arguments(__doc__, "short", "one seed, a few steps of what is compared; prints only", full)
    add_cache(parser, "bt2_glyphs")
    args = parser.parse_args()
    steps, seeds = (STEPS, SEEDS) if args.full else (20, (0,))
    names = [name for name, _, _ in TRAINED] if args.full else CLAIMED

    import torch
    from support.card_figures import replace_measured
    from support.glyph_card import card_figures
    from support.report import save

    torch.set_num_threads(1)
    table, curves = run_all(names, steps, seeds, args.cache)
    rows = [*rows_of(table), *claims(table), *curve_rows(curves)]
    note = NOTE.format(test="1,200", seeds=", ".join(map(str, seeds)))
    save(
        "bt2_glyphs",
        "BT2: findings on glyphs",
        rows,
        ["transformers", "eigenhub"],
        keep=args.full,
        note=note,
        kind="quality",
    )
    if args.full:
        replace_measured("bt2", card_figures(table, curves, list(seeds), "python benchmarks/bt2_glyphs.py --full"))


if __name__ == "__main__":
    main()
