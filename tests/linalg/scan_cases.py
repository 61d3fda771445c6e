# SPDX-License-Identifier: Apache-2.0
"""Small random systems for the tests of the scans."""

import torch


# One step, fewer than a chunk, primes, one more and one less than whole chunks, more than a block of one sequence.
LENGTHS = [1, 2, 7, 16, 17, 18, 101, 257]
WEIGHT = torch.tensor([2.0, 1.0, 2.0, 2.0])


def unit_disc(states, dtype=torch.float64):
    """Points in the disc of radius one as pairs, some of them close to its edge."""
    radius = torch.exp(-torch.rand(states, dtype=torch.float64) * torch.logspace(-3, 0, states, dtype=torch.float64))
    angle = 6.28 * torch.rand(states, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).to(dtype)


def system(batch, length, features=5, states=4, dtype=torch.float64):
    """`u, lbar, bbar, c, d, initial_state`, all of them with gradients."""
    shapes = [(states, features, 2), (features, states, 2), (features,), (batch, states, 2)]
    maps = [torch.randn(shape, dtype=dtype) for shape in shapes]
    tensors = [torch.randn(batch, length, features, dtype=dtype), unit_disc(states, dtype), *maps]
    return [tensor.requires_grad_() for tensor in tensors]


def values_and_gradients(function, tensors, upstream):
    """Results of `function(*tensors)` and the gradients of all tensors."""
    results = function(*tensors)
    weights = [w.to(result.dtype) for w, result in zip(upstream, results, strict=True)]
    return [*results, *torch.autograd.grad(results, tensors, weights)]


def assert_same(found, expected, tolerance):
    """Equal up to `tolerance` times the largest entry of each tensor."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        scale = other.abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=tolerance * max(scale, 1e-30))
