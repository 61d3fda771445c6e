# SPDX-License-Identifier: Apache-2.0
"""The arms of the fact-recall study and their runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cached import cached
from support.send_facts_statistics import run_figures


OFF, SEND, RANDOM = ("--arm", "off"), ("--arm", "send"), ("--arm", "random")
MLP, UPDATE, MIXED = ("--site", "mlp"), ("--site", "update"), ("--site", "mlp", "--index_space", "hidden")
LORA = ("--tuning", "lora")
GENTLE = ("--lr", "1e-4", "--freeze_layers", "2")
EPOCHS, LONG = 16, 48


@dataclass(frozen=True)
class Arm:
    """One way to train, and which arms it is compared with.

    Args:
        name (`str`): for readers.
        flags (`tuple[str, ...]`): of the script, over those of the study.
        plain (`str`, *optional*): arm without anything dropped, under the same settings.
        random (`str`, *optional*): arm with as many random indices at the same site.
        masked (`bool`, *optional*, defaults to `False`): the checkpoints of the same run, evaluated with the mask on.
        open_end (`bool`, *optional*, defaults to `False`): nothing is dropped in the last T epochs.
        epochs (`int`, *optional*, defaults to 16): epochs.
    """

    name: str
    flags: tuple[str, ...]
    plain: str | None = "plain"
    random: str | None = None
    masked: bool = False
    open_end: bool = False
    epochs: int = EPOCHS

    @property
    def slug(self) -> str:
        """The name as part of an id."""
        return "-".join(self.name.lower().replace("%", "percent").replace(",", "").replace(":", "").split())


MAIN = (
    Arm("plain", OFF, plain=None),
    Arm("weight EMA", ("--arm", "ema")),
    Arm("cosine to 0", (*OFF, "--lr_scheduler", "cosine", "--warmup", "0")),
    Arm("dropout 0.1", ("--arm", "dropout")),
    Arm("random, hidden", RANDOM),
    Arm("SenD, hidden", SEND, random="random, hidden"),
    Arm("random, hidden, mask on", RANDOM, masked=True),
    Arm("SenD, hidden, mask on", SEND, random="random, hidden, mask on", masked=True),
    Arm("random, mlp", (*RANDOM, *MLP)),
    Arm("SenD, mlp", (*SEND, *MLP), random="random, mlp"),
    Arm("random, update", (*RANDOM, *UPDATE)),
    Arm("SenD, update", (*SEND, *UPDATE), random="random, update"),
    Arm("random, mixed", (*RANDOM, *MIXED)),
    Arm("SenD, mixed", (*SEND, *MIXED), random="random, mixed"),
    Arm("LoRA", (*OFF, *LORA)),
    Arm("LoRA, random", (*RANDOM, *LORA), plain="LoRA"),
    Arm("LoRA, SenD", (*SEND, *LORA), plain="LoRA", random="LoRA, random"),
)


def _trio(name: str, flags: Sequence[str], epochs: int = EPOCHS) -> tuple[Arm, ...]:
    return (
        Arm(f"{name}: plain", (*OFF, *flags), plain=None, epochs=epochs),
        Arm(f"{name}: random", (*RANDOM, *flags), plain=f"{name}: plain", epochs=epochs),
        Arm(f"{name}: SenD", (*SEND, *flags), plain=f"{name}: plain", random=f"{name}: random", epochs=epochs),
    )


def _pair(name: str, flags: Sequence[str] = (), open_end: bool = False) -> tuple[Arm, ...]:
    return (
        Arm(f"{name}: random", (*RANDOM, *flags), open_end=open_end),
        Arm(f"{name}: SenD", (*SEND, *flags), random=f"{name}: random", open_end=open_end),
    )


EXTRA = (
    *_pair("rho 0.05", ("--rho", "0.05")),
    *_pair("rho 0.1", ("--rho", "0.1")),
    *_pair("no mask in the last 3 epochs", open_end=True),
    *_trio("30 % tracked", ("--track_fraction", "0.3")),
    *_trio("lr 1e-4, 2 blocks frozen", GENTLE),
    *_trio("48 epochs", (), LONG),
    Arm("48 epochs: weight EMA", ("--arm", "ema"), plain="48 epochs: plain", epochs=LONG),
    *_trio("48 epochs, lr 1e-4, 2 blocks frozen", GENTLE, LONG),
)
SHORT = tuple(arm for arm in MAIN if arm.name in ("plain", "weight EMA", "random, hidden", "SenD, hidden"))
#: Flags of the runs that are evaluated with the mask on too.
TWICE = {arm.flags for arm in MAIN if arm.masked}
Table = dict[str, list[dict[str, Any]]]  # run by arm and seed


def run_arms(arms: Sequence[Arm], seeds: Sequence[int], cache: Path, epochs: int | None = None) -> Table:
    """The runs of all arms on all seeds; finished ones come from the cache.

    Args:
        arms (`Sequence[Arm]`): arms.
        seeds (`Sequence[int]`): of world, base model and run.
        cache (`Path`): folder of finished runs.
        epochs (`int`, *optional*): in place of those of the arms.
    """
    from tqdm import tqdm

    table: Table = {arm.name: [] for arm in arms}
    for arm, seed in tqdm([(arm, seed) for arm in arms for seed in seeds], desc="arms"):
        task: dict[str, Any] = {
            "flags": arm.flags,
            "seed": seed,
            "epochs": epochs or arm.epochs,
            "masked": arm.epochs == EPOCHS and not arm.open_end and arm.flags in TWICE,
            "open_end": arm.open_end,
        }
        run = cached(cache, task, lambda task=task: _fact_run(**task))
        table[arm.name].append({**run, "epochs": run["masked"]} if arm.masked else run)
    return table


def _fact_run(**task: Any) -> dict[str, Any]:
    from support.send_facts_runs import fact_run

    return fact_run(**task)


def figures_of(table: Table, name: str, metric: str) -> list[float]:
    """One figure of an arm, seed by seed.

    Args:
        table (`dict`): from [`run_arms`].
        name (`str`): of the arm.
        metric (`str`): of [`run_figures`].
    """
    return [run_figures(run["epochs"])[metric] for run in table[name]]
