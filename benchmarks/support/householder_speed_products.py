# SPDX-License-Identifier: Apache-2.0
"""Products of reflections, and frames under torch's maps, by other hands: what ours are timed against."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from eigenhub.nn import HouseholderFrame


MAPS = ("householder", "cayley", "matrix_exp")
Function = Callable[[Tensor], Tensor]
Step = Callable[[], tuple[Tensor, ...]]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def step_of(function: Function, vectors: Tensor, upstream: Tensor) -> Step:
    """A call that runs a function forward and backward; it returns output and gradient of the vectors."""
    vectors = vectors.clone().requires_grad_()

    def call() -> tuple[Tensor, Tensor]:
        frame = function(vectors)
        (gradient,) = torch.autograd.grad(frame, vectors, upstream)
        return frame.detach(), gradient

    return call


def rank_one_updates(vectors: Tensor, r: int) -> Tensor:
    """The first `r` columns of the product, each reflection a rank-one update of these columns alone."""
    frame = torch.eye(vectors.shape[0], r)
    for v in reversed(vectors.unbind(1)):
        frame = frame - torch.outer(2 / (v @ v) * v, v @ frame)
    return frame


def dense_reflections(vectors: Tensor, r: int) -> Tensor:
    """The same as the official code has it: every reflection a square matrix, all of them multiplied."""
    eye = torch.eye(len(vectors))
    product = eye
    for v in vectors.unbind(1):
        product = product @ (eye - torch.outer(v, v) * (2 / (v @ v)))
    return product[:, :r]


def torch_frame(lower: Tensor) -> Tensor:
    """A thin frame by `torch.linalg.householder_product`."""
    lower = lower.tril(-1)
    return torch.linalg.householder_product(lower, 2 / (1 + lower.square().sum(-2)))


def hra_product(vectors: Tensor) -> Step:
    """Forward and backward of the loop of PEFT's HRA tuner."""
    from peft import HRAConfig
    from peft.tuners.hra.layer import HRALinear

    d, r = vectors.shape
    layer = HRALinear(nn.Linear(d, d, bias=False), "default", HRAConfig(r=r, init_weights=False), r=r)
    with torch.no_grad():
        layer.hra_u["default"].copy_(vectors)
    upstream = gaussian(d, d, seed=1)

    def call() -> tuple[Tensor, Tensor]:
        product = layer.get_delta_weight("default")
        (gradient,) = torch.autograd.grad(product, layer.hra_u["default"], upstream)
        return product.detach(), gradient

    return call


def our_layer(frame: Tensor, upstream: Tensor) -> Step:
    """Forward and backward of a [`HouseholderFrame`] that stands at a frame."""
    module = HouseholderFrame(*frame.shape)
    return step_of(module, module.right_inverse(frame), upstream)


def torch_layer(frame: Tensor, upstream: Tensor, orthogonal_map: str, use_trivialization: bool) -> Step:
    """Forward and backward of torch's parametrization, which starts at the frame where it can be told to.

    Args:
        frame (`Tensor` of shape `(d, r)`): orthonormal columns.
        upstream (`Tensor` of shape `(d, r)`): gradient of the frame.
        orthogonal_map (`str`): of `MAPS`.
        use_trivialization (`bool`): torch's setting; without it, only `"householder"` can start at a given frame.
    """
    layer = nn.Linear(frame.shape[1], frame.shape[0], bias=False)
    orthogonal(layer, "weight", orthogonal_map, use_trivialization=use_trivialization)
    if use_trivialization or orthogonal_map == "householder":
        layer.weight = frame
    (parameter,) = layer.parameters()

    def call() -> tuple[Tensor, Tensor]:
        found = layer.weight
        (gradient,) = torch.autograd.grad(found, parameter, upstream)
        return found.detach(), gradient

    return call
