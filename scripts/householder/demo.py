# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo]"]
# ///
"""Does a Householder projector find the factors behind images? In under four minutes, without a network and without a GPU.

    python scripts/householder/demo.py

Style latents of 32 numbers hold five factors of small images (two places, size, hue, background) in planted directions,
and noise in all others. A small StyleGAN2 learns the images; then its styles go through projectors of rank 5, or through
one of the controls, and it is tuned. The demo shows what each arm reads of the noise, images along the directions found
beside those of SeFa, that the basis inside of a projector is arbitrary, and that the model folds and comes back from disk
in a fresh process. Finished arms are kept in the output folder and not repeated.
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
STEPS, TUNE_STEPS = 1000, 600
PRETRAINED, PROJECTOR = "pretrained", "projector"
SHOWN = (
    "control",
    "control_fast",
    PROJECTOR,
    "projector_learned",
    "projector_random",
    "low_rank",
)
#: The layer whose directions are drawn: the first one that doubles the resolution, as published.
LAYER = "b8.conv0"
KEPT, MEASURES = "reference.safetensors", "measures.json"
RELOAD = """
import sys
import torch
from safetensors.torch import load_file
from transformers import AutoModel
import eigenhub.models.stylegan2

torch.set_num_threads(1)
kept = load_file(sys.argv[2])
with torch.no_grad():
    found = AutoModel.from_pretrained(sys.argv[1])(ws=kept["ws"]).images
