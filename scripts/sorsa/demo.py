# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo]"]
# ///
"""SORSA beside LoRA and PiSSA in a few minutes, without a network and without a GPU.

    python scripts/sorsa/demo.py

A small ViT that was pretrained on turned handwritten digits learns upright ones. Every method has the same rank, the
same steps, and the learning rate that suits it best out of the same grid; then two more seeds at that rate. The runs
are those of `train_sorsa.py`, called in this process: twenty launches would spend most of their time on imports.
Finished runs are kept in the output folder and not repeated.
"""

import argparse
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path


HERE = Path(__file__).resolve().parent
METHODS = {
    "LoRA": ["--method", "lora"],
    "PiSSA": ["--method", "pissa"],
    "SORSA, penalty off": ["--method", "sorsa", "--reg_weight", "0"],
    "SORSA": ["--method", "sorsa", "--reg_weight", "1"],
}
RATES = ("2.5e-3", "5e-3", "1e-2", "2e-2")
KEPT = "logits.safetensors"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo/sorsa"), help="default: %(default)s")
    parser.add_argument("--rank", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=120, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are already there")
    args = parser.parse_args(argv)
    if missing := [name for name in ("sklearn", "matplotlib") if find_spec(name) is None]:
        parser.error(f"{' and '.join(missing)} missing: pip install 'eigenhub[demo]'")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    started = time.perf_counter()
    print("importing torch, transformers and peft ...", flush=True)
    sys.path.insert(0, str(HERE))  # the scripts beside this one, however it was started

    import torch
    from demo_report import best_rate, measured, print_table, summarise
    from transformers.utils import logging

    from eigenhub.embedded.vit import pretrained_vit_folder
    from eigenhub.hub.results import Results, save_results

    torch.set_num_threads(1)  # matrices of 64 x 64: a second thread would mostly wait for the first
    logging.disable_progress_bar()
    if args.fresh:
        shutil.rmtree(args.output_dir, ignore_errors=True)
    base = pretrained_vit_folder()
    print(f"base model, pretrained on turned digits: {base}\n")

    runs: dict[str, list[Path]] = {}
    for number, method in enumerate(METHODS, 1):
        print(f"{number}/{len(METHODS)} {method}: {len(RATES)} learning rates x {args.seeds} seeds", flush=True)
        tried = [[train(args, method, rate, seed) for seed in range(args.seeds)] for rate in RATES]
        runs[method] = best_rate(tried)
    rows = {method: summarise(folders) for method, folders in runs.items()}
    print_table(rows, args)
    save_results(Results("sorsa", measured(rows, args)), args.output_dir / "results.yaml")

    adapter = keep_adapter(runs["SORSA"][0], args.output_dir / "adapter")
    draw(args.output_dir, runs, adapter)
    check_reload(base, adapter, args.output_dir)
    check_export(base, adapter, args.output_dir)
    print(f"\nmodel card: {adapter / 'README.md'}")
    print(f"done in {time.perf_counter() - started:.0f} s\n")
    print_next_steps(adapter)


def train(args: argparse.Namespace, method: str, rate: str, seed: int) -> Path:
    """Folder of one run, trained now unless it is there."""
    import train_sorsa
    from safetensors.torch import save_file

    slug = method.lower().replace(", ", "-").replace(" ", "-")
    folder = args.output_dir / "runs" / f"{slug}-r{args.rank}-{args.steps}-{rate}-{seed}"
    if (folder / KEPT).is_file():
        return folder
    shape = ["--rank", str(args.rank), "--max_steps", str(args.steps), "--per_device_batch_size", "64"]
    where = ["--seed", str(seed), "--output_dir", str(folder)]
    run, _ = train_sorsa.main([*METHODS[method], "--lr", rate, *shape, *where])
    save_file({"logits": logits(run.adapted)}, folder / KEPT)  # last: marks the folder as finished
    return folder


def test_pixels():
    from eigenhub.embedded.digits import load_digits

    return load_digits()["test"][:]["pixel_values"].contiguous()


def logits(model):
    import torch

    with torch.no_grad():
        return model.eval()(pixel_values=test_pixels()).logits


def keep_adapter(run: Path, folder: Path) -> Path:
    """The adapter and its card, without the logs of the run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md", "results.yaml", KEPT):
        shutil.copy(run / name, folder / name)
    return folder


def draw(folder: Path, runs: dict[str, list[Path]], adapter: Path) -> None:
    from demo_report import draw_losses, draw_spectra

    draw_losses(runs, folder / "losses.png")
    draw_spectra(adapter / "adapter_model.safetensors", folder / "spectra.png")
    print(f"\nloss curves: {folder / 'losses.png'}\nspectra before and after: {folder / 'spectra.png'}\n")


def check_reload(base: Path, adapter: Path, folder: Path) -> None:
    """The adapter in a fresh process gives the logits of the model in memory after training, to the bit."""
    difference = difference_in_fresh_process(base, adapter, adapter, folder)
    print(f"reloaded in a fresh process: largest difference of the logits {difference:g}")
    if difference != 0.0:
        raise SystemExit("the reloaded adapter differs from the trained one")


def check_export(base: Path, adapter: Path, folder: Path) -> None:
    """The LoRA export gives the same logits, up to rounding, in a process that cannot import eigenhub."""
    from eigenhub.tuners.sorsa import export_checkpoint

    report = export_checkpoint(adapter, folder / "lora")
    half = export_checkpoint(adapter, folder / "lora-half", rank=report.rank // 2)
    difference = difference_in_fresh_process(base, report.path, adapter, folder, "--without_eigenhub")
    print(f"exported to LoRA of rank {report.rank}, in stock PEFT without eigenhub: largest difference {difference:g}")
    print(f"exported to LoRA of rank {half.rank}: {half.energy:.1%} of the change kept")
    if difference > 1e-4:
        raise SystemExit("the LoRA export differs from the trained adapter")


def difference_in_fresh_process(base: Path, adapter: Path, reference: Path, folder: Path, *flags: str) -> float:
    from safetensors.torch import load_file, save_file

    from eigenhub.training.demo_checks import in_fresh_process

    inputs, output = folder / "inputs.safetensors", folder / "reloaded.safetensors"
    save_file({"pixel_values": test_pixels()}, inputs)
    in_fresh_process(str(HERE / "check_adapter.py"), str(base), str(adapter), str(inputs), str(output), *flags)
    expected = load_file(reference / KEPT)["logits"]
    return (load_file(output)["logits"] - expected).abs().max().item()


def print_next_steps(adapter: Path) -> None:
    configs = HERE / "configs"
    shown = configs.relative_to(Path.cwd()) if configs.is_relative_to(Path.cwd()) else configs
    print("Next:")
    print("  look inside, in a browser:       eigenhub space sorsa")
    print(
        f"  load the adapter:                import eigenhub.auto; PeftModel.from_pretrained(base, {str(adapter)!r})"
    )
    print(f"  real text, some minutes on a CPU: eigenhub train sorsa --config {shown / 'gsm8k_tiny.yaml'}")
    print(f"  the published run, on a GPU:     eigenhub train sorsa --config {shown / 'llama2_7b_metamath.yaml'}")


if __name__ == "__main__":
    main()
