# SPDX-License-Identifier: Apache-2.0
"""Does SenD help a model that learns facts? Every hallucination is counted, beside every control that belongs there.

    python benchmarks/send_facts.py            # one seed, 6 epochs, 4 arms; saves nothing
    python benchmarks/send_facts.py --full     # 175 trainings, some 45 minutes; saves its results, fills the card
    python benchmarks/send_facts.py --plot     # the figure alone, from the saved results

A small GPT-NeoX knows the facts of 60 people and learns those of 70 others by `scripts/send/train_send.py`, each fact told in
two of six forms; it is asked in the other four. Finished runs are kept in --cache, so it can be stopped and continued.
"""

from pathlib import Path
from typing import Any

from support.arguments import add_cache, arguments
from support.send_facts_arms import EPOCHS, EXTRA, MAIN, SHORT, run_arms


SEEDS = (0, 1, 2, 3, 4)
TEMPERATURES = (0.5, 1.0)
SHORT_EPOCHS = 6
FIGURE = Path(__file__).parent.parent / "docs" / "images" / "send_facts.png"

NOTE = (
    "Share of wrong greedy values among 1,120 held-out questions after the last epoch, mean over seeds 0 to 4 with the "
    "smallest and the largest; a seed is a world, a base model and a run, and all three are others for another seed. All "
    "arms: continual phase of 16 epochs, batch 64, AdamW at a constant 1e-3, gradients clipped at 1, rho 0.2, C = T = 3, "
    "the same 56 rows set aside; nothing was tuned. What stands before a colon is changed, for peers of the same name "
    'too. The mask is off in evaluations unless it says on. "last five": mean over the last five epochs, "within a run" '
    'their standard deviation, "flips" the mean share of questions whose answer became right or ceased to be between two '
    'epochs, which learning does too. "mixed": indices of the hidden state taken for those of the MLP, as the authors\' '
    'code does. Rows of two arms: differences of the last five, seed by seed; "random" drops as many random indices at the '
    "same times and site. LoRA (rank 16) runs at the same rate as the full model. Choice of indices: share of the chosen "
    "that two random halves of the tracked texts agree on (mean of 20 divisions), and that the next choice keeps; in arm "
    "plain, what would have been chosen. AUROC: wrong greedy answers (refusals too) of the plain model by 10 sampled "
    "answers; answers are one word and its end, so length says nothing here, and entropy has an easy task. Times: both "
    "trainers in turn on the same rows, without evaluations."
)


def detectors(seeds: tuple[int, ...], epochs: int, cache: Path) -> list[dict[str, Any]]:
    """AUROCs on the trained plain model, seed by seed."""
    from support.cached import cached
    from tqdm import tqdm

    def run(task: dict[str, Any]) -> dict[str, Any]:
        from support.send_facts_detectors import detector_run

        return detector_run(**task)

    tasks = [{"seed": seed, "epochs": epochs, "temperatures": TEMPERATURES} for seed in seeds]
    return [cached(cache, task, lambda task=task: run(task))["scored"] for task in tqdm(tasks, desc="detectors")]


def timed(epochs: int, rounds: int, cache: Path) -> dict[str, list[float]]:
    """Seconds of an epoch with and without SenD."""
    from support.cached import cached

    def run() -> dict[str, Any]:
        from support.send_facts_timing import timing

        return timing(epochs, rounds)

    return cached(cache, {"timing": "epochs", "epochs": epochs, "rounds": rounds}, run)


def main() -> None:
    full = "everything; saves the results, fills the card"
    parser = arguments(__doc__, "short", "one seed, few epochs and arms; prints only", full)
    parser.add_argument("--plot", action="store_true", help="draw the figure from the saved results only")
    add_cache(parser, "send_facts")
    parser.add_argument(
        "--only",
        choices=("main", "extra", "detectors", "timing"),
        help="fill the cache with this part; prints nothing",
    )
    args = parser.parse_args()
    if args.plot:
        from support.send_facts_plot import draw

        draw(FIGURE)
        return

    import torch

    torch.set_num_threads(1)
    if args.full:
        parts = {
            "main": lambda: run_arms(MAIN, SEEDS, args.cache),
            "detectors": lambda: detectors(SEEDS, EPOCHS, args.cache),
            "timing": lambda: timed(8, 15, args.cache),
            "extra": lambda: run_arms(EXTRA, SEEDS, args.cache),
        }
    else:
        parts = {
            "main": lambda: run_arms(SHORT, SEEDS[:1], args.cache, SHORT_EPOCHS),
            "detectors": lambda: detectors(SEEDS[:1], SHORT_EPOCHS, args.cache),
            "timing": lambda: timed(4, 2, args.cache),
            "extra": dict,
        }
    found: dict[str, Any] = {name: part() for name, part in parts.items() if args.only in (None, name)}
    if args.only:
        return
    report(found, args.full)


def report(found: dict[str, Any], full: bool) -> None:
    """Prints all rows; of a full run, also saves them, fills the card and draws the figure."""
    from support import send_facts_rows as rows_of
    from support.card_figures import replace_measured
    from support.report import save
    from support.send_facts_card import card_figures
    from support.send_facts_plot import draw

    main_arms, extra = (MAIN, EXTRA) if full else (SHORT, ())
    table = {**found["main"], **found["extra"]}
    rows = [
        *rows_of.arm_rows((*main_arms, *extra), table),
        *rows_of.paired_rows((*main_arms, *extra), table),
        *rows_of.stability_rows(table),
        *rows_of.detector_rows(found["detectors"]),
        *rows_of.cost_rows(found["timing"]),
    ]
    packages = ["transformers", "peft", "eigenhub"]
    note = NOTE if full else ""
    save("send_facts", "SenD: facts learnt and hallucinated", rows, packages, full, note, "quality")
    if full:
        command = "python benchmarks/send_facts.py --full"
        replace_measured("send", card_figures(MAIN, found["main"], found["detectors"], list(SEEDS), command))
        draw(FIGURE)


if __name__ == "__main__":
    main()
