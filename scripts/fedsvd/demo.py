# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,dp]"]
# ///
"""Six clients train one adapter without showing their data, in three minutes, without a network and without a GPU.

    python scripts/fedsvd/demo.py

Upright handwritten digits lie with six clients in different mixtures; the base model has seen other digits, turned. The
demo runs FedSVD, two forms of FFA-LoRA and FedAvg, then FedSVD with a privacy budget for every client, and shows what
FedSVD is under SGD (FFA-LoRA with orthonormal A, product for product), what averaging B alone spares, what a client
sends, what the privacy claim says, that a run continued from a round ends the same to the bit, and that stock PEFT loads
the result. Finished runs are kept in the output folder and not repeated.
"""

import argparse
import json
import shutil
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any


HERE = Path(__file__).resolve().parent
ROUNDS = 15
SHAPE = ("--eval_batch_size", "300", "--aggregation_error")
PRIVATE = ("--dp", "--epsilon", "6", "--delta", "1e-3", "--accountant", "rdp")
RUNS = {
    "FedSVD": ("--method", "fedsvd", "--init_A", "orthonormal"),
    "FFA-LoRA, orthonormal A": ("--method", "ffa_orth", "--init_A", "orthonormal"),
    "FFA-LoRA": ("--method", "ffa"),
    "FedAvg": ("--method", "fedavg"),
    "FedSVD, epsilon 6": ("--method", "fedsvd", "--init_A", "orthonormal", *PRIVATE),
}
FEDSVD, TWIN, PLAIN, FEDAVG, WITH_PRIVACY = RUNS
RELOAD = """
import sys
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

kept = load_file(sys.argv[3])
model = PeftModel.from_pretrained(AutoModelForImageClassification.from_pretrained(sys.argv[1]), sys.argv[2]).eval()
with torch.no_grad():
    found = model(pixel_values=kept["pixel_values"]).logits
assert not any(name.split(".")[0] == "eigenhub" for name in sys.modules)
print((found - kept["logits"]).abs().max().item())
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo/fedsvd"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are already there")
    args = parser.parse_args(argv)
    if args.rounds < 2:
        parser.error(f"--rounds must be at least 2, got {args.rounds}")
    packages = {"matplotlib": "demo", "sklearn": "demo", "opacus": "dp"}
    if missing := [name for name in packages if find_spec(name) is None]:
        extras = ",".join(sorted({packages[name] for name in missing}))
        parser.error(f"{' and '.join(missing)} missing: pip install 'eigenhub[{extras}]'")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    started = time.perf_counter()
    print("importing torch and transformers ...", flush=True)
    sys.path.insert(0, str(HERE))  # the scripts beside this one, however it was started

    import torch
    from fedsvd_demo_report import draw, print_table, products_apart
    from transformers.utils import logging

    # PEFT asks transformers by an old name
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    torch.set_num_threads(1)  # images of 8 x 8: a second thread would mostly wait for the first
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if args.fresh:
        shutil.rmtree(args.output_dir, ignore_errors=True)
    for number, name in enumerate(RUNS, 1):
        print(f"\n{number}/{len(RUNS)} {name}: {args.rounds} rounds, 3 of 6 clients in each", flush=True)
        train(args, name)
    folders = {name: folder_of(args, name) for name in RUNS}
    print_table(folders)
    check_products(products_apart(folders[FEDSVD], folders[TWIN]), products_apart(folders[FEDSVD], folders[PLAIN]))
    print(f"\nwhat the claim of {WITH_PRIVACY!r} says:\n{json_of(folders[WITH_PRIVACY])['claim']}\n")
    check_resume(args)
    check_reload(folders[FEDSVD])
    draw(folders, args.output_dir / "rounds.png")
    print(f"curves: {args.output_dir / 'rounds.png'}")
    print(f"model card: {folders[FEDSVD] / 'README.md'}")
    print(f"done in {time.perf_counter() - started:.0f} s\n")
    print_next_steps(folders[FEDSVD])


def folder_of(args: argparse.Namespace, name: str) -> Path:
    """Where a run is kept."""
    return args.output_dir / name.lower().replace(",", "").replace(" ", "-")


def json_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def flags(args: argparse.Namespace, name: str) -> list[str]:
    """What the training script is told; all rounds are kept."""
    length = ["--rounds", str(args.rounds), "--keep_checkpoints", str(args.rounds), "--seed", str(args.seed)]
    return [*RUNS[name], *SHAPE, *length]


def train(args: argparse.Namespace, name: str) -> None:
    """One run, unless it is there."""
    import train_fedsvd
    from fedsvd_demo_report import keep_logits

    folder = folder_of(args, name)
    kept = folder / "reference" / "logits.safetensors"
    if kept.is_file():
        summary = json_of(folder)
        if (summary["rounds"], summary["settings"]["seed"]) == (args.rounds, args.seed):
            return
    shutil.rmtree(folder, ignore_errors=True)
    trainer, _ = train_fedsvd.main([*flags(args, name), "--output_dir", str(folder)])
    keep_logits(trainer, kept)  # last: marks the folder as finished


def check_products(twin: float, plain: float) -> None:
    """Ends the program unless FedSVD and its twin have the same products B A."""
    print(
        f"\nB A of {FEDSVD} against {TWIN}: at most {twin:.1e} apart in the first 12 rounds; against {PLAIN}: {plain:.2f}"
    )
    if twin > 1e-5:
        raise SystemExit("under SGD the two must not differ by more than 1e-5")


def check_resume(args: argparse.Namespace) -> None:
    """Repeats the second half of FedSVD from the saved round in the middle."""
    import train_fedsvd
    from safetensors.torch import load_file

    straight, resumed = folder_of(args, FEDSVD), args.output_dir / "resumed"
    middle = straight / "checkpoints" / f"round_{args.rounds // 2:04d}"
    shutil.rmtree(resumed, ignore_errors=True)
    train_fedsvd.main([*flags(args, FEDSVD), "--output_dir", str(resumed), "--resume", str(middle)])
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (straight, resumed))
    difference = max((first[name] - second[name]).abs().max().item() for name in first)
    print(f"continued from {middle.name}: largest difference of the weights {difference:g}")
    if difference != 0.0:
        raise SystemExit("the continued run differs from the uninterrupted one")


def check_reload(folder: Path) -> None:
    """Stock PEFT in a fresh process, without this package, gives the logits of the model after training."""
    from fedsvd_digits import turned_vit_folder

    from eigenhub.training.demo_checks import in_fresh_process

    kept = folder / "reference" / "logits.safetensors"
    said = in_fresh_process("-c", RELOAD, str(turned_vit_folder()), str(folder), str(kept))
    difference = float(said.split()[-1])
    print(f"loaded by stock PEFT in a fresh process: largest difference of the logits {difference:g}")
    if difference != 0.0:
        raise SystemExit("the reloaded model differs from the trained one")


def print_next_steps(folder: Path) -> None:
    configs = HERE / "configs"
    shown = configs.relative_to(Path.cwd()) if configs.is_relative_to(Path.cwd()) else configs
    print("Next:")
    print("  look inside, in a browser:       eigenhub space fedsvd")
    print(f"  load the adapter:                PeftModel.from_pretrained(base_model, {str(folder)!r})")
    print(f"  tables of sentences:             eigenhub train fedsvd --config {shown / 'sst2_files.yaml'}")
    print(f"  the published run, on a GPU:     eigenhub train fedsvd --config {shown / 'mnli.yaml'}")
    print(f"  clients on machines of their own: flwr run {HERE / 'flower_app'}")


if __name__ == "__main__":
    main()
