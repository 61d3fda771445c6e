# SPDX-License-Identifier: Apache-2.0
"""What every metric must do: subclass [`MetricTester`], fill in the class variables and add what is special.

    class TestEffectiveRankContract(MetricTester):
        metric = staticmethod(effective_rank)
        variants = {"entropy": {}, "stable": {"kind": "stable"}}
        closed_forms = {"ones": ("entropy", (torch.ones(4),), 4.0)}
        bad_inputs = {"negative": ("entropy", (-torch.ones(4),), {}, "`eigenvalues` must not be negative")}

        def inputs(self, generator, batch): return (torch.rand(*batch, 7, generator=generator, dtype=torch.float64),)
        def reference(self, item, **options): ...

A metric is a function of one or more tensors, with or without batch dimensions in front, to one number per item.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close


Inputs = tuple[Tensor, ...]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class MetricTester:
    """Contract of a metric. Options that draw random numbers belong in no variant: seeds make no values equal."""

    metric: ClassVar[Callable[..., Any]]
    #: Sets of options by name.
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"plain": {}}
    #: By name: variant, inputs, value.
    closed_forms: ClassVar[Mapping[str, tuple[str, Inputs, float]]]
    #: By name: variants that it holds for, and a change of the inputs that changes no value.
    invariances: ClassVar[Mapping[str, tuple[tuple[str, ...], Callable[..., Inputs]]]] = {}
    #: By name: variant, inputs, more options, what the message says.
    bad_inputs: ClassVar[Mapping[str, tuple[str, Inputs, Mapping[str, Any], str]]]
    tolerance: ClassVar[float] = 1e-9
    #: Batch dimensions in front are allowed.
    batched: ClassVar[bool] = True
    #: The option `mask` leaves out rows of the first input; padding of the test is NaN.
    masked: ClassVar[bool] = False
    #: Class with `add_batch(**{key: tensor})` and `compute()`, and the names of its inputs and results.
    accumulator: ClassVar[type | None] = None
    accumulator_inputs: ClassVar[tuple[str, ...]] = ()
    accumulator_result: ClassVar[str] = ""

    def inputs(self, generator: torch.Generator, batch: tuple[int, ...]) -> Inputs:
        raise NotImplementedError

    def reference(self, item: tuple[np.ndarray, ...], **options: Any) -> float:
        """The value of one item in float64, by another way than the metric's."""
        raise NotImplementedError

    # pytest calls this for every test of a subclass
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name in ("variant", "closed_form", "invariance", "bad_input"):
            if name in metafunc.fixturenames:
                metafunc.parametrize(
                    name, sorted(getattr(self, f"{name}s" if name != "invariance" else "invariances"))
                )

    def value(self, inputs: Inputs, variant: str, **options: Any) -> Tensor:
        found = type(self).metric(*inputs, **{**self.variants[variant], **options})
        return found if isinstance(found, Tensor) else torch.tensor(found, dtype=torch.float64)

    def batches(self) -> tuple[tuple[int, ...], ...]:
        return ((), (1,), (5,), (2, 3)) if self.batched else ((),)

    # values

    def test_it_equals_the_reference(self, variant: str) -> None:
        for seed in range(3):
            inputs = self.inputs(seeded(seed), ())
            expected = self.reference(tuple(t.numpy() for t in inputs), **self.variants[variant])
            assert self.value(inputs, variant).item() == pytest.approx(
                expected, rel=self.tolerance, abs=self.tolerance
            )

    def test_closed_forms(self, closed_form: str) -> None:
        variant, inputs, expected = self.closed_forms[closed_form]
        found = self.value(inputs, variant).item()
        assert found == pytest.approx(expected, rel=self.tolerance, abs=self.tolerance)

    def test_batched_equals_looped(self, variant: str) -> None:
        for batch in self.batches():
            inputs = self.inputs(seeded(), batch)
            found = self.value(inputs, variant)
            assert found.shape == batch
            for place in np.ndindex(*batch):
                assert_close(found[place], self.value(tuple(t[place] for t in inputs), variant), rtol=1e-9, atol=1e-9)

    def test_an_empty_batch_has_no_values(self, variant: str) -> None:
        if not self.batched:
            pytest.skip("takes no batches")
        assert self.value(tuple(t[:0] for t in self.inputs(seeded(), (2,))), variant).shape == (0,)

    def test_invariances(self, invariance: str) -> None:
        variants, change = self.invariances[invariance]
        assert variants
        for variant in variants:
            for batch in self.batches():
                inputs = self.inputs(seeded(1), batch)
                changed = change(*inputs)
                assert any(not torch.equal(a, b) for a, b in zip(inputs, changed, strict=True))
                assert_close(self.value(changed, variant), self.value(inputs, variant), rtol=1e-8, atol=1e-8)

    # what a metric may not do

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_low_precision_costs_only_the_rounding_of_the_input(self, variant: str, dtype: torch.dtype) -> None:
        inputs = tuple(t.to(dtype) if t.is_floating_point() else t for t in self.inputs(seeded(), ()))
        exact = tuple(t.double() if t.is_floating_point() else t for t in inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = self.value(inputs, variant)
        assert found.dtype == torch.float64
        assert_close(found, self.value(exact, variant), rtol=1e-6, atol=1e-6)

    def test_inputs_and_random_state_are_left_alone(self, variant: str) -> None:
        inputs = self.inputs(seeded(), ())
        copies = [t.clone() for t in inputs]
        state = torch.random.get_rng_state()
        self.value(inputs, variant)
        assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_layout_does_not_matter(self, variant: str) -> None:
        inputs = self.inputs(seeded(), ())
        strided = tuple(torch.stack([t, t], dim=-1)[..., 0] for t in inputs)
        assert_close(self.value(strided, variant), self.value(inputs, variant), rtol=1e-9, atol=1e-9)

    def test_masked_rows_have_no_influence(self, variant: str) -> None:
        if not self.masked:
            pytest.skip("takes no mask")
        first, *rest = self.inputs(seeded(), (3,))
        keep = torch.ones(first.shape[:2], dtype=torch.bool)
        keep[0, 0] = keep[1, -2:] = False
        filled = torch.where(keep[..., None], first, float("nan"))
        found = self.value((filled, *rest), variant, mask=keep)
        for number in range(3):
            alone = (first[number][keep[number]], *(t[number] for t in rest))
            assert_close(found[number], self.value(alone, variant), rtol=1e-9, atol=1e-9)

    # refusals

    def test_bad_input_is_named(self, bad_input: str) -> None:
        variant, inputs, options, message = self.bad_inputs[bad_input]
        with pytest.raises(ValueError, match=message):
            self.value(inputs, variant, **options)

    # collecting over a data set

    def test_collected_batches_equal_one(self, variant: str) -> None:
        if self.accumulator is None:
            pytest.skip("has no collecting form")
        inputs = self.inputs(seeded(), (7,))
        metric = self.accumulator(**self.variants[variant])
        with pytest.raises(ValueError, match="nothing was added"):
            metric.compute()
        for rows in (slice(0, 3), slice(3, 4), slice(4, 7)):
            metric.add_batch(**{n: t[rows] for n, t in zip(self.accumulator_inputs, inputs, strict=True)})
        result = metric.compute()
        values = self.value(inputs, variant)
        assert result[self.accumulator_result] == pytest.approx(values.mean().item(), rel=1e-9)
        with pytest.raises(ValueError, match="nothing was added"):
            metric.compute()
        metric.add(**{n: t[0] for n, t in zip(self.accumulator_inputs, inputs, strict=True)})
        assert metric.compute()[self.accumulator_result] == pytest.approx(values[0].item(), rel=1e-9)
