# SPDX-License-Identifier: Apache-2.0
"""Three classifiers of digits that differ in nothing but the initialisation: trained here in seconds, kept in the cache."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from names import FREQUENCIES, INITS, ORDER
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm
from transformers import AutoModelForImageClassification, PreTrainedModel

import eigenhub.auto  # noqa: F401  # registers the architectures
from eigenhub import __version__
from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.pretrain import endless_rows
from eigenhub.embedded.sequential_digits import enlarge, load_sequential_digits
from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.linalg.hippo import legs_frequencies
from eigenhub.models.s4d import S4DConfig, S4DForImageClassification, s4d_param_groups
from eigenhub.models.s5_ptd import FourierNoise


REPEAT = 2  # a digit of 8 x 8 pixels becomes a sequence of 256
DRAWS = 16  # of the noise on one image
AMPLITUDES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CURVE_DIGITS = 300  # of the test digits, for a curve in a few seconds
LOW_FREQUENCY = 5.0


@dataclass(frozen=True)
class Recipe:
    """How the classifiers are trained."""

    hidden_size: int = 32
    num_hidden_layers: int = 2
    epochs: int = 6
    batch_size: int = 50
    lr: float = 1e-2
    ssm_lr: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0


RECIPE = Recipe()


def new_classifier(init: str, recipe: Recipe) -> S4DForImageClassification:
    """One system per channel, as in the theorem, with the input scaled such that all agree with HiPPO at low frequencies."""
    config = S4DConfig(
        input_size=1,
        num_labels=10,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.num_hidden_layers,
        state_size=ORDER,
        init=init,
        b_scale=0.5 if init == "legs" else 1.0,
        prenorm=False,
        norm_type="batch",
    )
    return S4DForImageClassification(config)


def classifier_folder(init: str) -> Path:
    """Folder of a trained classifier; trained now if it is not in the cache."""

    def build(folder: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RECIPE.seed)
            model = new_classifier(init, RECIPE)
            train(model, init, RECIPE)
        model.save_pretrained(folder)
        curves = {name: accuracy_curve(model, frequency(name)) for name in FREQUENCIES}
        (folder / "curves.json").write_text(json.dumps(curves) + "\n")

    recipe = {"eigenhub": __version__, "init": init, **asdict(RECIPE)}
    return cached_folder("s5-ptd-digits", recipe, build)


def train(model: PreTrainedModel, init: str, recipe: Recipe) -> None:
    """AdamW with the parameter groups of S4D and one cycle of the learning rate."""
    columns = load_sequential_digits(REPEAT)["train"][:]
    pixels, labels = columns["pixel_values"], columns["labels"]
    groups = s4d_param_groups(model, recipe.lr, recipe.ssm_lr, recipe.weight_decay)
    optimizer = AdamW(groups, lr=recipe.lr)
    steps = recipe.epochs * (len(labels) // recipe.batch_size)
    schedule = OneCycleLR(optimizer, [group["lr"] for group in groups], steps)
    model.train()
    batches = endless_rows(len(labels), recipe.batch_size, recipe.seed)
    for _, rows in zip(tqdm(range(steps), desc=f"training {INITS[init]}"), batches, strict=False):
        model(pixel_values=pixels[rows], labels=labels[rows]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def frequency(name: str) -> float:
    """A frequency by its name in `names.FREQUENCIES`, in radians per unit of the models' time."""
    if name == "low":
        return LOW_FREQUENCY
    if name == "legs":
        return legs_frequencies(ORDER)[0].item()
    from transfer_figure import frequency_grid, relative_gain

    grid = frequency_grid(ORDER)
    return grid[relative_gain("ptd", ORDER, grid).argmax()].item()


@torch.no_grad()
def accuracy_curve(model: PreTrainedModel, omega: float) -> list[float]:
    """Share of the test digits that are recognised, for every amplitude of the noise."""
    columns = load_sequential_digits(REPEAT)["test"][:CURVE_DIGITS]
    found = []
    for amplitude in AMPLITUDES:
        with FourierNoise(amplitude, omega).applied_to(model):
            answers = model(pixel_values=columns["pixel_values"]).logits.argmax(-1)
        found.append((answers == columns["labels"]).double().mean().item())
    return found


@lru_cache(maxsize=8)
def load_classifier(name: str) -> PreTrainedModel:
    """An embedded classifier by its initialisation, or any of this family by Hub id or folder."""
    if name in INITS:
        return AutoModelForImageClassification.from_pretrained(classifier_folder(name)).eval()
    with shown_to_visitor(f"Cannot load {name!r}"):
        model = AutoModelForImageClassification.from_pretrained(name).eval()
        if model.config.model_type not in ("s5_ptd", "s4d") or model.config.input_size != 1:
            raise ValueError("it is no S5 or S4D classifier of images with one channel")
    return model


def load_curves() -> dict[str, dict[str, list[float]]]:
    """Initialisation to frequency to accuracies of the embedded classifiers."""
    return {init: json.loads((classifier_folder(init) / "curves.json").read_text()) for init in INITS}


@torch.no_grad()
def probabilities(model: PreTrainedModel, digit: Tensor, amplitude: float, omega: float) -> Mapping[str, float]:
    """
    Class to probability, mean over several draws of the noise.

    Args:
        model (`PreTrainedModel`): classifier.
        digit (`Tensor` of shape `(1, 8, 8)`): values in [-1, 1].
        amplitude (`float`): of the noise on the input of every layer.
        omega (`float`): its frequency.
    """
    pixels = enlarge(digit, REPEAT).expand(DRAWS, -1, -1, -1)
    with FourierNoise(amplitude, omega).applied_to(model):
        shares = model(pixel_values=pixels).logits.float().softmax(-1).mean(0)
    names = model.config.id2label
    return {str(names[i]).removeprefix("LABEL_"): share for i, share in enumerate(shares.tolist())}
