# SPDX-License-Identifier: Apache-2.0
"""Maps between two spaces that are fitted after the fact: ridge regression, affine maps of low rank, small networks.

They leave both encoders as they are. A map new to old moves queries (and later items) into the old space, as query
adapters do; a map old to new moves the whole gallery at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenhub.models.bt2.vector_training import Batch, TeacherVectors, all_rows, train_on_vectors
from eigenhub.nn import old_match_loss


Map = Callable[[Tensor], Tensor]
EPOCHS, BATCH_SIZE = 20, 256


def fit_ridge(source: Tensor, target: Tensor, strength: float) -> Map:
    r"""
    $W = (X^\top X + \lambda \bar\sigma I)^{-1} X^\top Y$ with the mean eigenvalue $\bar\sigma$ of $X^\top X$, then unit norm.

    Args:
        source (`Tensor` of shape `(b, n)`): unit vectors.
        target (`Tensor` of shape `(b, m)`): unit vectors of the same texts.
        strength (`float`): $\lambda$; 0 is least squares, of least norm where there are too few rows.
    """
    x, y = source.double(), target.double()
    if strength == 0:
        weight = torch.linalg.lstsq(x, y, driver="gelsd").solution
    else:
        gram = x.mT @ x
        shift = strength * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        weight = torch.linalg.solve(gram + shift, x.mT @ y)
    weight = weight.float()
    return lambda rows: F.normalize(rows @ weight, dim=-1)


class ResidualMap(nn.Module):
    """
    The orthogonal Procrustes map plus a correction that starts at zero.

    Args:
        source (`Tensor` of shape `(b, n)`): unit vectors.
        target (`Tensor` of shape `(b, m)`): unit vectors of the same texts.
        width (`int`): rank, or hidden units.
        activation (`nn.Module`): between the two layers of the correction; the identity makes it linear.
    """

    start: Tensor

    def __init__(self, source: Tensor, target: Tensor, width: int, activation: nn.Module) -> None:
        super().__init__()
        u, _, vh = torch.linalg.svd(source.double().mT @ target.double(), full_matrices=False)
        self.register_buffer("start", (u @ vh).float())
        self.inner = nn.Linear(source.shape[1], width)
        self.activation = activation
        self.outer = nn.Linear(width, target.shape[1])
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(rows @ self.start + self.outer(self.activation(self.inner(rows))), dim=-1)


def fit_affine(vectors: TeacherVectors, rank: int = 64, lr: float = 1e-3, seed: int = 0) -> Map:
    """
    Affine map new to old, a rotation plus a matrix of low rank.

    Args:
        vectors (`TeacherVectors`): the vectors.
        rank (`int`, *optional*, defaults to 64): of the correction.
        lr (`float`, *optional*, defaults to 1e-3): peak learning rate.
        seed (`int`, *optional*, defaults to 0): of the weights and of the order of the rows.
    """
    return _fit(vectors, rank, nn.Identity(), lr, seed)


def fit_mlp(vectors: TeacherVectors, hidden: int = 512, lr: float = 1e-3, seed: int = 0) -> Map:
    """
    A residual network new to old with one hidden layer.

    Args:
        vectors (`TeacherVectors`): the vectors.
        hidden (`int`, *optional*, defaults to 512): units of the hidden layer.
        lr (`float`, *optional*, defaults to 1e-3): peak learning rate.
        seed (`int`, *optional*, defaults to 0): of the weights and of the order of the rows.
    """
    return _fit(vectors, hidden, nn.GELU(), lr, seed)


def _fit(vectors: TeacherVectors, width: int, activation: nn.Module, lr: float, seed: int) -> Map:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ResidualMap(*all_rows(vectors.tensors()), width, activation)

    def loss(batch: Batch) -> Tensor:
        new, old = all_rows(batch)
        return old_match_loss(module(new), old)

    train_on_vectors(module.parameters(), vectors, loss, epochs=EPOCHS, batch_size=BATCH_SIZE, lr=lr, seed=seed)
    return module.eval().requires_grad_(False)
