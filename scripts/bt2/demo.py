# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,search]"]
# ///
"""Upgrade the model behind an index without embedding it again, in two minutes, without a network and without a GPU.

    python scripts/bt2/demo.py

An old image model has written an index of 1,200 glyphs. A better one is trained: alone, and in five ways that keep its vectors
comparable with the old ones. The demo shows which of them can search the old index and what each costs in the new one, then
backfills an index of BT2 through `CompatibleIndex` while queries go on, with the curve of what they find. Finished runs are
kept in the output folder and not repeated.
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any


HERE = Path(__file__).resolve().parent
STEPS = 555
SHAPE = ("--lr", "3e-3", "--warmup", "0.1", "--per_device_batch_size", "64", "--added_dim", "16")
METHODS = {
    "BCT": ("--method", "bct"),
    "OCA": ("--method", "oca"),
    "BT2 from nothing, as published": ("--method", "bt2", "--init", "random", "--no-warm_start"),
    "BCT from the new model": ("--method", "bct", "--new_model", "embedded", "--warm_start"),
    "BT2 from the new model": ("--method", "bt2"),
}
UPGRADE = "BT2 from the new model"
RELOAD = """
import sys
from pathlib import Path
import torch
import eigenhub.models.bt2
from safetensors.torch import load_file
from transformers import AutoModel
from eigenhub.embedded.glyphs import draw_glyphs

model = AutoModel.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    found = model(draw_glyphs(seed=int(sys.argv[3]))["test"].images).embedding
print((found - load_file(sys.argv[2])["vectors"]).abs().max().item())
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo/bt2"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are already there")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    if missing := [name for name in ("matplotlib", "faiss") if find_spec(name) is None]:
        parser.error(f"{' and '.join(missing)} missing: pip install 'eigenhub[demo,search]'")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    started = time.perf_counter()
    print("importing torch and transformers ...", flush=True)
    sys.path.insert(0, str(HERE))  # the scripts beside this one, however it was started

    import torch
    from demo_report import backfill_index, draw_curves, print_curves, print_table
    from transformers.utils import logging

    torch.set_num_threads(1)  # images of 28 x 28: a second thread would mostly wait for the first
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if args.fresh:
        shutil.rmtree(args.output_dir, ignore_errors=True)
    retrieval: dict[str, dict] = {}
    for number, method in enumerate(METHODS, 1):
        print(f"\n{number}/{len(METHODS)} {method}: {args.steps} steps", flush=True)
        retrieval[method] = train(args, method)
    model = folder_of(args, UPGRADE)
    print_table(retrieval, UPGRADE, args.seed)
    curves = backfill_index(model, args.output_dir / "index", args.seed)
    print_curves(curves)
    draw_curves(curves, args.output_dir / "backfill.png")
    results = {"retrieval": retrieval, "backfill": [asdict(curve) for curve in curves]}
    (args.output_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\ncurve: {args.output_dir / 'backfill.png'}")
    check_reload(model, args.seed)
    print(f"model card: {model / 'README.md'}")
    print(f"done in {time.perf_counter() - started:.0f} s\n")
    print_next_steps(model, args.output_dir / "index")


def folder_of(args: argparse.Namespace, method: str) -> Path:
    """Where the run of a method is kept."""
    return args.output_dir / method.lower().replace(",", "").replace(" ", "-")


def train(args: argparse.Namespace, method: str) -> dict[str, Any]:
    """Retrieval of one run, trained now unless it is there."""
    import train_bt2
    from safetensors.torch import save_file

    folder = folder_of(args, method)
    summary_file, kept = folder / "summary.json", folder / "vectors" / "test.safetensors"
    if kept.is_file():
        summary = json.loads(summary_file.read_text())
        if (summary["steps"], summary["settings"]["seed"]) == (args.steps, args.seed):
            return summary["retrieval"]
    shutil.rmtree(folder, ignore_errors=True)
    where = ["--max_steps", str(args.steps), "--seed", str(args.seed), "--output_dir", str(folder)]
    run, summary = train_bt2.main([*METHODS[method], *SHAPE, *where])
    kept.parent.mkdir()
    save_file({"vectors": vectors(run.unwrapped, args.seed)}, kept)  # last: marks the folder as finished
    return summary["retrieval"]


def vectors(model: Any, seed: int) -> Any:
    from eigenhub.embedded.glyphs import draw_glyphs
    from eigenhub.models.bt2 import teacher_of

    return teacher_of(model, draw_glyphs(seed=seed)["test"].images)


def check_reload(folder: Path, seed: int) -> None:
    """The saved model in a fresh process gives the vectors of the one in memory after training."""
    from eigenhub.training.demo_checks import in_fresh_process

    reference = folder / "vectors" / "test.safetensors"
    difference = float(in_fresh_process("-c", RELOAD, str(folder), str(reference), str(seed)).split()[-1])
    print(f"reloaded in a fresh process: largest difference of the vectors {difference:g}")
    if difference > 1e-6:
        raise SystemExit("the reloaded model differs from the trained one")


def print_next_steps(folder: Path, index: Path) -> None:
    configs = HERE / "configs"
    shown = configs.relative_to(Path.cwd()) if configs.is_relative_to(Path.cwd()) else configs
    print("Next:")
    print("  look inside, in a browser:       eigenhub space bt2")
    print(f"  how far the index is:            eigenhub bt2 status {index}")
    print(f"  load the model:                  import eigenhub.models.bt2; AutoModel.from_pretrained({str(folder)!r})")
    print("  text, two sentence encoders:     eigenhub bt2 fit-head --help")
    print(f"  the published run, on a GPU:     eigenhub train bt2 --config {shown / 'cifar100_old.yaml'}")


if __name__ == "__main__":
    main()
