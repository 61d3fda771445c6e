# SPDX-License-Identifier: Apache-2.0
"""Outputs and gradients: what must not depend on the batch, on the form of the output, or on how memory is saved."""

from typing import Any, ClassVar

import pytest
import torch
from torch.autograd import gradcheck
from torch.func import functional_call

from tests.common.model_case import ModelCase, tensors_of


class Training(ModelCase):
    """Mixin of `ModelTester`.

    Attributes:
        compiles (`bool`, *optional*, defaults to `False`): whether the model promises to compile without a graph break.
        smallest (`dict`): settings for a still smaller model, to be compiled and checked by finite differences.
        without_gradient (`tuple[str, ...]`): last parts of the names of parameters that the loss of [`inputs`] does not reach.
    """

    compiles: ClassVar[bool] = False
    smallest: ClassVar[dict[str, Any]] = {}
    without_gradient: ClassVar[tuple[str, ...]] = ()

    def test_tuple_equals_dict(self) -> None:
        model, inputs = self.model(), self.inputs()
        with torch.no_grad():
            as_dict = model(**inputs, output_hidden_states=True)
            as_tuple = model(**inputs, output_hidden_states=True, return_dict=False)
        assert type(as_tuple) is tuple
        for found, expected in zip(flatten(as_tuple), flatten(as_dict.to_tuple()), strict=True):
            assert torch.equal(found, expected)

    def test_hidden_states(self) -> None:
        model = self.model()
        with torch.no_grad():
            plain = model(**self.questions())
            output = model(**self.questions(), output_hidden_states=True)
        assert plain.hidden_states is None
        assert len(output.hidden_states) == model.config.num_hidden_layers + 1
        assert len({state.shape for state in output.hidden_states}) == 1
        assert all(not torch.equal(a, b) for a, b in zip(output.hidden_states, output.hidden_states[1:], strict=False))
        assert torch.equal(getattr(output, self.output), getattr(plain, self.output))

    def test_a_sample_does_not_depend_on_its_batch(self) -> None:
        model, inputs = self.model(), self.questions(3)
        together = self.answer(model, inputs)
        assert torch.isfinite(together).all()
        for row in range(3):
            alone = self.answer(model, {name: tensor[row : row + 1] for name, tensor in inputs.items()})
            torch.testing.assert_close(alone[0], together[row], rtol=self.tolerance, atol=self.tolerance)

    def test_an_empty_batch_gives_an_empty_answer(self) -> None:
        empty = self.answer(self.model(), {name: tensor[:0] for name, tensor in self.questions().items()})
        assert empty.shape[0] == 0

    def test_gradients_reach_every_trainable_parameter(self) -> None:
        model = self.model().train()
        gradients = self.gradients(model)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        trained = {name for name in trained if name.rpartition(".")[2] not in self.without_gradient}
        assert trained <= gradients.keys()
        assert all(torch.isfinite(gradients[name]).all() for name in trained)
        assert [name for name in trained if gradients[name].abs().max() == 0] == []

    def test_training_lowers_the_loss(self) -> None:
        model, inputs = self.model().train(), self.inputs(4)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        losses = []
        for _ in range(15):
            optimizer.zero_grad()
            loss = self.loss(model, inputs)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]

    def test_gradients_are_those_of_finite_differences(self) -> None:
        model = self.model(**self.smallest).double()
        inputs = {k: v.double() if v.is_floating_point() else v for k, v in self.questions().items()}
        constants = {n: t.detach() for n, t in tensors_of(model).items()}
        names = [name for name, p in model.named_parameters() if p.requires_grad and p.numel()]
        names = [name for name in names if name.rpartition(".")[2] not in self.without_gradient]

        def score(*values: torch.Tensor) -> torch.Tensor:  # a loss may go through float32
            output = functional_call(model, constants | dict(zip(names, values, strict=True)), kwargs=inputs)
            answer = getattr(output, self.output)
            return (answer * torch.linspace(0.5, 1.5, answer.numel()).to(answer).view_as(answer)).square().mean()

        values = [constants[name].clone().requires_grad_() for name in names]
        assert gradcheck(score, values, fast_mode=True)

    @pytest.mark.parametrize("use_reentrant", [True, False])
    def test_gradient_checkpointing(self, use_reentrant: bool) -> None:
        expected = self.gradients(self.model().train())
        model = self.model().train()
        model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        assert model.is_gradient_checkpointing
        found = self.gradients(model)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.equal(found[name], gradient), name

    def test_under_autocast(self) -> None:
        model = self.model().train()
        expected = self.answer(model)
        with torch.autocast("cpu", torch.bfloat16):
            answer = self.answer(model)
            loss = self.loss(model, self.inputs())
        loss.backward()
        assert (answer.float() - expected).abs().max() < 0.1 * expected.abs().max()
        assert all(p.grad.dtype == p.dtype for p in model.parameters() if p.grad is not None)

    def test_compiles_without_graph_breaks(self) -> None:
        if not self.compiles:
            pytest.skip("not promised")
        torch._dynamo.reset()
        model = self.model(**self.smallest)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(self.answer(compiled), self.answer(model), rtol=self.tolerance, atol=self.tolerance)
        expected = self.gradients(model.train())
        found = {name.removeprefix("_orig_mod."): g for name, g in self.gradients(compiled.train()).items()}
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)
        torch._dynamo.reset()


def flatten(nested: Any) -> list[torch.Tensor]:
    """Tensors of nested tuples; what is neither, such as a cache, is passed over."""
    if isinstance(nested, torch.Tensor):
        return [nested]
    return [tensor for item in nested for tensor in flatten(item)] if isinstance(nested, tuple) else []
