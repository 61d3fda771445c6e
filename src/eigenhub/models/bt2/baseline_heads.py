# SPDX-License-Identifier: Apache-2.0
"""Backward-compatible heads of other papers on frozen encoders: BCT and OCA.

Their losses are written for labelled images. Here, as for BT2 itself, finding a document takes the place of finding a
class, and the old vector of a text that of a class prototype.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenhub.models.bt2.baseline_maps import BATCH_SIZE, EPOCHS, Map
from eigenhub.models.bt2.vector_training import Batch, TeacherVectors, all_rows, contrastive, train_on_vectors
from eigenhub.nn import OrthogonalTransform, contrastive_influence_loss, old_match_loss


class WideProjection(nn.Module):
    """
    A linear layer to the old width and more, started at the Procrustes map and directions that it leaves out.

    Args:
        new (`Tensor` of shape `(b, n)`): unit vectors.
        old (`Tensor` of shape `(b, m)`): unit vectors of the same texts.
        extra (`int`): coordinates beyond `m`.
    """

    def __init__(self, new: Tensor, old: Tensor, extra: int) -> None:
        super().__init__()
        u, _, vh = torch.linalg.svd(new.double().mT @ old.double(), full_matrices=True)
        shared = min(new.shape[1], old.shape[1])
        self.linear = nn.Linear(new.shape[1], old.shape[1] + extra, bias=False)
        rest = u[:, shared : shared + extra].mT.float()  # none are left where the old space is as wide as the new one
        with torch.no_grad():
            self.linear.weight[: old.shape[1]] = (u[:, :shared] @ vh[:shared]).mT
            self.linear.weight[old.shape[1] : old.shape[1] + len(rest)] = rest

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(self.linear(rows), dim=-1)


def fit_bct(
    vectors: TeacherVectors, alpha: float, extra: int = 0, temperature: float = 20.0, lr: float = 1e-3, seed: int = 0
) -> Map:
    r"""
    BCT (Shen et al., 2003.11942): one embedding for both, $L_{new} + \alpha\, L_{influence}$.

    Args:
        vectors (`TeacherVectors`): with pairs.
        alpha (`float`): weight of the influence loss.
        extra (`int`, *optional*, defaults to 0): coordinates beyond those of the old encoder, which it does not see.
        temperature (`float`, *optional*, defaults to 20.0): factor of the cosines.
        lr (`float`, *optional*, defaults to 1e-3): peak learning rate.
        seed (`int`, *optional*, defaults to 0): of the weights and of the order of the rows.
    """
    new, old = all_rows(vectors.tensors())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = WideProjection(new, old, extra)

    def loss(batch: Batch) -> Tensor:
        queries, documents = module(batch["new_queries"]), module(batch["new_documents"])
        influence = contrastive_influence_loss(queries[:, : old.shape[1]], batch["old_documents"], temperature)
        return contrastive(queries, documents, temperature) + alpha * influence

    train_on_vectors(module.parameters(), vectors, loss, epochs=EPOCHS, batch_size=BATCH_SIZE, lr=lr, seed=seed)
    return module.eval().requires_grad_(False)


def fit_oca(vectors: TeacherVectors, extra: int, temperature: float = 20.0, lr: float = 1e-3, seed: int = 0) -> Map:
    r"""
    OCA: one orthogonal layer on the widened embedding, $5 L_{new} + 10 L_{influence} + 5 L_{match}$.

    Args:
        vectors (`TeacherVectors`): with pairs.
        extra (`int`): coordinates beyond those of the old encoder.
        temperature (`float`, *optional*, defaults to 20.0): factor of the cosines.
        lr (`float`, *optional*, defaults to 1e-3): peak learning rate.
        seed (`int`, *optional*, defaults to 0): of the weights and of the order of the rows.
    """
    new, old = all_rows(vectors.tensors())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wide = WideProjection(new, old, extra)
        turn = OrthogonalTransform(old.shape[1] + extra)
        turn.set_base(torch.eye(old.shape[1] + extra))
    module = nn.Sequential(wide, turn)

    def loss(batch: Batch) -> Tensor:
        queries, documents = module(batch["new_queries"]), module(batch["new_documents"])
        compat = torch.cat([queries, documents])[:, : old.shape[1]]
        influence = contrastive_influence_loss(compat[: len(queries)], batch["old_documents"], temperature)
        match = old_match_loss(compat, all_rows(batch)[1])
        return 5 * contrastive(queries, documents, temperature) + 10 * influence + 5 * match

    train_on_vectors(module.parameters(), vectors, loss, epochs=EPOCHS, batch_size=BATCH_SIZE, lr=lr, seed=seed)
    return module.eval().requires_grad_(False)
