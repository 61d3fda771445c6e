# SPDX-License-Identifier: Apache-2.0
"""What a training of BT2 needs besides the model: a start, parameter groups, and bases that follow long rotations."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from eigenhub.nn.orthogonal_transform import REBASE_ABOVE, OrthogonalTransform


if TYPE_CHECKING:
    from eigenhub.models.bt2.modeling_bt2 import Bt2ForImageClassification
    from eigenhub.models.bt2.modeling_bt2_embedder import Bt2EmbedderForImageClassification


@torch.no_grad()
def warm_start_(model: "Bt2ForImageClassification", teacher: "Bt2EmbedderForImageClassification") -> None:
    """Starts trunk, new projection and classifier from the independently trained new model.

    Args:
        model ([`Bt2ForImageClassification`]): changed in place; call its head's `procrustes_init_` afterwards.
        teacher ([`Bt2EmbedderForImageClassification`]): with the same backbone, `embedding_dim` = `new_dim`, same labels.
    """
    head = model.bt2.head
    pairs: tuple[tuple[str, Any, nn.Module], ...] = (
        ("backbone", model.bt2.backbone, teacher.backbone),
        ("new projection", head.new_projection, teacher.projection),
        ("classifier", model.classifier, teacher.classifier),
    )
    for name, to, source in pairs:
        try:
            to.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise ValueError(f"the {name} of `teacher` does not fit `model`: {error}") from error


def bt2_param_groups(
    model: nn.Module, lr: float, head_lr: float = 1e-3, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Parameter groups for any optimizer: a step size of its own for the head, decay for matrices alone.

    The changes of basis are never decayed, which would pull them to their start.

    Args:
        model (`nn.Module`): a BT2 model or embedder; everything outside of `backbone` counts as head.
        lr (`float`): step size of the backbone.
        head_lr (`float`, *optional*, defaults to 1e-3): step size of the rest.
        weight_decay (`float`, *optional*, defaults to 0.0): of matrices and kernels.

    Returns:
        `list[dict]`: non-empty groups over all parameters that require gradients.

    Example:

    ```python
    >>> from transformers import Trainer  # doctest: +SKIP
    >>> optimizer = torch.optim.AdamW(bt2_param_groups(model, lr=1e-4))  # doctest: +SKIP
    >>> trainer = Trainer(model, optimizers=(optimizer, None), ...)  # doctest: +SKIP
    ```
    """
    bases = {id(p) for m in model.modules() if isinstance(m, OrthogonalTransform) for p in m.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = lr if "backbone" in name.split(".") else head_lr
            decay = weight_decay if parameter.ndim > 1 and id(parameter) not in bases else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def rebase_long_rotations_(model: nn.Module, optimizer: Optimizer | None = None, above: float = REBASE_ABOVE) -> int:
    """Folds rotations with a long generator into their base, where the Cayley map would flatten.

    Args:
        model (`nn.Module`): any model with [`OrthogonalTransform`] inside.
        optimizer (`Optimizer`, *optional*): its state of the folded parameters is dropped.
        above (`float`, *optional*, defaults to 5.0): limit on `skew_norm`.

    Returns:
        `int`: how many were folded.
    """
    long = [m for m in model.modules() if isinstance(m, OrthogonalTransform) and m.skew_norm() > above]
    for transform in long:
        transform.rebase_(optimizer)
    return len(long)
