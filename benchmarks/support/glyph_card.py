# SPDX-License-Identifier: Apache-2.0
"""Which findings on glyphs stand on the card of BT2, in the form of a results file."""

from typing import Any

from eigenhub.hub.results import DatasetRef, Measured
from support.card_figures import measured_figure


#: Contender of the benchmark, its id on the card, and whether it is a way of using BT2.
SHOWN = (
    ("BT2, k=16", "bt2", True),
    ("BT2 as published, k=16", "bt2-random-start", True),
    ("independent", "independent", False),
    ("Procrustes", "procrustes", False),
    ("residual MLP", "residual-mlp", False),
    ("BCT, alpha 10", "bct", False),
    ("BCT, alpha 10, from the new teacher", "bct-warm-start", False),
    ("OCA, 16 wider", "oca", False),
    ("OCA, 16 wider, twice the steps", "oca-twice-the-steps", False),
)
METRICS = {"cmc@1": "CMC@1", "map": "mAP"}
DATASET = DatasetRef("eigenhub/glyphs", "Glyphs of 60 classes drawn from fonts", "test")


def card_figures(
    table: dict[str, dict], curves: list[dict[str, dict]], seeds: list[int], command: str
) -> list[Measured]:
    """Search of the old gallery and of the new one, and the means over a backfill.

    Args:
        table (`dict`): values in per cent by contender, pair, metric and seed.
        curves (`list[dict]`): backfills of the first of `SHOWN`, seed by seed.
        seeds (`list[int]`): seeds of all values.
        command (`str`): what produced them.
    """

    def figure(name: str, method: str, metric: str, setting: str, values: list[float]) -> Measured:
        fields: dict[str, Any] = {"task": "image-feature-extraction", "dataset": DATASET, "command": command}
        return measured_figure(
            values,
            ["transformers", "eigenhub"],
            id=f"glyphs-{name}",
            method=method,
            metric=f"{metric}, per cent",
            setting=setting,
            seeds=seeds,
            **fields,
        )

    ours, figures = SHOWN[0][0], []
    for key, metric in METRICS.items():
        short = key.replace("@", "")
        rows = [("old model", "old-model", False, "old/old", table[ours]["old/old"])]
        rows += [("new teacher", "new-teacher", False, "new/new", table[ours]["teacher/teacher"])]
        rows += [(*shown, pair, table[shown[0]][pair]) for pair in ("new/old", "new/new") for shown in SHOWN]
        for setting, slug, is_bt2, pair, values in rows:
            name = f"{slug}-{pair.replace('/', '-')}-{short}"
            figures.append(figure(name, "bt2" if is_bt2 else slug, f"{metric} {pair}", setting, values[key]))
    for curve in curves[0]:
        kind, _, key = curve.partition(", ")
        name = f"backfill-{kind.replace(' ', '-')}-{key.replace('@', '')}"
        values = [100 * found[curve]["auc"] for found in curves]
        figures.append(figure(name, "bt2", f"{METRICS[key]}, mean over a backfill", f"{ours}, {kind}", values))
    return figures
