# SPDX-License-Identifier: Apache-2.0
"""The scans inside the rest of torch: compiler, autocast, half precision, checkpointing, memory."""

import importlib.util
import sys

import pytest
import torch
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from eigenhub.linalg import scan_affine, scan_fused
from eigenhub.linalg.scan import diagonal_ssm, diagonal_ssm_reference, ssm_step, variable_ssm
from tests.linalg.scan_cases import system


def real_system(batch, length, **options):
    """Arguments of the operator: the maps as real matrices."""
    u, lbar, bbar, c, d, state = system(batch, length, dtype=torch.float32, **options)
    w_in, w_out = bbar.detach().transpose(1, 2).flatten(0, 1), c.detach().flatten(1, 2)
    return [u, lbar, w_in.requires_grad_(), w_out.requires_grad_(), d, state]


def loss(u, lbar, bbar, c, d, state):
    y, final = diagonal_ssm(u, lbar, bbar, c, d, initial_state=state)
    return y.sin().sum() + final.square().sum()


@pytest.mark.parametrize("options", [(None, False, 0, False), (None, True, 5, True)])
def test_the_fused_operator_keeps_the_rules_of_torch(options):
    arguments = real_system(2, 20)
    torch.library.opcheck(scan_fused.fused_ssm, (*arguments, *options))
    y, final, states, before = scan_fused.fused_ssm(*arguments, *options)
    constants = [x.detach() if torch.is_tensor(x) else x for x in (*arguments, *options[:3], before, y, final, states)]
    for needed in ([True] * 5, [False] * 5):
        torch.library.opcheck(scan_fused.fused_ssm_backward, (*constants, needed))


def test_the_affine_operator_keeps_the_rules_of_torch():
    a, v = 0.5 * torch.randn(2, 20, 3, 2), torch.randn(2, 20, 3, 2)
    arguments = [x.requires_grad_() for x in (a.clone(), v, torch.randn(2, 3, 2))]
    for reverse in (False, True):
        torch.library.opcheck(scan_affine.affine_scan, (*arguments, reverse))
    torch.library.opcheck(scan_affine.affine_scan_backward, (a, v.detach(), v[:, 0].detach(), v.detach(), True))


@pytest.mark.parametrize("length", [5, 40])
def test_compile_without_graph_breaks(length):
    tensors = system(2, length, dtype=torch.float32)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(loss(*tensors), tensors)
    for found, gradient in zip(torch.autograd.grad(compiled(*tensors), tensors), expected, strict=True):
        assert_close(found, gradient)


def test_compile_a_step():
    u, *maps, state = (t.detach() for t in system(2, 1))
    y, new = torch.compile(ssm_step, backend="aot_eager", fullgraph=True)(u[:, 0], state, *maps)
    expected, final = diagonal_ssm(u, *maps, initial_state=state)
    assert_close(y, expected[:, 0])
    assert_close(new, final)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant):
    tensors = system(2, 40, dtype=torch.float32)
    expected = torch.autograd.grad(loss(*tensors), tensors)
    checkpoint(loss, *tensors, use_reentrant=reentrant).backward()
    for tensor, gradient in zip(tensors, expected, strict=True):
        assert torch.equal(tensor.grad, gradient)


def test_frozen_arguments_change_no_other_gradient():
    for frozen in [(), (0,), (1,), (3,), (1, 2), (1, 3), (1, 2, 3, 4), (0, 1, 2, 3, 4)]:
        torch.manual_seed(0)
        tensors = system(2, 40)
        wanted = [i for i in range(6) if i not in frozen]
        expected = torch.autograd.grad(loss(*tensors), [tensors[i] for i in wanted])
        for i in frozen:
            tensors[i].requires_grad_(False)
        loss(*tensors).backward()
        for i, gradient in zip(wanted, expected, strict=True):
            assert_close(tensors[i].grad, gradient, rtol=1e-12, atol=1e-12)


