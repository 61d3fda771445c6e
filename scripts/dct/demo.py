# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo]"]
# ///
"""A race of optimizers in under three minutes, without a network and without a GPU.

    python scripts/dct/demo.py

A byte-level Llama of half a million parameters learns the sources of Python's standard library. Everything but the matrices
is trained by AdamW at the same rate in all runs; the matrices are trained by each contender in turn, or not at all. The
runs are those of `train_lm.py`, called in this process; finished ones are kept in the output folder and not repeated.
"""

import argparse
import json
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path


HERE = Path(__file__).resolve().parent
#: From a coarse look with one seed; `benchmarks/dct_findings.py --full` tunes every rate over more seeds and contenders.
CONTENDERS = {
    "frozen (control)": ["--optimizer", "frozen"],
    "AuON": ["--optimizer", "auon", "--lr", "1e-2"],
    "AdamW": ["--optimizer", "adamw", "--lr", "1e-3"],
    "DCT-AdamW, r=32": ["--optimizer", "dct_adamw", "--rank", "32", "--update_proj_gap", "10", "--lr", "4e-3"],
    "DCT-AdamW + fira, r=32": [
        *("--optimizer", "dct_adamw", "--rank", "32", "--update_proj_gap", "10", "--residual", "fira", "--lr", "4e-3")
    ],
    "Trion, r=32": ["--optimizer", "trion", "--rank", "32", "--lr", "2e-2"],
    "Muon": ["--optimizer", "muon", "--lr", "5e-2"],
}
RESUMED = "DCT-AdamW + fira, r=32"
COMMON = "--aux_lr 3e-3 --warmup 15 --per_device_batch_size 8 --max_length 128 --eval_tokens 32768 --seed 0".split()
PROMPT = "def read(self, path):\n    "


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo/dct"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=150, help="at least 10; default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are already there")
    args = parser.parse_args(argv)
    if args.steps < 10:
        parser.error(f"--steps must be at least 10, got {args.steps}")
    if find_spec("matplotlib") is None:
        parser.error("matplotlib is missing: pip install 'eigenhub[demo]'")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    started = time.perf_counter()
    print("importing torch and transformers ...", flush=True)
    sys.path.insert(0, str(HERE))  # the scripts beside this one, however it was started

    import torch
    import train_lm
    from datasets import disable_progress_bars
    from demo_report import draw_race, print_memory, print_table, summarise
    from transformers.utils import logging

    from eigenhub.training.demo_checks import check_resume

    torch.set_num_threads(1)  # matrices this small wait for a second thread longer than it helps
    disable_progress_bars()
    logging.disable_progress_bar()
    if args.fresh:
        shutil.rmtree(args.output_dir, ignore_errors=True)
    runs = {}
    for number, name in enumerate(CONTENDERS, 1):
        print(f"\n{number}/{len(CONTENDERS)} {name}", flush=True)
        runs[name] = train(args, name)
    rows = {name: summarise(folder) for name, folder in runs.items()}
    print_table(rows, args.steps)
    print_memory(RESUMED, rows)
    (args.output_dir / "results.json").write_text(json.dumps(rows, indent=2) + "\n")
    draw_race(runs, args.output_dir / "race.png")
    print(f"\nloss curves: {args.output_dir / 'race.png'}\n")

    check_resume(RESUMED, train_lm.main, arguments(args, RESUMED), runs[RESUMED], args.output_dir / "resumed")
    check_reload(runs[RESUMED])
    print(f"\nmodel card: {runs[RESUMED] / 'README.md'}")
    print(f"done in {time.perf_counter() - started:.0f} s\n")
    print_next_steps(runs[RESUMED])


def run_folder(args: argparse.Namespace, name: str) -> Path:
    slug = "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
    return args.output_dir / f"{slug}-{args.steps}"


def train(args: argparse.Namespace, name: str) -> Path:
    """Folder of one run, trained now unless it is there."""
    import train_lm

    folder = run_folder(args, name)
    if (folder / "summary.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    last_fifth = str(args.steps - args.steps // 5)
    checkpoint = ["--checkpoint_every", last_fifth] if name == RESUMED else []
    train_lm.main([*arguments(args, name), "--output_dir", str(folder), *checkpoint])
    return folder


def arguments(args: argparse.Namespace, name: str) -> list[str]:
    lengths = ["--max_steps", str(args.steps), "--eval_every", str(max(1, args.steps // 5))]
    return [*CONTENDERS[name], *COMMON, *lengths]


RELOAD = """
import sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (c.from_pretrained(sys.argv[1]) for c in (AutoModelForCausalLM, AutoTokenizer))
inputs = tokenizer(sys.argv[3], return_tensors="pt")
with torch.no_grad():
    save_file({"logits": model(**inputs).logits}, sys.argv[2])
torch.manual_seed(0)
written = model.generate(**inputs, max_new_tokens=120, do_sample=True, top_k=4)[0]
print(tokenizer.decode(written, skip_special_tokens=True))
"""


def check_reload(folder: Path) -> None:
    """A fresh process that knows nothing of eigenhub loads the model and gives the same logits."""
    from safetensors.torch import load_file

    from eigenhub.training.demo_checks import in_fresh_process

    output = folder / "reloaded.safetensors"
    written = in_fresh_process("-c", RELOAD, str(folder), str(output), PROMPT)
    difference = (load_file(output)["logits"] - logits_here(folder)).abs().max().item()
    print(f"loaded in a fresh process, without eigenhub: largest difference of the logits {difference:g}")
    print("it writes:\n\n" + "\n".join("    " + line for line in written.splitlines()))
    if difference != 0.0:
        raise SystemExit("the reloaded model differs")


def logits_here(folder: Path):
    """The logits of the saved tensors, put into a model by hand: `from_pretrained` is what is checked."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    from eigenhub.embedded.byte_tokenizer import byte_tokenizer

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.no_grad():
        return model(**byte_tokenizer()(PROMPT, return_tensors="pt")).logits


def print_next_steps(folder: Path) -> None:
    configs = HERE / "configs"
    shown = configs.relative_to(Path.cwd()) if configs.is_relative_to(Path.cwd()) else configs
    print("Next:")
    print("  subspaces and memory, in a browser:  eigenhub space dct")
    print(f"  load the model:                      AutoModelForCausalLM.from_pretrained({str(folder)!r})")
    print(f"  Shakespeare, some minutes on a CPU:  eigenhub train dct --config {shown / 'tinyshakespeare.yaml'}")
    print(f"  the published run, on eight GPUs:    eigenhub train dct --config {shown / 'llama_350m.yaml'}")
    print("  all controls, three seeds, tuned:    python benchmarks/dct_findings.py --full")


if __name__ == "__main__":
    main()
