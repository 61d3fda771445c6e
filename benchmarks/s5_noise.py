# SPDX-License-Identifier: Apache-2.0
"""Which initialisation of a state space model survives noise of one frequency, and what that costs in clean accuracy.

    python benchmarks/s5_noise.py            # one epoch and one seed of everything, prints only
    python benchmarks/s5_noise.py --full     # fifteen epochs, three seeds, with and without residual: a quarter of an hour on two cores
    python benchmarks/s5_noise.py --figure   # docs/images/s5_ptd_transfer.png, from the mathematics alone

Handwritten digits, standardised, every pixel doubled in both directions, read as sequences of 256. As in the paper's
experiment three layers of 32 channels and order 32 learn C and the mixing; eigenvalues, B and time steps stay where the
initialisation has put them, and there is no D, which would carry noise past the system. At test time `FourierNoise` enters
every layer at the frequency that S4D-LegS amplifies most.
"""

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from support.arguments import add_cache, arguments
from support.cached import cached


ORDER, CHANNELS, LAYERS, BATCH = 32, 32, 3, 50
AMPLITUDES = (0.0, 0.1, 0.3, 1.0)
S5_BLOCKS = 4  # of the same order each; with a single one S5 stays near 60 %
PROCESSES = 2
#: Name: model, initialisation, scale of B (one half makes S4D-LegS agree with HiPPO at low frequencies).
CONTENDERS = {
    "S4D-LegS": ("s4d", "legs", 0.5),
    "S4D-Inv": ("s4d", "inv", 1.0),
    "S4D-Lin": ("s4d", "lin", 1.0),
    "S4-PTD": ("s4d", "ptd", 1.0),
    "S4-PTD low-rank": ("s4d", "lowrank", 1.0),
    "exact HiPPO, dense": ("dense", "legs", 1.0),
    "S5": ("s5", "legs", 0.5),
    "S5-PTD": ("s5", "ptd", 1.0),
    "S5-PTD low-rank": ("s5", "lowrank", 1.0),
}
NOTE = (
    "Accuracy on 597 test digits in per cent, mean over seeds {seeds} with the smallest and the largest, after {epochs} epochs "
    "with frozen eigenvalues; the drop is that of the same model when noise of amplitude 1 enters every layer. The noise is the "
    "worst there is for S4D-LegS."
)


def build(name: str, residual: bool, seed: int) -> Any:
    """One contender, initialised from its seed."""
    import torch
    from support.dense_hippo import DenseHippoSSM

    from eigenhub.models.s4d import S4DConfig, S4DForSequenceClassification
    from eigenhub.models.s5_ptd import S5Config, S5ForSequenceClassification

    torch.manual_seed(seed)
    kind, init, b_scale = CONTENDERS[name]
    shape = {
        "input_size": 1,
        "hidden_size": CHANNELS,
        "state_size": ORDER,
        "num_hidden_layers": LAYERS,
        "num_labels": 10,
    }
    shape |= {"init": init, "b_scale": b_scale, "residual": residual, "prenorm": False, "hidden_dropout": 0.1}
    if kind == "s5":
        # the structure of HiPPO, which the theory is about, needs one time step for a whole block, and a noise of one
        # frequency the same one for all blocks
        step = {"dt_tying": "layer", "dt_min": 0.01, "dt_max": 0.01}
        blocks = {"num_blocks": S5_BLOCKS, "state_size": S5_BLOCKS * ORDER}
        model = S5ForSequenceClassification(S5Config(**shape | step | blocks))
        for parameter, tensor in model.named_parameters():
            tensor.requires_grad_(parameter.rpartition(".")[2] not in ("Lambda_re", "Lambda_im", "log_step", "B"))
        return without_feedthrough(model)
    model = S4DForSequenceClassification(S4DConfig(ssm_lr=0.0, conv_backend="fft", **shape))
    if kind == "dense":
        for block in model.model.layers:
            layer = block.mixer.layer
            layer.ssm = DenseHippoSSM(model.config, layer.ssm.step_sizes.detach(), 64 * 4)
    return without_feedthrough(model)


