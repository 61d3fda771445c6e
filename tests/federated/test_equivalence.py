# SPDX-License-Identifier: Apache-2.0
"""Under SGD, FedSVD is FFA-LoRA whose A was made orthonormal once; under AdamW it is not."""

import pytest
import torch

from eigenhub.federated import FederatedCallback
from eigenhub.federated.lora_keys import pair_lora_keys
from tests.common.federated_cases import a_trainer, arguments


ROUNDS = 12


class Products(FederatedCallback):
    """Keeps B A of all layers after every round."""

    def __init__(self):
        self.rounds = []

    def on_aggregate(self, trainer, result):
        pairs = pair_lora_keys(result.state).values()
        self.rounds.append([result.state[pair.B].double() @ result.state[pair.A].double() for pair in pairs])


def products(folder, method, **options):
    recorder = Products()
    settings = {"num_rounds": ROUNDS, "local_steps": 3, "callbacks": [recorder]}
    settings["args"] = arguments(folder, **options.pop("args", {"max_grad_norm": 0.5}))
    a_trainer(folder, method=method, **(settings | options)).train()
    return recorder.rounds


def differences(one, other):
    """Relative difference of the products per round, over all layers."""
    pairs = [
        (torch.cat([p.flatten() for p in a]), torch.cat([p.flatten() for p in b]))
        for a, b in zip(one, other, strict=False)
    ]
    return [((a - b).norm() / b.norm()).item() for a, b in pairs]


def test_sgd_with_clipping_cannot_tell_them_apart(tmp_path):
    found = differences(products(tmp_path / "a", "fedsvd"), products(tmp_path / "b", "ffa_orth"))
    assert len(found) == ROUNDS and max(found) <= 1e-5


def test_momentum_and_decoupled_decay_cannot_either(tmp_path):
    options = {
        "args": {"max_grad_norm": 0.5, "optim_args": "momentum=0.9", "learning_rate": 0.05, "weight_decay": 0.01}
    }
    found = differences(products(tmp_path / "a", "fedsvd", **options), products(tmp_path / "b", "ffa_orth", **options))
    assert max(found) <= 1e-5


def test_kaiming_A_is_another_method(tmp_path):
    found = differences(products(tmp_path / "a", "fedsvd"), products(tmp_path / "b", "ffa"))
    assert found[0] < 1e-6 and found[1] > 0.1  # round 1 is the same


def test_adamw_can(tmp_path):
    options = {"args": {"optim": "adamw_torch", "learning_rate": 3e-3}}
    found = differences(products(tmp_path / "a", "fedsvd", **options), products(tmp_path / "b", "ffa_orth", **options))
    assert found[0] < 1e-6 and min(found[2:]) > 0.01


def test_private_sgd_cannot_when_its_noise_is_turned_along():
    """With noise xi for A and xi Rᵀ for A' = R A, clipped per-sample steps give the same product."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    base, x, y = draw(6, 10), draw(32, 10), draw(32, 6)
    a = torch.linalg.qr(draw(10, 4)).Q.mT
    rotation = torch.linalg.qr(draw(4, 4)).Q
    turned = rotation @ a
    b, turned_b = torch.zeros(6, 4, dtype=torch.float64), torch.zeros(6, 4, dtype=torch.float64)
    for _ in range(5):
        noise = draw(6, 4)
        b = private_step(b, a, base, x, y, noise)
        turned_b = private_step(turned_b, turned, base, x, y, noise @ rotation.mT)
    assert (turned_b @ turned - b @ a).norm() <= 1e-12 * (b @ a).norm()


def private_step(b, a, base, x, y, noise, clip=0.7, rate=0.3, sigma=1.1):
    """One step of DP-SGD on squared errors, per example, by hand."""
    residual = x @ (base + b @ a).mT - y  # [examples, d_out]
    gradients = residual[:, :, None] * (x @ a.mT)[:, None, :]  # [examples, d_out, r]
    scale = (clip / gradients.flatten(1).norm(dim=1)).clamp(max=1.0)
    return b - rate * ((gradients * scale[:, None, None]).sum(0) + sigma * clip * noise) / len(x)


@pytest.mark.parametrize("sgd", [True, False], ids=["sgd", "adamw"])
def test_the_rotation_of_the_released_form_starts_in_round_two(tmp_path, sgd):
    args = {"max_grad_norm": 0.5} if sgd else {"optim": "adamw_torch", "learning_rate": 3e-3}
    straight = products(tmp_path / "a", "fedsvd", init_A="orthonormal", args=dict(args))
    control = products(tmp_path / "b", "ffa_orth", init_A="orthonormal", args=dict(args))
    found = differences(straight, control)
    assert (max(found) <= 1e-5) if sgd else (max(found) > 0.01)