def test_backward_twice_and_only_what_is_asked_for():
    u, lbar, bbar, c, d, state = system(2, 40)
    y, final = diagonal_ssm(u, lbar.detach(), bbar.detach(), c, d.detach())
    first = torch.autograd.grad(y.sum(), [u, c], retain_graph=True)
    again = torch.autograd.grad(y.sum(), [u, c], retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    (from_final,) = torch.autograd.grad(final.sum(), u)
    reference = diagonal_ssm_reference(u, lbar, bbar, c, d)[1]
    assert_close(from_final, torch.autograd.grad(reference.sum(), u)[0])


def test_a_second_derivative_is_refused_and_had_from_another_backend():
    u, *maps, _ = system(1, 6)

    def gradient(backend):
        y = diagonal_ssm(u, *maps, backend=backend)[0].square().sum()
        return torch.autograd.grad(y, u, create_graph=True)[0].sum()

    with pytest.raises(NotImplementedError, match="second derivatives"):
        gradient("fused").backward()
    gradient("reference").backward()
    assert u.grad.isfinite().all()


def test_inference_mode():
    tensors = system(2, 40)
    with torch.inference_mode():
        found = loss(*tensors)
    assert_close(found, loss(*tensors))


def test_autocast_changes_nothing():
    tensors = system(2, 40, dtype=torch.float32)
    expected = torch.autograd.grad(loss(*tensors), tensors)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.autograd.grad(loss(*tensors), tensors)
    assert all(torch.equal(a, b) for a, b in zip(inside, expected, strict=True))


@pytest.mark.parametrize("backend", ["fused", "associative", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_at_the_border_only(dtype, backend):
    u, *maps, state = (t.detach() for t in system(2, 300, dtype=torch.float32))
    u = u.to(dtype).requires_grad_()
    y, final = diagonal_ssm(u, *maps, initial_state=state, backend=backend)
    expected, exact = diagonal_ssm(u.float(), *maps, initial_state=state)
    assert y.dtype == dtype and final.dtype == torch.float32
    unit = torch.finfo(dtype).eps
    assert_close(y.float(), expected, rtol=unit, atol=1e-4)
    assert_close(final, exact, rtol=1e-5, atol=1e-5)
    y.sum().backward()
    assert u.grad.dtype == dtype


def test_all_half_precision_arguments_run():
    tensors = [t.detach().bfloat16().requires_grad_() for t in system(2, 40)]
    y, final = diagonal_ssm(*tensors[:5], initial_state=tensors[5])
    (y.float().sum() + final.sum()).backward()
    assert all(t.grad.dtype == torch.bfloat16 for t in tensors)
    step, _ = ssm_step(tensors[0][:, 0], tensors[5].float(), *tensors[1:5])
    assert step.dtype == torch.bfloat16


def saved_numbers(function):
    """How many numbers a call keeps for the backward pass, each memory counted once."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(kept.values())


def test_no_states_are_kept():
    batch, length, features, states = 2, 2000, 4, 32
    u, *maps, _ = system(batch, length, features, states, torch.float32)
    kept = saved_numbers(lambda: diagonal_ssm(u, *maps))
    assert kept < u.numel() + batch * length * 2 * states / 16 + 20_000
    assert saved_numbers(lambda: diagonal_ssm(u, *maps, backend="associative")) > batch * length * 2 * states


def test_a_second_copy_of_the_code_gets_operators_of_its_own():
    """As when a model comes with its code from the Hub and the package is there too."""
    spec = importlib.util.spec_from_file_location("copy_of_scan_fused", scan_fused.__file__)
    copy = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = copy
    try:
        spec.loader.exec_module(copy)
        spec.loader.exec_module(copy)
    finally:
        del sys.modules[spec.name]
    arguments = real_system(2, 20)
    for found, expected in zip(
        copy.fused_ssm(*arguments, None, False, 0, False),
        scan_fused.fused_ssm(*arguments, None, False, 0, False),
        strict=True,
    ):
        assert torch.equal(found, expected)
    assert copy.fused_ssm is not scan_fused.fused_ssm
    copy.fused_ssm(*arguments, None, False, 0, False)[0].sum().backward()


def test_variable_steps_under_autocast_and_half_precision():
    u, _, bbar, c, d, _ = (t.detach() for t in system(2, 40, dtype=torch.float32))
    eigenvalues, step, deltas = torch.tensor([[-0.5, 3.0]] * 4), torch.full((4,), 0.1), torch.rand(2, 40)
    expected = variable_ssm(u.bfloat16().float(), deltas, eigenvalues, step, bbar, c, d)
    with torch.autocast("cpu", torch.bfloat16):
        found = variable_ssm(u.bfloat16(), deltas, eigenvalues, step, bbar, c, d)
    assert_close(found[0], expected[0].bfloat16())
    assert torch.equal(found[1], expected[1])
