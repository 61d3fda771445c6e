# SPDX-License-Identifier: Apache-2.0
"""Private steps against gradients of one example at a time; noise, empty batches, what is left on the model."""

import pytest
import torch
from torch import nn

from eigenhub.federated.private_sampling import random_stream
from tests.federated.private_reference import (
    EXAMPLES,
    clipped_mean,
    collate,
    example_gradients,
    lora_model,
    run_privately,
    sgd,
    token_data,
    trainable,
)
from tests.support.models import tiny_bert, tiny_llama, tiny_vit


pytest.importorskip("opacus")

MODES = ("hooks", "ghost")


class Spy(torch.optim.SGD):
    """SGD that keeps what Opacus has computed for each example."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=1.0)
        self.seen = []

    def step(self, closure=None):
        self.seen.append([p.grad_sample.clone() for group in self.param_groups for p in group["params"]])
        return super().step(closure)


def moved(before, model):
    return {name: before[name] - now for name, now in trainable(model).items()}


def test_gradients_per_example_are_those_of_one_backward_each():
    model = lora_model()
    expected = example_gradients(model)
    spies = []
    run_privately(model, optimizer_factory=lambda parameters: spies.append(Spy(parameters)) or spies[0])
    (seen,) = spies[0].seen
    for (name, gradients), ours in zip(expected.items(), seen, strict=True):
        torch.testing.assert_close(ours, gradients, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", [None, 5])
@pytest.mark.parametrize("head", [False, True])
def test_a_step_without_noise_on_everything_is_the_clipped_mean(mode, part, head):
    model = lora_model(**({"modules_to_save": ["classifier"]} if head else {}))
    gradients = example_gradients(model)
    norms = torch.cat([g.flatten(1) for g in gradients.values()], dim=1).norm(dim=1)
    clip = float(norms.median())  # some examples are clipped and some are not
    before, expected = trainable(model), clipped_mean(gradients, clip)
    run = run_privately(model, grad_sample_mode=mode, max_grad_norm=clip, physical_batch_size=part)
    for name, change in moved(before, model).items():
        torch.testing.assert_close(change.double(), expected[name], rtol=1e-4, atol=1e-6, msg=name)
    assert (run.steps, run.sample_rate, run.metrics) == (1, 1.0, {})


@pytest.mark.parametrize("mode", MODES)
def test_one_example_moves_the_model_by_the_clipping_norm_at_most(mode):
    changes = {}
    for examples in (EXAMPLES, EXAMPLES - 1):
        model = lora_model()
        before = trainable(model)
        run_privately(model, token_data().select(range(examples)), grad_sample_mode=mode, max_grad_norm=1e-3)
        changes[examples] = torch.cat([c.flatten() for c in moved(before, model).values()]) * examples
    difference = (changes[EXAMPLES] - changes[EXAMPLES - 1]).norm()
    assert 0.9e-3 < difference < 1.01e-3


@pytest.mark.parametrize("mode", MODES)
def test_noise_has_the_promised_size(mode):
    model = lora_model(r=16, target_modules=["query", "key", "value", "dense"])
    before = trainable(model)
    # gradients of a norm of 1e-3 do not show beside noise of 2; 24 examples are expected of 48
    run_privately(model, token_data(48), grad_sample_mode=mode, max_grad_norm=1e-3, noise_multiplier=2000.0,
                  batch_size=24, num_steps=3)  # fmt: skip
    noise = torch.cat([change.flatten() for change in moved(before, model).values()])
    assert len(noise) > 2500
    assert noise.std() / 3**0.5 == pytest.approx(2000.0 * 1e-3 / 24, rel=0.03)
    assert abs(noise.mean()) < 4 * noise.std() / len(noise) ** 0.5


def test_only_what_is_trainable_changes():
    model = lora_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run_privately(model, noise_multiplier=1.0, num_steps=3, batch_size=6)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(trainable(model)) and all("lora_B" in name for name in changed)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", [None, 2])
def test_empty_batches_are_noisy_steps_that_count(mode, part):
    model = lora_model()
    before, sizes, starts = trainable(model), [], []

    def factory(parameters):
        starts.append([p.detach().clone() for p in parameters])
        optimizer = sgd(parameters)
        optimizer.register_step_post_hook(lambda *_: starts.append([p.detach().clone() for p in parameters]))
        return optimizer

    def counted(examples):
        sizes.append(len(examples))
        return collate(examples)

    run = run_privately(model, grad_sample_mode=mode, physical_batch_size=part, data_collator=counted, batch_size=1,
                        optimizer_factory=factory, noise_multiplier=1e-3, num_steps=12, seed=5)  # fmt: skip
    assert run.steps == 12 == len(starts) - 1
    assert 0 not in sizes and len(sizes) < 12 + 6  # the collator never sees an empty batch, and there were some
    for earlier, later in zip(starts, starts[1:], strict=False):
        assert all(not torch.equal(a, b) for a, b in zip(earlier, later, strict=True))
    assert moved(before, model)


def empty_seed(steps, examples):
    """A seed under which the first batches of rate 1 / examples are all empty."""

    def draws(seed):
        return torch.rand(steps, examples, generator=random_stream("cpu", seed, (0,)))

    return next(seed for seed in range(1000) if bool((draws(seed) >= 1 / examples).all()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", [None, 2])
def test_a_run_of_empty_batches_alone_is_noise(mode, part):
    model = lora_model()
    before = trainable(model)

    def never(_):
        raise AssertionError("there is nothing to collate")

    run = run_privately(model, token_data(3), grad_sample_mode=mode, physical_batch_size=part, data_collator=never,
                        batch_size=1, noise_multiplier=1.0, max_grad_norm=0.01, num_steps=2, seed=empty_seed(2, 3))  # fmt: skip
    assert run.steps == 2
    noise = torch.cat([change.flatten() for change in moved(before, model).values()])
    assert noise.std() == pytest.approx(2**0.5 * 0.01, rel=0.25)


def test_the_sum_is_divided_by_the_expected_batch():
    """Whatever the drawn batches hold: 7 are expected of 12, at a rate that is not one over a whole number."""
    model = lora_model()
    gradients = example_gradients(model)
    drawn = torch.rand(EXAMPLES, generator=random_stream("cpu", 0, (0,))) < 7 / EXAMPLES
    assert 0 < drawn.sum() < EXAMPLES and drawn.sum() != 7
    before = trainable(model)
    run = run_privately(model, expected_batch_size=7, seed=0)
    assert run.sample_rate == 7 / EXAMPLES
    for name, change in moved(before, model).items():
        torch.testing.assert_close(change, gradients[name][drawn].sum(0) / 7, rtol=1e-4, atol=1e-6)


def test_a_client_smaller_than_a_batch_uses_all_it_has():
    model = lora_model()
    before, mean = trainable(model), clipped_mean(example_gradients(model), 1e9)
    assert run_privately(model, batch_size=5 * EXAMPLES).sample_rate == 1.0
    for name, change in moved(before, model).items():
        torch.testing.assert_close(change.double(), mean[name], rtol=1e-4, atol=1e-6)


def language_data():
    rows = [[5, 6, 7, 8, 9], [9, 8, 7, 6, 5], [4, 4, 5, 5, 6], [30, 31, 32, 33, 34]]
    labels = [[-100, 6, 7, 8, 9], [-100, -100, -100, 6, 5], [4, 4, 5, 5, 6], [-100, -100, -100, -100, 34]]
    return [{"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)]


def image_data():
    pixels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return [{"pixel_values": image.tolist(), "labels": label} for label, image in enumerate(pixels)]


CASES = {
    "llama": (lambda: lora_model(tiny_llama(), target_modules=["q_proj", "v_proj"]), language_data),
    "vit": (lambda: lora_model(tiny_vit(), target_modules=["q_proj", "v_proj", "query", "value"]), image_data),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_language_and_image_models(mode, case):
    make, data = CASES[case]
    model = make()
    gradients = example_gradients(model, data())
    before, expected = trainable(model), clipped_mean(gradients, 0.05)
    run_privately(model, data(), grad_sample_mode=mode, max_grad_norm=0.05, batch_size=4)
    for name, change in moved(before, model).items():
        torch.testing.assert_close(change.double(), expected[name], rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_a_half_precision_base_with_adapters_in_float32(mode):
    model = lora_model(tiny_bert(num_labels=3).to(torch.bfloat16))
    assert {p.dtype for p in trainable(model).values()} == {torch.float32}
    before, expected = trainable(model), clipped_mean(example_gradients(model), 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # does not reach the norms
        run_privately(model, grad_sample_mode=mode, max_grad_norm=0.5)
    total = torch.cat([expected[name].flatten() for name in before])
    change = torch.cat([change.flatten() for change in moved(before, model).values()]).double()
    assert (change - total).norm() < 0.05 * total.norm()


@pytest.mark.parametrize("trained", ["lora_A", "lora_"])
def test_both_factors_can_be_trained(trained):
    model = lora_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained in name)
    before, expected = trainable(model), clipped_mean(example_gradients(model), 0.1)
    run_privately(model, max_grad_norm=0.1)
    for name, change in moved(before, model).items():
        torch.testing.assert_close(change.double(), expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_private_training_learns(mode):
    model = lora_model(tiny_bert(num_labels=3, initializer_range=0.5), lora_dropout=0.1)
    data = [{"input_ids": [10 + row % 3] * 6, "labels": row % 3} for row in range(30)]
    first, last = (
        run_privately(model, data, grad_sample_mode=mode, num_steps=10, batch_size=15, noise_multiplier=0.3,
                      max_grad_norm=1.0, report_metrics=True, stream_key=(round,),
                      optimizer_factory=lambda p: torch.optim.AdamW(p, lr=0.03)).metrics["train_loss"]
        for round in (1, 2)
    )  # fmt: skip
    assert last < 0.6 * first


def test_the_mean_loss_is_told_on_request_only():
    model = lora_model()
    expected = torch.stack([model(**collate([example])).loss for example in token_data()]).mean()
    assert run_privately(lora_model()).metrics == {}
    assert run_privately(model, report_metrics=True).metrics == {
        "train_loss": pytest.approx(expected.item(), rel=1e-5)
    }


def test_an_own_loss():
    model = lora_model()
    before = trainable(model)
    run = run_privately(
        model, compute_loss=lambda outputs, labels: outputs.logits.square().sum(1), report_metrics=True
    )
    assert run.metrics["train_loss"] >= 0 and any(change.any() for change in moved(before, model).values())


def test_a_convolution_with_an_own_loss():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 10)

        def forward(self, pixel_values):
            return self.head(self.conv(pixel_values).square().mean((2, 3)))

    def cross_entropy(logits, labels):
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    for mode in MODES:
        model = lora_model(Net(), target_modules=["conv"])
        parameters = [p for p in model.parameters() if p.requires_grad]
        batch = collate(image_data())
        rows = [torch.autograd.grad(cross_entropy(model(batch["pixel_values"][i : i + 1]), batch["labels"][i : i + 1]).sum(), parameters) for i in range(4)]  # fmt: skip
        expected = clipped_mean({str(k): torch.stack(g) for k, g in enumerate(zip(*rows, strict=True))}, 0.1)
        before = trainable(model)
        run_privately(
            model, image_data(), compute_loss=cross_entropy, max_grad_norm=0.1, batch_size=4, grad_sample_mode=mode
        )
        for change, mean in zip(moved(before, model).values(), expected.values(), strict=True):
            torch.testing.assert_close(change.double(), mean, rtol=1e-3, atol=1e-6)
