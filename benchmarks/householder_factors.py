# SPDX-License-Identifier: Apache-2.0
"""Whether a Householder projector finds the factors of its images, beside every control that belongs there.

    python benchmarks/householder_factors.py           # one seed, a few steps of everything; saves nothing
    python benchmarks/householder_factors.py --full    # three seeds, all steps; saves its results

Planted: style latents hold five factors of small images in known directions, and noise in the others; a small StyleGAN2 that
has learned the images is tuned with projectors or with controls. GAN: the same images, learned adversarially; directions
are judged by what they do to the factors at equal visible change. Finished runs and their weights are kept in --cache, so
it can be stopped and continued.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.arguments import add_cache, arguments
from support.cached import cached


SEEDS = (0, 1, 2)
PARTS = ("planted", "gan")
#: Steps of the pretraining and of the tuning; of the GAN, also those of the network that reads factors, and the mean change of
#: the pixels at which directions are compared.
FULL: dict[str, dict[str, float]] = {
    "planted": {"pretrain_steps": 1500, "tune_steps": 1500},
    "gan": {"steps": 3000, "tune_steps": 500, "reader_steps": 700, "change": 0.04},
}
SHORT: dict[str, dict[str, float]] = {
    "planted": {"pretrain_steps": 60, "tune_steps": 30},
    "gan": {"steps": 40, "tune_steps": 10, "reader_steps": 40, "change": 0.04},
}
Table = dict[str, list[dict[str, Any]]]  # by arm, one entry per seed


def run_all(part: str, seeds: Sequence[int], settings: dict[str, float], cache: Path) -> Table:
    """All arms of a part, arm by arm so that an unfinished table already has all seeds of some.

    Args:
        part (`str`): `"planted"` or `"gan"`.
        seeds (`Sequence[int]`): seeds.
        settings (`dict[str, float]`): lengths of the trainings, and what else a run depends on.
        cache (`Path`): folder of finished runs.
    """
    from tqdm import tqdm

    arms, run = _arms_of(part)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for arm, seed in tqdm([(arm, seed) for arm in arms for seed in reversed(seeds)], desc=part):
        task = {"arm": arm, "seed": seed, **settings}
        found[arm, seed] = cached(cache, {"part": part, **task}, lambda task=task: run(**task, folder=cache))
    return {arm: [found[arm, seed] for seed in seeds] for arm in arms}


def _arms_of(part: str) -> tuple[list[str], Callable[..., dict[str, Any]]]:
    if part == "planted":
        from support import householder_planted

        arms = [householder_planted.PRETRAINED, householder_planted.PROJECTED, *householder_planted.ARMS]
        return arms, householder_planted.planted_run
    from support import householder_gan

    return list(householder_gan.ARMS), householder_gan.gan_run


def main() -> None:
    parser = arguments(
        __doc__, "short", "one seed, a few steps of everything; prints only", "all seeds and steps; saves its results"
    )
    add_cache(parser, "householder_factors")
    parser.add_argument("--only", choices=PARTS, help="run this part; with --full, saves its results alone")
    args = parser.parse_args()

    import torch
    from support.card_figures import replace_measured
    from support.householder_card import card_figures
    from support.householder_report import NOTES, TITLES, rows_of
    from support.report import save

    torch.set_num_threads(1)
    seeds, settings = (SEEDS, FULL) if args.full else (SEEDS[:1], SHORT)
    for part in PARTS if args.only is None else [args.only]:
        table = run_all(part, seeds, settings[part], args.cache)
        packages = ["transformers", "eigenhub"]
        note = NOTES[part].format(seeds=", ".join(map(str, seeds)), **settings[part])
        save(f"householder_{part}", TITLES[part], rows_of(part, table), packages, args.full, note, "quality")
        if args.full:
            command = f"python benchmarks/householder_factors.py --full --only {part}"
            replace_measured("householder", card_figures(part, table, seeds, command))


if __name__ == "__main__":
    main()
