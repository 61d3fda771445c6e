# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo]"]
# ///
"""Which initialisation breaks under one tone of noise: in under four minutes, without a network and without a GPU.

    python scripts/s5_ptd/demo.py

State space models that differ in their initialisation alone read handwritten digits pixel by pixel. They are tested clean and
with noise of a single frequency, the one that the diagonal part of HiPPO amplifies most, on the input of every layer. The
runs are those of `train_lra.py`, called in this process; finished ones are kept in the output folder and not repeated.
"""

import argparse
import json
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path


HERE = Path(__file__).resolve().parent
# B / 2 makes the diagonal part agree with HiPPO at low frequencies, as in the theorem.
S4D, S5 = ["--model", "s4d"], ["--model", "s5", "--num_blocks", "1", "--c_init", "trunc_standard_normal"]
#: One time step for a whole layer of S5, so that its noise has one frequency too; S4D has one per channel.
S5 += ["--dt_tying", "layer", "--dt_min", "0.01", "--dt_max", "0.01"]
CONTENDERS = {
    "S4D-LegS": [*S4D, "--init", "legs", "--b_scale", "0.5"],
    "S4D-Lin": [*S4D, "--init", "lin"],
    "S4-PTD": [*S4D, "--init", "ptd"],
    "S4-PTD, low rank": [*S4D, "--init", "lowrank"],
    "S5": [*S5, "--init", "legs"],
    "S5-PTD": [*S5, "--init", "ptd"],
}
RESUMED = "S4-PTD"
AMPLITUDES = ("0.1", "0.3", "1")
COMMON = (
    "--task digits --num_hidden_layers 2 --hidden_size 32 --state_size 32 --norm_type batch --no-prenorm --lr 1e-2 "
    "--ssm_lr 1e-3 --warmup 0.1 --per_device_batch_size 50 --validation_share 0 --eval_batch_size 200 --seed 0"
).split()
KEPT = "logits.safetensors"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo/s5_ptd"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=140, help="at least 10; default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are already there")
    args = parser.parse_args(argv)
    if args.steps < 10:
        parser.error(f"--steps must be at least 10, got {args.steps}")
    if missing := [name for name in ("sklearn", "matplotlib") if find_spec(name) is None]:
        parser.error(f"{' and '.join(missing)} missing: pip install 'eigenhub[demo]'")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    started = time.perf_counter()
    print("importing torch and transformers ...", flush=True)
    sys.path.insert(0, str(HERE))  # the scripts beside this one, however it was started

    import torch
    import train_lra
    from demo_report import draw_noise, draw_transfer, print_table, summarise
    from transformers.utils import logging

    from eigenhub.training.demo_checks import check_resume

    torch.set_num_threads(1)  # states this small wait for a second thread longer than it helps
    logging.disable_progress_bar()
    if args.fresh:
        shutil.rmtree(args.output_dir, ignore_errors=True)
    runs = {}
    for number, name in enumerate(CONTENDERS, 1):
        print(f"\n{number}/{len(CONTENDERS)} {name}", flush=True)
        runs[name] = train(args, name)
    rows = {name: summarise(folder) for name, folder in runs.items()}
    print_table(rows, args.steps)
    (args.output_dir / "results.json").write_text(json.dumps(rows, indent=2) + "\n")
    draw_noise(rows, args.output_dir / "noise.png")
    draw_transfer(args.output_dir / "transfer.png")
    print(f"\naccuracy under noise:  {args.output_dir / 'noise.png'}")
    print(f"transfer functions:    {args.output_dir / 'transfer.png'}\n")

    check_resume(RESUMED, train_lra.main, arguments(args, RESUMED), runs[RESUMED], args.output_dir / "resumed")
    check_reload(runs)
    print(f"\nmodel card: {runs[RESUMED] / 'README.md'}")
    print(f"done in {time.perf_counter() - started:.0f} s\n")
    print_next_steps(runs[RESUMED])


def train(args: argparse.Namespace, name: str) -> Path:
    """Folder of one run, trained now unless it is there."""
    import train_lra
    from safetensors.torch import save_file

    slug = "".join(letter if letter.isalnum() else "-" for letter in name.lower()).replace("--", "-")
    folder = args.output_dir / f"{slug}-{args.steps}"
    if (folder / KEPT).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    last_fifth = str(args.steps - args.steps // 5)
    checkpoint = ["--checkpoint_every", last_fifth] if name == RESUMED else []
    run, _ = train_lra.main([*arguments(args, name), "--output_dir", str(folder), *checkpoint])
    save_file({"logits": logits(run.unwrapped)}, folder / KEPT)  # last: marks the folder as finished
    return folder


def arguments(args: argparse.Namespace, name: str) -> list[str]:
    return [*CONTENDERS[name], *COMMON, "--max_steps", str(args.steps), "--noise", *AMPLITUDES]


def logits(model):
    """Answers to the test digits."""
    import torch

    from eigenhub.embedded.sequential_digits import load_sequential_digits

    with torch.no_grad():
        return model.eval()(pixel_values=load_sequential_digits()["test"][:]["pixel_values"]).logits


RELOAD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
sys.path.insert(0, sys.argv[1])
from demo import KEPT, logits
from eigenhub.models import s4d, s5_ptd
from transformers import AutoModelForImageClassification
for folder in sys.argv[2:]:
    found = logits(AutoModelForImageClassification.from_pretrained(folder))
    print((found - load_file(Path(folder) / KEPT)["logits"]).abs().max().item())
"""


def check_reload(runs: dict[str, Path]) -> None:
    """A fresh process loads every model and gives the logits of the model in memory after training, to the bit."""
    from eigenhub.training.demo_checks import in_fresh_process

    printed = in_fresh_process("-c", RELOAD, str(HERE), *map(str, runs.values()))
    difference = max(map(float, printed.split()))
    print(f"{len(runs)} models loaded in a fresh process: largest difference of the logits {difference:g}")
    if difference != 0.0:
        raise SystemExit("a reloaded model differs")


def print_next_steps(folder: Path) -> None:
    configs = HERE / "configs"
    shown = configs.relative_to(Path.cwd()) if configs.is_relative_to(Path.cwd()) else configs
    print("Next:")
    print("  noise, transfer functions, text, in a browser:  eigenhub space s5_ptd")
    print(
        f"  load the model:                                 S4DForImageClassification.from_pretrained({str(folder)!r})"
    )
    print(
        f"  irregular times, a minute on a CPU:             eigenhub train s5_ptd --config {shown / 'pendulum.yaml'}"
    )
    print(
        f"  the Long Range Arena, on a GPU:                 eigenhub train s5_ptd --config "
        f"{shown / 's5_ptd_lra_listops.yaml'}"
    )
    print("  three seeds, beside exact HiPPO:                python benchmarks/s5_noise.py --full")


if __name__ == "__main__":
    main()
