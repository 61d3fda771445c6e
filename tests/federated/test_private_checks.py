# SPDX-License-Identifier: Apache-2.0
"""What private training refuses, and that it leaves a model as it was, also when it breaks off."""

import sys

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.private_engine import strip
from eigenhub.federated.private_training import train_privately
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
from tests.support.devices import require_bitsandbytes
from tests.support.distributed import run_function
from tests.support.models import tiny_gpt2


pytest.importorskip("opacus")

MODES = ("hooks", "ghost")


class Net(nn.Module):
    """Rows of four numbers through given layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


def squares(outputs, _):
    return outputs.square().flatten(1).sum(1)


def run_net(*layers, **settings):
    data = [{"x": [float(row), 1.0, -1.0, 2.0]} for row in range(EXAMPLES)]
    model = layers[0] if len(layers) == 1 and isinstance(layers[0], Net) else Net(*layers)
    return run_privately(model, data, **({"compute_loss": squares} | settings))


def frozen(module):
    return module.requires_grad_(False)


def left_behind(model):
    """Names of everything on modules and parameters that a fresh model does not have."""
    known = set(nn.Linear(1, 1).__dict__)
    hooks = [name for name, module in model.named_modules() if module._forward_hooks or module._backward_hooks]
    modules = [
        name
        for _, module in model.named_modules()
        for name in ("activations", "max_batch_len", "autograd_grad_sample_hooks")
        if name in module.__dict__ and name not in known
    ]
    parameters = [
        name for parameter in model.parameters() for name in parameter.__dict__ if name != "_is_hf_initialized"
    ]
    gradients = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    return hooks + modules + parameters + gradients


@pytest.mark.parametrize("mode", MODES)
def test_a_model_comes_back_as_it_was(mode):
    model = lora_model()
    model.eval().base_model.model.bert.encoder.train()
    names, modes = list(model.state_dict()), [module.training for module in model.modules()]
    requires = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    identities = {name: id(parameter) for name, parameter in model.named_parameters()}
    for _ in range(2):  # a second round finds no hooks of the first
        run_privately(model, grad_sample_mode=mode, num_steps=2, noise_multiplier=0.1)
    assert list(model.state_dict()) == names and not any("_module" in name for name in names)
    assert [module.training for module in model.modules()] == modes
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == requires
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == identities
    assert left_behind(model) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", ["loss", "step", "collate"])
def test_a_run_that_breaks_off_leaves_nothing_behind(mode, at):
    model = lora_model().eval()

    class Interrupted(Exception):
        pass

    def fail(*_):
        raise Interrupted

    class Failing(torch.optim.SGD):
        step = fail

    places = {"loss": {"compute_loss": fail}, "collate": {"data_collator": fail}}
    places["step"] = {"optimizer_factory": lambda parameters: Failing(parameters, lr=1.0)}
    with pytest.raises(Interrupted):
        run_privately(model, grad_sample_mode=mode, **places[at])
    assert left_behind(model) == [] and not model.training
    run_privately(model, grad_sample_mode=mode)


def test_activations_of_a_broken_forward_pass_are_removed():
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("broken")

    model = Net(nn.Linear(4, 4), Broken())
    with pytest.raises(KeyError, match="broken"):
        run_net(model)
    assert left_behind(model) == []
    strip(model)  # harmless where there is nothing


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda: [nn.Linear(4, 4), frozen(nn.BatchNorm1d(4))], "`model` has BatchNorm1d in layers.1: it mixes the examples"),
        (lambda: [nn.Linear(4, 4), nn.InstanceNorm1d(4, track_running_stats=True)], "`model` has InstanceNorm1d in layers.1"),
        (lambda: [frozen(nn.Linear(4, 4))], "`model` has no trainable parameter"),
        (lambda: [nn.Linear(4, 4).bfloat16()], "must be float32 or float64, layers.0.weight is torch.bfloat16"),
        (lambda: [nn.Linear(4, 4, device="meta")], "`device` is cpu, but layers.0.weight is on meta"),
        (lambda: [nn.Linear(4, 4), nn.PReLU()], "layers.1.weight cannot be trained privately: .* not known for PReLU"),
    ],
)  # fmt: skip
def test_layers_that_break_the_guarantee_are_refused(layers, message):
    model = Net(*layers())
    with pytest.raises(ValueError, match=message):
        run_net(model)
    assert left_behind(model) == []


def test_shared_weights_are_refused():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    with pytest.raises(ValueError, match="layers.1.weight and layers.0.weight are one shared parameter"):
        run_net(first, second)


def test_a_layer_used_twice_is_right_by_hooks_and_refused_by_ghost():
    layer = nn.Linear(4, 4)
    torch.nn.init.eye_(layer.weight)
    model = Net(layer, nn.Tanh(), layer)
    rows = torch.tensor([[float(row), 1.0, -1.0, 2.0] for row in range(EXAMPLES)])
    gradients = [torch.autograd.grad(squares(model(row[None]), None).sum(), list(model.parameters())) for row in rows]
    expected = clipped_mean({str(i): torch.stack(g) for i, g in enumerate(zip(*gradients, strict=True))}, 0.5)
    with pytest.raises(ValueError, match="applies a trainable layer more than once.*`grad_sample_mode='hooks'`"):
        run_net(model, grad_sample_mode="ghost")
    assert left_behind(model) == []
    before = trainable(model)
    run_net(model, max_grad_norm=0.5)
    for (name, now), mean in zip(trainable(model).items(), expected.values(), strict=True):
        torch.testing.assert_close((before[name] - now).double(), mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_are_not_examples_are_refused(mode):
    """Layers that see tokens in one row each would be clipped token by token, and an example could weigh many times C."""

    class Flatten(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 2)

    class Restore(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 4)

    with pytest.raises(ValueError, match="the layer of layers.1.weight sees 24 rows in a batch of 12 examples"):
        run_net(Flatten(), nn.Linear(2, 2), Restore(), grad_sample_mode=mode)
    with pytest.raises(ValueError, match="the layer of layers.2.weight sees 24 rows in a batch of 12 examples"):
        run_net(nn.Linear(4, 4), Flatten(), nn.Linear(2, 2), Restore(), grad_sample_mode=mode)
    one = [{"x": [1.0, 2.0, 3.0, 4.0]}]  # a single example must not slip through by broadcasting
    with pytest.raises(ValueError, match="sees 2 rows in a batch of 1 examples"):
        run_privately(Net(Flatten(), nn.Linear(2, 2), Restore()), one, compute_loss=squares, grad_sample_mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_without_gradient_is_named(mode):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(4, 4)

        def forward(self, x):
            return x

    with pytest.raises(ValueError, match="layers.1.unused.weight got no gradient: is its adapter merged"):
        run_net(nn.Linear(4, 4), Idle(), grad_sample_mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_norms_of_the_batch_before_do_not_stand_in(mode):
    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.used = nn.Linear(4, 4), False

        def forward(self, x):
            first, self.used = not self.used, True
            return self.layer(x) if first else x

    with pytest.raises(ValueError, match="layers.1.layer.weight got no gradient"):
        run_net(nn.Linear(4, 4), Once(), grad_sample_mode=mode, num_steps=2, noise_multiplier=0.1, max_grad_norm=1.0)


def test_a_merged_adapter_is_refused():
    model = lora_model()
    model.merge_adapter()
    with pytest.raises(
        ValueError, match="do not depend on any trainable parameter: is the adapter merged or disabled"
    ):
        run_privately(model)
    assert left_behind(model) == []


def test_embedding_and_dora_adapters_are_refused():
    embedding = lora_model(tiny_gpt2(), target_modules=["wte"])
    for name, parameter in embedding.named_parameters():
        parameter.requires_grad_("lora_embedding_B" in name)
    with pytest.raises(ValueError, match="lora_embedding_B.default cannot be trained privately: .* for ParameterDict"):
        run_privately(embedding)
    dora = lora_model(use_dora=True)
    for name, parameter in dora.named_parameters():
        parameter.requires_grad_("lora_" in name)
    with pytest.raises(ValueError, match="lora_magnitude_vector.* cannot be trained privately"):
        run_privately(dora)


def test_gradient_checkpointing_and_compilation_are_refused():
    model = lora_model()
    model.get_base_model().activation_checkpointing_enable()
    with pytest.raises(ValueError, match="gradient checkpointing must be off, but is on in .*physical_batch_size"):
        run_privately(model)
    with pytest.raises(ValueError, match="`model` must not be compiled, but it is"):
        run_privately(torch.compile(lora_model()))
    inside = lora_model()
    inside.base_model.model.classifier.compile()
    with pytest.raises(ValueError, match="`model` must not be compiled, but base_model.model.classifier is"):
        run_privately(inside)


def test_wrapped_models_are_refused():
    with pytest.raises(ValueError, match="`model` must be the model itself, got it inside DataParallel"):
        run_privately(nn.DataParallel(lora_model()), compute_loss=squares)
    model = lora_model()
    engine = pytest.importorskip("opacus").PrivacyEngine()
    optimizer = sgd([p for p in model.parameters() if p.requires_grad])
    loader = torch.utils.data.DataLoader(token_data(), batch_size=4, collate_fn=collate)
    engine.make_private(module=model.train(), optimizer=optimizer, data_loader=loader, noise_multiplier=1.0,
                        max_grad_norm=1.0, poisson_sampling=False, wrap_model=False)  # fmt: skip
    with pytest.raises(ValueError, match="`model` carries hooks of another private run"):
        run_privately(model)


def in_two_processes():
    with pytest.raises(ValueError, match="private training runs in one process, found 2"):
        run_privately(lora_model())
    return True


@pytest.mark.slow
def test_several_processes_are_refused():
    assert run_function(in_two_processes, nproc=2) == [True, True]


def test_the_number_of_processes_is_looked_at(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    with pytest.raises(ValueError, match="private training runs in one process, found 2"):
        run_privately(lora_model())


def test_the_optimizer_must_hold_what_is_trained():
    for factory in (
        lambda parameters: sgd(parameters[1:]),
        lambda parameters: sgd([*parameters, nn.Parameter(torch.zeros(1))]),
    ):
        with pytest.raises(ValueError, match="`optimizer_factory` must put all 4 trainable parameters and no others"):
            run_privately(lora_model(), optimizer_factory=factory)


def test_a_first_step_that_changes_nothing_is_an_error():
    class Forgetful(torch.optim.SGD):
        def step(self, closure=None):
            return None

    with pytest.raises(RuntimeError, match="the first private step changed no parameter"):
        run_privately(lora_model(), optimizer_factory=lambda parameters: Forgetful(parameters, lr=1.0))
    # two good reasons not to move
    run_privately(lora_model(), optimizer_factory=lambda parameters: torch.optim.SGD(parameters, lr=0.0))
    run_net(nn.Linear(4, 4), compute_loss=lambda outputs, _: 0 * outputs.sum(1))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(token_data())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": Stream()}, "`dataset` must have a length and items for Poisson sampling, got Stream"),
        ({"dataset": []}, r"`len\(dataset\)` must be an integer of at least 1, got 0"),
        ({"num_steps": 0}, "`num_steps` must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, got 0"),
        ({"noise_multiplier": -1.0}, "`noise_multiplier` must be a number of at least 0, got -1.0"),
        ({"noise_multiplier": float("nan")}, "`noise_multiplier` must be a number of at least 0, got nan"),
        ({"data_collator": list}, "`data_collator` must return a mapping of the model's arguments, got list"),
        ({"compute_loss": lambda outputs, _: outputs.logits.sum()}, r"one loss per example, shape \(12,\); got \(\)"),
    ],
)
def test_bad_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        run_privately(lora_model(), **settings)


@require_bitsandbytes
@pytest.mark.parametrize("mode", MODES)
def test_a_quantised_base(tmp_path, mode):
    from tests.common.tuner_quantized import quantized_llama

    data = [{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}, {"input_ids": [9, 8, 7, 6], "labels": [9, 8, 7, 6]}]
    model = lora_model(quantized_llama(tmp_path / "dense", "nf4"), target_modules=["q_proj", "v_proj"])
    expected = clipped_mean(example_gradients(model, data), 0.05)
    before = trainable(model)
    run_privately(model, data, max_grad_norm=0.05, batch_size=2, grad_sample_mode=mode)
    for name, now in trainable(model).items():
        torch.testing.assert_close((before[name] - now).double(), expected[name], rtol=1e-3, atol=1e-6)


def test_without_the_extra_the_command_is_told(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "opacus"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=r"Private training needs opacus: install it by `pip install 'eigenhub\[dp\]'`"
    ):
        train_privately(lora_model(), token_data(), collate, sgd, dp=DPConfig(6.0, 1e-5), noise_multiplier=1.0,
                        num_steps=1, batch_size=2, device="cpu")  # fmt: skip
