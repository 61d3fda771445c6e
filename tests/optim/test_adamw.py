# SPDX-License-Identifier: Apache-2.0
"""AdamW for the parameters that are no matrices: torch's own steps, in no narrower dtype than parameter and state."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eigenhub.optim import AuON, DCTAdamW, Trion
from tests.common.optimizer_tester import make_parameters, run_steps


@pytest.mark.parametrize("optimizer", [AuON, DCTAdamW, Trion])
@pytest.mark.parametrize("foreach", [None, False])
def test_a_half_precision_state_does_not_round_the_parameters(optimizer, foreach):
    """One step that moves by a thousandth of what bfloat16 can hold beside 1."""
    vector, matrix = nn.Parameter(torch.ones(5)), nn.Parameter(torch.eye(6))
    instance = optimizer([vector, matrix], lr=1e-5, weight_decay=0.0, state_dtype="bfloat16", foreach=foreach)
    vector.grad, matrix.grad = torch.ones(5), torch.randn(6, 6)
    for _ in range(3):
        instance.step()
    assert_close(vector.detach(), torch.full((5,), 1 - 3e-5), atol=2e-7, rtol=0)
    assert {t.dtype for key, t in instance.state[vector].items() if key != "step"} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("dtype", "state_dtype"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", None)]
)
def test_mixed_dtypes_follow_single_precision(dtype, state_dtype):
    usual, mixed = make_parameters([(5,), (7,)]), make_parameters([(5,), (7,)], getattr(torch, dtype))
    run_steps(torch.optim.AdamW(usual, 1e-2, weight_decay=0.1), usual, range(5))
    run_steps(DCTAdamW(mixed, 1e-2, weight_decay=0.1, state_dtype=state_dtype), mixed, range(5))
    for a, b in zip(mixed, usual, strict=True):
        assert_close(a.float(), b.detach(), atol={"float32": 1e-3, "float16": 4e-3, "bfloat16": 3e-2}[dtype], rtol=0)