def without_feedthrough(model: Any) -> Any:
    """The model with D = 0 for good."""
    for parameter, tensor in model.named_parameters():
        if parameter.endswith(".D"):
            tensor.detach().zero_()
            tensor.requires_grad_(False)
    return model


def train(name: str, residual: bool, seed: int, epochs: int) -> dict[str, Any]:
    """Train one contender; accuracy in per cent by amplitude of the noise."""
    import torch

    from eigenhub.embedded.sequential_digits import load_sequential_digits, raster
    from eigenhub.linalg.hippo import legs_frequencies
    from eigenhub.models.s5_ptd import FourierNoise

    torch.set_num_threads(1)
    data = {split: rows[:] for split, rows in load_sequential_digits().items()}
    pixels = {split: raster(torch.as_tensor(rows["pixel_values"]).float()) for split, rows in data.items()}
    spread, centre = torch.std_mean(pixels["train"])
    pixels = {split: (values - centre) / spread for split, values in pixels.items()}
    labels = {split: torch.as_tensor(rows["labels"]) for split, rows in data.items()}
    model = build(name, residual, seed)
    outputs = [tensor for parameter, tensor in model.named_parameters() if parameter.endswith(".C")]
    chosen = {id(tensor) for tensor in outputs}
    others = [tensor for tensor in model.parameters() if tensor.requires_grad and id(tensor) not in chosen]
    groups = [
        {"params": outputs, "lr": 4e-3, "weight_decay": 0.0},
        {"params": others, "lr": 1e-2, "weight_decay": 0.05},
    ]
    optimizer = torch.optim.AdamW(groups)
    steps = epochs * math.ceil(len(labels["train"]) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [4e-3, 1e-2], total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels["train"]), generator=order).split(BATCH):
            loss = model(input_values=pixels["train"][rows], labels=labels["train"][rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    accuracy = {}
    for amplitude in AMPLITUDES:
        noise = FourierNoise(amplitude, legs_frequencies(ORDER)[0].item(), seed=seed)
        with torch.no_grad(), noise.applied_to(model):
            guesses = model(input_values=pixels["test"]).logits.argmax(-1)
        accuracy[str(amplitude)] = 100 * (guesses == labels["test"]).float().mean().item()
    return {"accuracy": accuracy, "loss": loss.item()}


def run(name: str, residual: bool, seed: int, epochs: int, cache: Path) -> dict[str, Any]:
    task = {"name": name, "setting": CONTENDERS[name], "residual": residual, "seed": seed, "epochs": epochs}
    found = cached(cache, task, lambda: train(name, residual, seed, epochs))
    return {"name": name, "residual": residual, "seed": seed, **found}


def run_all(jobs: list[partial]) -> list[dict[str, Any]]:
    from tqdm import tqdm

    # spawn: a forked child would inherit torch's thread pool in an unusable state
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(job) for job in jobs]
        return [future.result() for future in tqdm(as_completed(futures), total=len(futures), desc="models")]


def report_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from support.report import row

    rows = []
    for residual in (False, True):
        for name in CONTENDERS:
            runs = sorted(
                (f for f in found if (f["name"], f["residual"]) == (name, residual)), key=lambda f: f["seed"]
            )
            if not runs:
                continue
            body = "with residual" if residual else "without residual"
            for amplitude in AMPLITUDES:
                values = [f["accuracy"][str(amplitude)] for f in runs]
                what = f"{name}, {'clean' if amplitude == 0 else f'noise {amplitude:g}'}"
                rows.append(row(what, body, mean(values), range=[min(values), max(values)], values=values))
            drops = [f["accuracy"]["0.0"] - f["accuracy"]["1.0"] for f in runs]
            bound = 5.0 if not residual and ("PTD" in name or "HiPPO" in name) and not name.startswith("S5") else None
            rows.append(row(f"{name}, drop", body, mean(drops), bound, range=[min(drops), max(drops)], values=drops))
    return rows


def card_figures(rows: list[dict[str, Any]], seeds: tuple[int, ...], epochs: int) -> list[Any]:
    """Accuracies in the form of a results file; S5-PTD, which the card is about, under its slug."""
    from support.card_figures import measured_figure

    from eigenhub.hub.results import DatasetRef

    figures = []
    for entry in rows:
        name, _, condition = entry["what"].rpartition(", ")
        if condition in ("clean", "noise 1"):
            slug = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
            where = f"{condition.replace(' ', '-')}-{entry['setting'].split()[0]}"
            figures.append(
                measured_figure(
                    entry["values"],
                    ["transformers"],
                    id=f"digits-256-{slug}-{where}",
                    method="s5_ptd" if name == "S5-PTD" else slug,
                    task="image-classification",
                    dataset=DatasetRef("sklearn/digits", "Handwritten digits as sequences of 256 pixels", "test"),
                    metric="accuracy, per cent" + ("" if condition == "clean" else ", Fourier noise of amplitude 1"),
                    setting=f"{name}, frozen eigenvalues, {epochs} epochs, {entry['setting']} connections",
                    seeds=list(seeds),
                    command="python benchmarks/s5_noise.py --full",
                )
            )
    return figures


def draw(path: Path) -> None:
    """How much louder than HiPPO each initialisation is, by frequency."""
    import matplotlib

    matplotlib.use("Agg")
    import torch
    from matplotlib import pyplot as plt

    from eigenhub.linalg.hippo import gain_peaks, hippo_legs, lowrank_gain, ptd_diagonalize, transfer_function

    n = 64
    w = torch.logspace(-1, 4, 6000, dtype=torch.float64)
    w = torch.cat([w, gain_peaks(n, n // 2)[0]]).sort().values  # the peaks are narrower than the grid
    a, b, _ = hippo_legs(n)
    result = ptd_diagonalize(n)
    exact, perturbed = (transfer_function(m, b, None, 1j * w) for m in (a, a + result.E))
    gain = torch.linalg.vector_norm(perturbed, dim=-1) / torch.linalg.vector_norm(exact, dim=-1)
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.loglog(w, lowrank_gain(n, w, 1.0), label="S4D-LegS and S5: rank-one part dropped", color="tab:red", lw=1)
    axes.loglog(w, gain, label=f"PTD, optimised: κ = {result.info['kappa']:.1f}", color="tab:blue")
    axes.loglog(w, lowrank_gain(n, w, 0.1), label="PTD, low-rank, τ = 0.1", color="tab:green")
    axes.axhline(1, color="0.6", lw=0.8)
    axes.set(xlabel="frequency, rad per unit of time", ylabel="gain relative to HiPPO", title=f"Order {n}")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    full = "all epochs and seeds; saves the results and fills the card"
    parser = arguments(__doc__, "short", "one epoch and one seed of everything; prints only", full)
    parser.add_argument("--figure", action="store_true", help="draw the transfer functions only")
    add_cache(parser, "s5_noise")
    args = parser.parse_args()
    if args.figure:
        draw(Path(__file__).parent.parent / "docs" / "images" / "s5_ptd_transfer.png")
        return
    epochs, seeds, bodies = (15, (0, 1, 2), (False, True)) if args.full else (1, (0,), (False,))
    jobs = [partial(run, n, residual, s, epochs, args.cache) for residual in bodies for n in CONTENDERS for s in seeds]
    rows = report_rows(run_all(jobs))

    import torch
    from support.card_figures import replace_measured
    from support.report import save

    torch.set_num_threads(1)  # as in the processes that did the work; the report notes it
    note = NOTE.format(seeds=", ".join(map(str, seeds)), epochs=epochs)
    title = "State space models under noise of one frequency"
    save("s5_noise", title, rows, ["transformers", "eigenhub"], keep=args.full, note=note, kind="quality")
    if args.full:
        replace_measured("s5_ptd", card_figures(rows, seeds, epochs))


if __name__ == "__main__":
    main()
