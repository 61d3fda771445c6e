# SPDX-License-Identifier: Apache-2.0
"""Which engine was asked for, which blocks FSDP2 gets, and that no engine is passed over in silence."""

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from eigenhub.training.engines import EngineAccelerator, block_names, without_missing_embeddings
from eigenhub.training.launcher import asked_engine, flattening_engine
from tests.support.distributed import run_function


@pytest.mark.parametrize(
    ("given", "asked", "flattens"),
    [
        ({}, None, None),
        ({"ACCELERATE_USE_FSDP": "false"}, None, None),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP", "FSDP"),
        ({"ACCELERATE_USE_FSDP": "True", "FSDP_VERSION": "2"}, "FSDP", None),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "FSDP_VERSION": "2"}, "DEEPSPEED", "DEEPSPEED"),
    ],
)
def test_what_the_launcher_asked_for(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], asked: str | None, flattens: str | None
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert (asked_engine(), flattening_engine()) == (asked, flattens)


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Linear(2, 2)


class Layer(nn.Linear):
    pass


class Vision(nn.Module):
    _no_split_modules = ("Embeddings", "Layer", "Absent")

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.layers = Embeddings(), nn.Sequential(Layer(2, 2), Layer(2, 2))

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patches


def test_a_block_around_the_input_embedding_is_none() -> None:
    assert block_names(Vision()) == ["Layer"]
    assert block_names(nn.Linear(2, 2)) == []


class Without(nn.Linear):
    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError("not auto-handled")


def test_a_model_without_an_embedding_says_so_for_a_while() -> None:
    model, vision = Without(2, 2), Vision()
    with without_missing_embeddings([model, vision, nn.Linear(2, 2)]):
        assert model.get_input_embeddings() is None and block_names(model) == []
        assert vision.get_input_embeddings() is vision.embeddings.patches
    with pytest.raises(NotImplementedError):
        model.get_input_embeddings()


def test_an_engine_that_accelerate_passes_over_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [(state, dict(state._shared_state)) for state in (AcceleratorState, PartialState, GradientState)]
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    try:
        with pytest.raises(ValueError, match="the launcher asked for FSDP, which accelerate passes over .* for NO"):
            EngineAccelerator(cpu=True)
    finally:
        for state, before in states:
            state._shared_state.clear()
            state._shared_state.update(before)


def statistics_of_this_process() -> list[float]:
    from accelerate import Accelerator

    from eigenhub.training.setup import average_statistics

    accelerator = Accelerator()
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(float(accelerator.process_index))
    norm.weight.data.fill_(float(accelerator.process_index))
    average_statistics(accelerator, norm)
    return [norm.running_mean.item(), norm.running_var.item(), norm.weight.item()]


@pytest.mark.slow
def test_statistics_become_the_mean_of_the_processes() -> None:
    assert run_function(statistics_of_this_process, nproc=2) == [[0.5, 1.0, 0.0], [0.5, 1.0, 1.0]]


def test_statistics_of_one_process_stay() -> None:
    assert statistics_of_this_process() == [0.0, 1.0, 0.0]
