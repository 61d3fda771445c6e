# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo]"]
# ///
"""Does dropping sensitive neurons help a model that learns facts? In under four minutes, without a network and a GPU.

    python scripts/send/demo.py

A small model knows 60 people and learns the facts of 70 others, each told in two of six forms; it is asked in the other
four, so every hallucination can be counted. The demo trains it plainly, with SenD, and with three controls (random
indices, dropout, averaged weights), asks EigenScore and its baselines which answers are wrong, and shows that a run
continued from a checkpoint ends the same to the bit and that stock transformers loads the result. Finished runs are kept
in the output folder and not repeated.
"""

import argparse
import json
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any


HERE = Path(__file__).resolve().parent
RUNS = {
    "plain": "off",
    "SenD": "send",
    "random indices": "random",
    "dropout 0.1": "dropout",
    "averaged weights": "ema",
}
SHAPE = (
    "--lr 1e-3 --per_device_batch_size 64 --eval_batch_size 256 --max_new_tokens 2 --checkpoint_every 18 "
    "--keep_checkpoints 99"
).split()
SCORED = "--max_new_tokens 2 --batch_size 128".split()
SCORES = "scores.parquet"
KEPT = "logits.safetensors"
RELOAD = """
import sys
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

kept = load_file(sys.argv[2])
with torch.no_grad():
    found = AutoModelForCausalLM.from_pretrained(sys.argv[1])(input_ids=kept["input_ids"]).logits
assert not any(name.split(".")[0] == "eigenhub" for name in sys.modules)
print((found - kept["logits"]).abs().max().item())
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo/send"), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=16, help="at least 4; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are already there")
    args = parser.parse_args(argv)
    if args.epochs < 4:
        parser.error(f"--epochs must be at least 4, got {args.epochs}: the first mask comes after the third")
    if find_spec("matplotlib") is None:
        parser.error("matplotlib missing: pip install 'eigenhub[demo]'")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    started = time.perf_counter()
    print("importing torch and transformers ...", flush=True)
    sys.path.insert(0, str(HERE))  # the scripts beside this one, however it was started

    import torch
    from send_demo_report import draw, print_table
    from transformers.utils import logging

    torch.set_num_threads(1)  # states of 64 numbers: a second thread would mostly wait for the first
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if args.fresh:
        shutil.rmtree(args.output_dir, ignore_errors=True)
    for number, name in enumerate(RUNS, 1):
        print(f"\n{number}/{len(RUNS)} {name}: {args.epochs} epochs", flush=True)
        train(args, name)
    folders = {name: folder_of(args, name) for name in RUNS}
    print_table(folders)
    print("\nWhich answers of the plain model are wrong? Ten sampled answers per question say:")
    score(args)
    check_resume(args)
    check_reload(folder_of(args, "SenD"))
    draw(folders, folder_of(args, "plain") / SCORES, args.output_dir / "curves.png")
    print(f"curves: {args.output_dir / 'curves.png'}")
    print(f"model card: {folder_of(args, 'SenD') / 'README.md'}")
    print(f"done in {time.perf_counter() - started:.0f} s\n")
    print_next_steps(folder_of(args, "SenD"))


def folder_of(args: argparse.Namespace, name: str) -> Path:
    """Where a run is kept."""
    return args.output_dir / RUNS[name]


def arguments(args: argparse.Namespace, name: str) -> list[str]:
    """What the training script is told."""
    return [*SHAPE, "--arm", RUNS[name], "--epochs", str(args.epochs), "--seed", str(args.seed)]


def train(args: argparse.Namespace, name: str) -> None:
    """One run, unless it is there."""
    import train_send

    folder = folder_of(args, name)
    if (folder / KEPT).is_file():
        settings = json.loads((folder / "summary.json").read_text())["settings"]
        if (settings["epochs"], settings["seed"]) == (args.epochs, args.seed):
            return
    shutil.rmtree(folder, ignore_errors=True)
    trainer, _ = train_send.main([*arguments(args, name), "--output_dir", str(folder)])
    keep_logits(trainer, folder / KEPT)  # last: marks the folder as finished


def keep_logits(trainer: Any, path: Path) -> None:
    """Some rows and their logits under the trained model, for a comparison after reloading."""
    import torch
    from safetensors.torch import save_file

    ids = torch.tensor([row["input_ids"] for row in trainer.train_dataset[:64]])
    with torch.no_grad():
        logits = trainer.model.eval()(input_ids=ids).logits
    save_file({"input_ids": ids, "logits": logits}, path)


def score(args: argparse.Namespace) -> None:
    """EigenScore of every question, by the scoring script; repeated from what it has kept."""
    import score as script

    folder = folder_of(args, "plain")
    fresh = ["--model", str(folder), "--output", str(folder / SCORES), "--seed", str(args.seed), "--fresh"]
    script.main([*SCORED, *fresh])


def check_resume(args: argparse.Namespace) -> None:
    """Repeats SenD from its first checkpoint after a mask was chosen; ends the program unless all is equal."""
    import train_send
    from safetensors.torch import load_file

    straight, resumed = folder_of(args, "SenD"), args.output_dir / "resumed"
    first = json.loads((straight / "summary.json").read_text())["refreshes"][0]["step"]
    steps = sorted(int(path.name.rpartition("-")[2]) for path in (straight / "checkpoints").glob("checkpoint-*"))
    step = next(step for step in steps if step >= first)
    shutil.rmtree(resumed, ignore_errors=True)
    more = ["--resume", str(straight / "checkpoints" / f"checkpoint-{step}"), "--output_dir", str(resumed)]
    train_send.main([*arguments(args, "SenD"), *more])
    difference = 0.0
    for name in ("model.safetensors", "send_state.safetensors"):
        one, other = (load_file(folder / name) for folder in (straight, resumed))
        difference = max(difference, *(float((one[key] - other[key]).abs().max()) for key in one))
    print(f"continued from step {step}: largest difference of weights and masks {difference:g}")
    if difference != 0.0:
        raise SystemExit("the continued run differs from the uninterrupted one")


def check_reload(folder: Path) -> None:
    """Stock transformers in a fresh process, without this package, gives the logits of the model after training."""
    from eigenhub.training.demo_checks import in_fresh_process

    said = in_fresh_process("-c", RELOAD, str(folder), str(folder / KEPT))
    difference = float(said.split()[-1])
    print(f"loaded by stock transformers in a fresh process: largest difference of the logits {difference:g}")
    if difference != 0.0:
        raise SystemExit("the reloaded model differs from the trained one")


def print_next_steps(folder: Path) -> None:
    configs = HERE / "configs"
    shown = configs.relative_to(Path.cwd()) if configs.is_relative_to(Path.cwd()) else configs
    print("Next:")
    print("  your prompts, in a browser:    eigenhub space send")
    print(f"  load the model:                AutoModelForCausalLM.from_pretrained({str(folder)!r})")
    print(
        f"  score a file of prompts:       python {HERE / 'score.py'} --model ID --prompts questions.jsonl --output x.parquet"
    )
    print(f"  the published run, on a GPU:   eigenhub train send --config {shown / 'pythia_1b_medhalt.yaml'}")


if __name__ == "__main__":
    main()
