# SPDX-License-Identifier: Apache-2.0
"""What the methods are for, at the smallest scale that shows it: noise, initialisations and irregular times."""

import pytest
import torch

from eigenhub.embedded.pendulum import PendulumRecipe, load_pendulum
from eigenhub.embedded.sequential_digits import load_sequential_digits, raster
from eigenhub.linalg.hippo import gain_peaks
from eigenhub.models.s4d import S4DConfig, S4DForSequenceClassification, s4d_param_groups
from eigenhub.models.s5_ptd import FourierNoise, S5Config, S5ForTimeSeriesRegression, s5_param_groups


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BATCH = 50


def digits(repeat):
    """Sequences of pixels and their digits, by split."""
    splits = {name: rows[:] for name, rows in load_sequential_digits(repeat).items()}
    return {name: {"input_values": raster(r["pixel_values"]), "labels": r["labels"]} for name, r in splits.items()}


def train(model, groups, rows, epochs, seed=0):
    """One cycle of the learning rate over shuffled batches."""
    size = len(rows["labels"])
    optimizer = torch.optim.AdamW(groups)
    highest = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=epochs * -(-size // BATCH))
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for part in torch.randperm(size, generator=order).split(BATCH):
            optimizer.zero_grad()
            model(**{name: column[part] for name, column in rows.items()}).loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model, rows):
    """In per cent."""
    guesses = model(input_values=rows["input_values"]).logits.argmax(-1)
    return 100 * (guesses == rows["labels"]).float().mean().item()


def digit_reader(seed=0, **settings):
    torch.manual_seed(seed)
    shape = {"input_size": 1, "hidden_size": 32, "state_size": 32, "num_hidden_layers": 3, "num_labels": 10}
    return S4DForSequenceClassification(S4DConfig(**(shape | {"prenorm": False, "hidden_dropout": 0.1} | settings)))


def test_noise_of_one_frequency_destroys_what_rings_and_spares_the_rest():
    """Without D, as in the paper: it would carry the noise past the system."""
    rows = digits(2)
    spread, centre = torch.std_mean(rows["train"]["input_values"])
    for split in rows.values():
        split["input_values"] = (split["input_values"] - centre) / spread
    noise = FourierNoise(1.0, gain_peaks(32)[0][0].item())
    clean, drop = {}, {}
    for init, b_scale in (("legs", 0.5), ("ptd", 1.0), ("lowrank", 1.0)):
        model = digit_reader(init=init, b_scale=b_scale, residual=False, ssm_lr=0.0, conv_backend="fft")
        parameters = dict(model.named_parameters())
        for name in [name for name in parameters if name.endswith(".D")]:
            parameters.pop(name).detach().zero_()
        outputs = [parameters.pop(name) for name in list(parameters) if name.endswith(".C")]
        groups = [{"params": outputs, "lr": 4e-3, "weight_decay": 0.0}]
        groups += [{"params": list(parameters.values()), "lr": 1e-2, "weight_decay": 0.05}]
        train(model, groups, rows["train"], epochs=8)
        clean[init] = accuracy(model, rows["test"])
        with noise.applied_to(model):
            drop[init] = clean[init] - accuracy(model, rows["test"])
    assert min(clean.values()) > 70, clean
    assert max(drop["ptd"], drop["lowrank"]) <= 5 and drop["legs"] >= 40, (clean, drop)


def test_a_structured_start_learns_what_a_random_or_real_one_does_not():
    rows = digits(1)
    found = {}
    for init in ("lin", "imag-random", "real"):
        scores = []
        for seed in (0, 1):
            model = digit_reader(seed, init=init)
            groups = s4d_param_groups(model, lr=1e-2, ssm_lr=1e-3, weight_decay=0.01)
            scores.append(accuracy(train(model, groups, rows["train"], epochs=14, seed=seed), rows["test"]))
        found[init] = sum(scores) / 2
    assert found["lin"] >= 92, found
    assert found["lin"] - found["imag-random"] >= 8 and found["lin"] - found["real"] >= 15, found


def test_irregular_times_matter():
    """The angle of a pendulum follows from its velocity for who knows the times between the readings."""
    splits = load_pendulum(PendulumRecipe(num_train=500, num_test=200, length=48))
    rows = {name: split.rename_column("values", "input_values")[:] for name, split in splits.items()}
    for split in rows.values():
        split["time_deltas"] = torch.diff(split.pop("timestamps"), dim=1, prepend=torch.zeros(len(split["labels"]), 1))
    torch.manual_seed(0)
    shuffled = {
        name: split
        | {"time_deltas": split["time_deltas"].gather(1, torch.rand(split["time_deltas"].shape).argsort(1))}
        for name, split in rows.items()
    }
    errors = {}
    for name, data in (("right", rows), ("shuffled", shuffled)):
        torch.manual_seed(0)
        shape = {"input_size": 1, "num_labels": 1, "hidden_size": 24, "state_size": 16, "num_blocks": 2}
        config = S5Config(**shape, num_hidden_layers=2, dt_min=0.1, dt_max=1.0, activation="half_glu2")
        model = S5ForTimeSeriesRegression(config)
        train(model, s5_param_groups(model, lr=1e-2, ssm_lr=3e-3, weight_decay=0.0), data["train"], epochs=30)
        with torch.no_grad():
            errors[name] = model(**data["test"]).loss.item()
    assert errors["right"] < 0.5 * errors["shuffled"], errors
