# SPDX-License-Identifier: Apache-2.0
"""What every optimizer must do: subclass [`OptimizerTester`], fill in the class variables and add what is special.

    class TestTrionContract(OptimizerTester):
        optimizer_class = Trion
        options = {"lr": 0.02, "rank": 3}
        variants = {"plain": {}, "identity": {"basis": "identity"}}
        reference = TrionReference

A reference is made from a float64 array and the options of its group; it has `step(gradient)` and `value`. Parameters
that the optimizer leaves to AdamW are compared with [`AdamWReference`]. The processes and the Hugging Face side are in
`optimizer_distributed.py` and `optimizer_training.py`.
"""

import copy
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.testing import assert_close


#: Tall, wide and square matrices, a stack of matrices, a vector, a scalar and the weight of a convolution.
SHAPES = ((12, 8), (8, 20), (9, 9), (3, 6, 4), (5,), (), (4, 3, 3, 3))


def make_parameters(
    shapes: Sequence[Sequence[int]] = SHAPES, dtype: torch.dtype = torch.float32
) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(tuple(s), generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def gradients(step: int, shapes: Sequence[Sequence[int]] = SHAPES) -> list[Tensor]:
    """The same in every process and run; different in every step."""
    generator = torch.Generator().manual_seed(1000 + step)
    return [torch.randn(tuple(s), generator=generator, dtype=torch.float64) for s in shapes]


def give_gradients(parameters: Sequence[Tensor], step: int, sign: float = 1.0) -> None:
    for parameter, gradient in zip(parameters, gradients(step, [p.shape for p in parameters]), strict=True):
        parameter.grad = (sign * gradient).to(parameter.dtype)


def run_steps(optimizer: Optimizer, parameters: Sequence[Tensor], steps: range, sign: float = 1.0) -> None:
    for step in steps:
        give_gradients(parameters, step, sign)
        optimizer.step()


def tensors_of(optimizer: Optimizer) -> list[Tensor]:
    """All state tensors in a fixed order."""
    states = [optimizer.state[p] for group in optimizer.param_groups for p in group["params"]]
    return [state[key] for state in states for key in sorted(state)]


def assert_equal_states(first: Optimizer, second: Optimizer) -> None:
    pairs = list(zip(tensors_of(first), tensors_of(second), strict=True))
    assert pairs and all(a.dtype == b.dtype and a.equal(b) for a, b in pairs)


class OptimizerTester:
    """Contract of an optimizer on plain tensors."""

    optimizer_class: ClassVar[type[Optimizer]]
    options: ClassVar[Mapping[str, Any]]
    #: Sets of options by name, each run through the tests that depend on them.
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"plain": {}}
    reference: ClassVar[Callable[[np.ndarray, dict[str, Any]], Any]]
    adamw_reference: ClassVar[Callable[[np.ndarray, dict[str, Any]], Any]]
    #: Largest difference from the float64 reference, for variants whose state is coarser than float64.
    tolerances: ClassVar[Mapping[str, float]] = {}

    # pytest calls this for every test of a subclass
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "variant" in metafunc.fixturenames:
            metafunc.parametrize("variant", sorted(self.variants))

    def build(self, parameters: Any, **overrides: Any) -> Any:
        return self.optimizer_class(parameters, **{**self.options, **overrides})

    def own_rule(self, shape: Sequence[int]) -> bool:
        """Whether a parameter of this shape gets the optimizer's own rule; the others get AdamW."""
        return len(shape) in (2, 3)

    def make_references(self, parameter: Tensor, group: dict[str, Any]) -> list[Any]:
        """References of one parameter: one per matrix of a stack."""
        value = parameter.detach().numpy().copy()
        if not self.own_rule(value.shape):
            return [self.adamw_reference(value, group)]
        return [self.reference(part, group) for part in (value if value.ndim == 3 else [value])]

    # values

    def test_float64_steps_equal_the_reference(self, variant: str) -> None:
        parameters = make_parameters(dtype=torch.float64)
        optimizer = self.build(parameters, **self.variants[variant])
        references = [self.make_references(p, optimizer.param_groups[0]) for p in parameters]
        for step in range(6):
            give_gradients(parameters, step)
            optimizer.step()
            for parameter, own in zip(parameters, references, strict=True):
                grads = parameter.grad.numpy()
                for reference, gradient in zip(own, grads if len(own) > 1 else [grads], strict=True):
                    reference.step(gradient)
                expected = np.stack([r.value for r in own]) if len(own) > 1 else own[0].value
                assert np.abs(parameter.detach().numpy() - expected).max() < self.tolerances.get(variant, 1e-12)

    def test_single_precision_follows_double(self, variant: str) -> None:
        runs = []
        for dtype in (torch.float32, torch.float64):
            parameters = make_parameters(dtype=dtype)
            run_steps(self.build(parameters, **self.variants[variant]), parameters, range(4))
            runs.append([p.detach().double() for p in parameters])
        for single, double in zip(*runs, strict=True):
            assert_close(single, double, atol=2e-4, rtol=1e-3)

    @pytest.mark.parametrize("foreach", [True, False])
    def test_foreach_equals_single(self, variant: str, foreach: bool) -> None:
        shapes = [*SHAPES, SHAPES[0], SHAPES[1], SHAPES[3]]  # some equal ones, which are stacked
        expected, actual = make_parameters(shapes), make_parameters(shapes)
        run_steps(self.build(expected, **self.variants[variant]), expected, range(4))
        run_steps(self.build(actual, **self.variants[variant], foreach=foreach), actual, range(4))
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b, atol=1e-5, rtol=1e-5)

    def test_a_small_budget_changes_nothing_but_rounding(self, variant: str) -> None:
        expected, actual = make_parameters(), make_parameters()
        run_steps(self.build(expected, **self.variants[variant]), expected, range(4))
        run_steps(self.build(actual, **self.variants[variant], memory_budget=200), actual, range(4))
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b, atol=1e-5, rtol=1e-5)

    def test_maximize_climbs_what_minimize_descends(self, variant: str) -> None:
        down, up = make_parameters(), make_parameters()
        run_steps(self.build(down, **self.variants[variant]), down, range(3))
        run_steps(self.build(up, **self.variants[variant], maximize=True), up, range(3), sign=-1.0)
        assert all(a.equal(b) for a, b in zip(up, down, strict=True))

    # what a step may and may not touch

    def test_gradients_are_only_read(self, variant: str) -> None:
        parameters = make_parameters()
        optimizer = self.build(parameters, **self.variants[variant])
        for step in range(3):
            give_gradients(parameters, step)
            before = [p.grad.clone() for p in parameters]
            optimizer.step()
            assert all(p.grad.equal(b) for p, b in zip(parameters, before, strict=True))

    def test_parameters_without_gradient_stay_and_may_come_late(self, variant: str) -> None:
        parameters = make_parameters()
        optimizer = self.build(parameters, **{**self.variants[variant], "weight_decay": 0.1})
        before = [p.detach().clone() for p in parameters]
        give_gradients(parameters, 0)
        for parameter in parameters[1:]:
            parameter.grad = None
        optimizer.step()
        assert not parameters[0].equal(before[0])
        assert all(p.equal(b) for p, b in zip(parameters[1:], before[1:], strict=True))
        assert not any(p in optimizer.state and optimizer.state[p] for p in parameters[1:])
        run_steps(optimizer, parameters, range(1, 3))
        assert not any(p.equal(b) for p, b in zip(parameters, before, strict=True))

    def test_odd_memory_layouts_train_alike(self, variant: str) -> None:
        plain, odd = make_parameters(), make_parameters()
        odd[0].data = odd[0].data.mT.contiguous().mT
        odd[1].data = torch.zeros(8, 40)[:, ::2].copy_(odd[1].data)
        odd[6].data = odd[6].data.to(memory_format=torch.channels_last)
        run_steps(self.build(plain, **self.variants[variant]), plain, range(3))
        run_steps(self.build(odd, **self.variants[variant]), odd, range(3))
        for a, b in zip(odd, plain, strict=True):
            assert_close(a, b, atol=1e-6, rtol=1e-5)

    def test_a_closure_is_called_and_its_loss_returned(self) -> None:
        parameter = nn.Parameter(torch.randn(6, 4))
        optimizer = self.build([parameter])

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = parameter.square().sum()
            loss.backward()
            return loss

        expected = parameter.detach().square().sum()
        assert optimizer.step(closure).item() == pytest.approx(expected.item())
        assert optimizer.step() is None

    def test_zero_gradients_create_all_state_and_move_nothing(self, variant: str) -> None:
        """A distributed checkpoint makes its state by such a step, with a step size of 0."""
        parameters = make_parameters()
        optimizer = self.build(parameters, **{**self.variants[variant], "weight_decay": 0.0})
        usual = self.build(make_parameters(), **self.variants[variant])
        run_steps(usual, usual.param_groups[0]["params"], range(1))
        before = [p.detach().clone() for p in parameters]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        assert all(p.equal(b) for p, b in zip(parameters, before, strict=True))
        assert all(t.isfinite().all() for t in tensors_of(optimizer))
        states = [optimizer.state[p].keys() for p in parameters]
        assert states == [usual.state[p].keys() for p in usual.param_groups[0]["params"]]

    # groups, schedules, refusals

    def test_options_of_a_group_and_schedules_work(self) -> None:
        together, apart = make_parameters(SHAPES[:2]), make_parameters(SHAPES[:2])
        first, second = self.options["lr"], self.options["lr"] / 10
        joint = self.build([{"params": together[:1]}, {"params": together[1:], "lr": second, "weight_decay": 0.3}])
        single = [self.build(apart[:1], lr=first), self.build(apart[1:], lr=second, weight_decay=0.3)]
        schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 4) for o in (joint, *single)]
        for step in range(4):
            run_steps(joint, together, range(step, step + 1))
            give_gradients(apart, step)
            for optimizer in single:
                optimizer.step()
            for schedule in schedules:
                schedule.step()
        assert all(a.equal(b) for a, b in zip(together, apart, strict=True))
        assert joint.param_groups[0]["lr"] == pytest.approx(first / 10)

    def test_adamw_groups_are_those_of_torch(self) -> None:
        ours, theirs = make_parameters(), make_parameters()
        group = {"params": ours, "algorithm": "adamw", "weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-6}
        run_steps(self.build([group]), ours, range(5))
        run_steps(torch.optim.AdamW(theirs, self.options["lr"], (0.8, 0.9), 1e-6, 0.1), theirs, range(5))
        for a, b in zip(ours, theirs, strict=True):
            assert_close(a, b, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("lr", -1.0), ("weight_decay", -0.1), ("eps", -1.0), ("betas", (1.0, 0.9)), ("algorithm", "sgd"),
         ("state_dtype", "int8"), ("foreach", "yes"), ("memory_budget", 0)],
    )  # fmt: skip
    def test_bad_options_are_named(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"`{name}` must"):
            self.build(make_parameters(), **{name: value})
        optimizer = self.build(make_parameters())
        with pytest.raises(ValueError, match=f"`{name}` must"):
            optimizer.add_param_group({"params": make_parameters([(2, 2)]), name: value})
        assert len(optimizer.param_groups) == 1

    def test_sparse_and_complex_are_refused(self) -> None:
        parameter = nn.Parameter(torch.randn(4, 3))
        parameter.grad = torch.randn(4, 3).to_sparse()
        with pytest.raises(TypeError, match="sparse"):
            self.build([parameter]).step()
        parameter = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))
        parameter.grad = torch.zeros_like(parameter)
        with pytest.raises(TypeError, match="complex"):
            self.build([parameter]).step()

    def test_flattened_matrices_are_refused(self) -> None:
        parameters = make_parameters(SHAPES[:2])
        optimizer = self.build(parameters)
        optimizer.param_groups[0]["params"] = [nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))]
        with pytest.raises(RuntimeError, match="flattened to vectors"):
            optimizer.step()
        vector = nn.Parameter(torch.randn(8))
        vector._fsdp_flattened = True
        with pytest.raises(RuntimeError, match="FSDP2"):
            self.build([vector]).step()

    # state

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_a_reloaded_state_continues_to_the_bit(self, variant: str, dtype: torch.dtype) -> None:
        """Widths above 256 catch indices that have passed through bfloat16."""
        shapes = [(300, 310), (5, 7), (5,), (2, 6, 4)]
        parameters = make_parameters(shapes, dtype)
        optimizer = self.build(parameters, **self.variants[variant])
        run_steps(optimizer, parameters, range(3))
        buffer = io.BytesIO()
        torch.save({"optimizer": optimizer.state_dict(), "parameters": [p.detach() for p in parameters]}, buffer)
        run_steps(optimizer, parameters, range(3, 6))

        buffer.seek(0)
        saved = torch.load(buffer, weights_only=True)
        fresh = [nn.Parameter(p) for p in saved["parameters"]]
        resumed = self.build(fresh, **self.variants[variant])
        resumed.load_state_dict(saved["optimizer"])
        run_steps(resumed, fresh, range(3, 6))
        assert all(a.equal(b) for a, b in zip(fresh, parameters, strict=True))
        assert_equal_states(resumed, optimizer)

    def test_loading_copies(self) -> None:
        """As accelerate does it on the spot; the loaded optimizer must not write into the state it was given."""
        parameters = make_parameters()
        optimizer = self.build(parameters)
        run_steps(optimizer, parameters, range(2))
        saved = optimizer.state_dict()
        kept = copy.deepcopy(saved)
        optimizer.load_state_dict(saved)
        run_steps(optimizer, parameters, range(2, 4))
        for i, state in kept["state"].items():
            assert all(torch.equal(saved["state"][i][key], value) for key, value in state.items() if key != "step")

    def test_half_parameters_may_keep_single_precision_state(self, variant: str) -> None:
        parameters = make_parameters(dtype=torch.bfloat16)
        optimizer = self.build(parameters, **self.variants[variant], state_dtype=torch.float32)
        run_steps(optimizer, parameters, range(2))
        for key in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            assert all(s[key].dtype == torch.float32 for s in optimizer.state.values() if key in s)
        assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in parameters)

    def test_float16_with_zero_gradients_stays_finite(self, variant: str) -> None:
        parameters = make_parameters(dtype=torch.float16)
        optimizer = self.build(parameters, **self.variants[variant])
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        for _ in range(2):
            optimizer.step()
        assert all(p.isfinite().all() for p in parameters)

    @pytest.mark.parametrize("through", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
    def test_copies_and_pickles_go_on(self, variant: str, through: Callable[[Optimizer], Optimizer]) -> None:
        parameters = make_parameters()
        optimizer = self.build(parameters, **self.variants[variant])
        run_steps(optimizer, parameters, range(2))
        twin = through(optimizer)
        others = [p for group in twin.param_groups for p in group["params"]]
        run_steps(optimizer, parameters, range(2, 4))
        run_steps(twin, others, range(2, 4))
        assert all(a.equal(b) for a, b in zip(others, parameters, strict=True))

    def test_a_skipped_scaler_step_leaves_everything(self, variant: str) -> None:
        parameters = make_parameters()
        optimizer = self.build(parameters, **self.variants[variant])
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for step in range(2):
            give_gradients(parameters, step, sign=8.0)
            scaler.scale(torch.zeros(()))
            scaler.step(optimizer)
            scaler.update(8.0)
        plain = make_parameters()
        run_steps(self.build(plain, **self.variants[variant]), plain, range(2))
        assert all(a.equal(b) for a, b in zip(parameters, plain, strict=True))
        before = [t.clone() for t in tensors_of(optimizer)]
        give_gradients(parameters, 2, sign=8.0)
        parameters[0].grad[0, 0] = torch.inf
        scaler.step(optimizer)
        assert all(a.equal(b) for a, b in zip(tensors_of(optimizer), before, strict=True))
        assert all(a.equal(b) for a, b in zip(parameters, plain, strict=True))

    def test_statistics_are_collected_on_demand_and_change_nothing(self, variant: str) -> None:
        plain, watched = make_parameters(), make_parameters()
        first, second = (self.build(p, **self.variants[variant]) for p in (plain, watched))
        second.collect_statistics = True
        run_steps(first, plain, range(3))
        run_steps(second, watched, range(3))
        assert all(a.equal(b) for a, b in zip(watched, plain, strict=True))
        assert first.statistics() == {}
        rows = second.statistics()
        own = {p for p in watched if self.own_rule(p.shape)}
        assert own <= set(rows) and not any(p.ndim >= 2 and p not in own for p in rows)
        assert all(np.isfinite(list(row.values())).all() and row["update_rms"] > 0 for row in rows.values())