print((found - kept["images"]).abs().max().item())
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo/householder"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the pretraining; default: %(default)s")
    parser.add_argument("--tune_steps", type=int, default=TUNE_STEPS, help="of every arm; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="repeat arms that are already there")
    args = parser.parse_args(argv)
    for name in ("steps", "tune_steps"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    if find_spec("matplotlib") is None:
        parser.error("matplotlib missing: pip install 'eigenhub[demo]'")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    started = time.perf_counter()
    print("importing torch and transformers ...", flush=True)
    sys.path.insert(0, str(HERE))  # the scripts beside this one, however it was started

    import torch
    from planted import ARMS
    from planted_report import print_table
    from transformers.utils import logging

    torch.set_num_threads(1)  # images of 16 x 16: a second thread would mostly wait for the first
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if args.fresh:
        shutil.rmtree(args.output_dir, ignore_errors=True)
    total = 1 + len(SHOWN)
    print(f"\n1/{total} a StyleGAN2 with ordinary affines: {args.steps} steps", flush=True)
    measures = {PRETRAINED: run(args, PRETRAINED)}
    for number, arm in enumerate(SHOWN, 2):
        print(f"{number}/{total} {ARMS[arm].title}: {args.tune_steps} steps", flush=True)
        measures[ARMS[arm].title] = run(args, arm)
    print_table(measures)
    check_rotation(args)
    check_fold(args)
    check_reload(args)
    show_directions(args)
    print(f"done in {time.perf_counter() - started:.0f} s\n")
    print_next_steps(args)


def settings(args: argparse.Namespace) -> dict[str, int]:
    return {"steps": args.steps, "tune_steps": args.tune_steps, "seed": args.seed}


def run(args: argparse.Namespace, arm: str) -> dict[str, Any]:
    """Measures of one arm: trained now, or read if it is there."""
    from planted import ARMS, PlantedWorld, pretrained, tuned
    from planted_measures import measured

    folder = args.output_dir / arm
    path = folder / MEASURES
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept["settings"] == settings(args):
            return kept["measures"]
    shutil.rmtree(folder, ignore_errors=True)
    world = PlantedWorld(args.seed)
    if arm == PRETRAINED:
        model = pretrained(world, args.steps, progress=arm)
    else:
        model = tuned(loaded(args, PRETRAINED), world, ARMS[arm], args.tune_steps, progress=arm)
    found = measured(model, world)
    save(model, folder, world)
    path.write_text(json.dumps({"settings": settings(args), "measures": found}, indent=2) + "\n")  # last: finished
    return found


def save(model: Any, folder: Path, world: Any) -> None:
    """The model as `from_pretrained` takes it, and some images, for a comparison after reloading."""
    import torch
    from gan_arms import without_free_factors
    from planted import TEST
    from safetensors.torch import save_file

    from eigenhub.models.stylegan2 import StyleGAN2Networks

    without_free_factors(StyleGAN2Networks(generator=model)).best_generator.save_pretrained(folder)
    ws = world.draw(16, TEST).latents[:, None].repeat(1, model.config.num_ws, 1)
    with torch.no_grad():
        save_file({"ws": ws, "images": model(ws=ws).images}, folder / KEPT)


def loaded(args: argparse.Namespace, arm: str) -> Any:
    from eigenhub.models.stylegan2 import StyleGAN2Generator

    return StyleGAN2Generator.from_pretrained(args.output_dir / arm)


def check_rotation(args: argparse.Namespace) -> None:
    """Turns the factors U and V of every projector by one rotation: the images stay, the directions do not."""
    import torch
    from planted import LAYERS, RANK
    from safetensors.torch import load_file

    from eigenhub.linalg import random_orthogonal
    from eigenhub.models.stylegan2.projectors import projector_at

    model, kept = loaded(args, PROJECTOR), load_file(args.output_dir / PROJECTOR / KEPT)
    turn, overlap = random_orthogonal(RANK, torch.Generator().manual_seed(1)), 0.0
    with torch.no_grad():
        for name in LAYERS:
            projector = projector_at(model, name)
            u, _, v = projector.factors()
            projector.left.copy_(projector.map.left.right_inverse(u @ turn))
            projector.right.copy_(projector.map.right.right_inverse(v @ turn))
            overlap = max(overlap, (projector.factors().right * v).sum(0).abs().max().item())
        difference = (model(ws=kept["ws"]).images - kept["images"]).abs().max().item()
    print(
        f"\nevery U, V turned by one rotation: images differ by {difference:.1e}, directions agree by |cos| {overlap:.2f}"
    )
    print("so only the span of a projector's directions is learned; the Jacobian basis orders it by visible effect")
    if difference > 1e-4:
        raise SystemExit("a rotation inside of the projectors must not change the images")


def check_fold(args: argparse.Namespace) -> None:
    """Ordinary affines in place of the projectors give the same images."""
    import torch
    from safetensors.torch import load_file

    model, kept = loaded(args, PROJECTOR).fold_projectors(), load_file(args.output_dir / PROJECTOR / KEPT)
    with torch.no_grad():
        difference = (model(ws=kept["ws"]).images - kept["images"]).abs().max().item()
    print(f"folded into ordinary affines: images differ by {difference:.1e}")
    if difference > 1e-4:
        raise SystemExit("the folded model differs from the projected one")


def check_reload(args: argparse.Namespace) -> None:
    """A fresh process gives the images that the model gave after training."""
    from eigenhub.training.demo_checks import in_fresh_process

    folder = args.output_dir / PROJECTOR
    difference = float(in_fresh_process("-c", RELOAD, str(folder), str(folder / KEPT)).split()[-1])
    print(f"loaded in a fresh process: largest difference of the images {difference:g}")
    if difference != 0.0:
        raise SystemExit("the reloaded model differs from the trained one")


def show_directions(args: argparse.Namespace) -> None:
    """Effects of the projector's directions and of SeFa's on the factors, and images along both."""
    import torch
    from planted import RANK, TEST, TUNE, PlantedWorld
    from planted_directions import direction_set, effects_of
    from planted_report import draw, strips

    from eigenhub.metrics.disentanglement import dci
    from eigenhub.metrics.factor_regressor import fit_factor_regressor, r_squared

    print("\nteaching a small network to read the factors of images ...", flush=True)
    world = PlantedWorld(args.seed)
    train, test = world.draw(2000, TUNE), world.draw(256, TEST)
    reader = fit_factor_regressor(train.images, train.factors, steps=300, width=16)
    explained = r_squared(reader(test.images), test.factors)
    print(f"it explains {100 * explained.min():.1f} % or more of the variance of each")
    panels = {}
    for title, arm, basis in (
        ("projector, Jacobian basis", PROJECTOR, "jacobian"),
        ("full rank, SeFa", "control", "sefa"),
    ):
        model = loaded(args, arm)
        vectors = direction_set(basis, model, LAYER, RANK, train.latents)
        effects = effects_of(model, LAYER, vectors, test.latents[:64], reader)
        with torch.no_grad():
            panels[title] = (strips(model, LAYER, vectors, test.latents[0], effects.steps), effects)
        score = dci(effects.matrix).disentanglement.item()
        print(f"{title:28} at {LAYER}: disentanglement {score:.3f} at equal visible change")
    draw(panels, args.output_dir / "directions.png")
    print(f"images along the directions: {args.output_dir / 'directions.png'}")


def print_next_steps(args: argparse.Namespace) -> None:
    folder = args.output_dir / PROJECTOR
    configs = HERE / "configs"
    shown = configs.relative_to(Path.cwd()) if configs.is_relative_to(Path.cwd()) else configs
    print("Next:")
    print("  sliders, in a browser:          eigenhub space householder")
    print(f"  load the model:                 StyleGAN2Generator.from_pretrained({str(folder)!r})")
    print("  your own checkpoint:            eigenhub householder --help")
    print(f"  fine-tune with projectors:      accelerate launch {HERE / 'finetune_projector.py'} --help")
    print(f"  published settings:             {shown}")


if __name__ == "__main__":
    main()
