# SPDX-License-Identifier: Apache-2.0
"""The model of each method over a backbone, started from what its teachers have learned."""

import argparse
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from eigenhub.models.bt2.bt2_training import warm_start_
from eigenhub.models.bt2.bt2_trunk import Bt2TrunkModel
from eigenhub.models.bt2.configuration_bt2 import Bt2Config, Bt2EmbedderConfig
from eigenhub.models.bt2.modeling_bt2 import Bt2ForImageClassification
from eigenhub.models.bt2.modeling_bt2_embedder import Bt2EmbedderForImageClassification
from eigenhub.nn import class_prototypes
from eigenhub.training.options import EMBEDDED


def build_model(
    args: argparse.Namespace,
    num_labels: int,
    labels: Tensor,
    old: Tensor | None,
    new: Tensor | None,
    new_model: nn.Module | None,
    old_identity: dict[str, Any] | None,
) -> Bt2TrunkModel:
    """The model of `args.method` with its prototypes and its start.

    Args:
        args (`argparse.Namespace`): options of the script, resolved.
        num_labels (`int`): number of classes.
        labels (`Tensor` of shape `(items,)`): classes of the training items.
        old (`Tensor` of shape `(items, old_dim)`, *optional*): old vectors of the training items.
        new (`Tensor` of shape `(items, new_dim)`, *optional*): vectors of the new teacher.
        new_model (`nn.Module`, *optional*): the new teacher, for a warm start.
        old_identity (`dict`, *optional*): which model wrote the old vectors, on which view; kept in the configuration.
    """
    backbone = backbone_config(args)
    common = {
        "backbone_config": backbone,
        "pooling": args.pooling,
        "num_labels": num_labels,
        "logit_scale": args.logit_scale,
        "label_smoothing": args.label_smoothing,
        "save_classifier": args.save_classifier,
    }
    model: Bt2TrunkModel
    if args.method == "bt2":
        assert old is not None and new is not None  # checked with the options
        model = Bt2ForImageClassification(bt2_config(args, common | {"old_model": old_identity}, old, new))
    else:
        model = Bt2EmbedderForImageClassification(embedder_config(args, common, old))
    load_backbone(model, args)
    start(args, model, old, new, new_model)
    if old is not None and args.method != "independent":
        model.set_old_prototypes(class_prototypes(old, labels, num_labels))
    if args.freeze_backbone:
        model.get_submodule("bt2.backbone" if args.method == "bt2" else "backbone").requires_grad_(False)
    return model


def bt2_config(args: argparse.Namespace, common: dict, old: Tensor, new: Tensor) -> Bt2Config:
    if args.embedding_dim not in (None, new.shape[1]):
        raise ValueError(f"--embedding_dim must be the new model's {new.shape[1]}, got {args.embedding_dim}")
    return Bt2Config(
        new_dim=new.shape[1],
        old_dim=old.shape[1],
        added_dim=args.added_dim,
        scale=args.scale,
        added=args.added,
        basis_rank=args.basis_rank,
        new_teacher_weight=args.new_teacher_weight,
        influence_weight=args.influence_weight,
        old_match_weight=args.old_match_weight,
        **common,
    )


def embedder_config(args: argparse.Namespace, common: dict, old: Tensor | None) -> Bt2EmbedderConfig:
    if args.method == "independent":
        dim = args.embedding_dim or (32 if args.dataset == EMBEDDED else 128)
        return Bt2EmbedderConfig(embedding_dim=dim, classification_weight=args.classification_weight, **common)
    assert old is not None  # checked with the options
    old_dim, oca = old.shape[1], args.method == "oca"
    return Bt2EmbedderConfig(
        embedding_dim=args.embedding_dim or old_dim + (args.added_dim if oca else 0),
        old_dim=old_dim,
        orthogonal=oca,
        classification_weight=args.classification_weight,
        influence_weight=args.influence_weight,
        prototype_weight=args.prototype_weight if oca else 0.0,
        **common,
    )


def backbone_config(args: argparse.Namespace) -> PreTrainedConfig:
    if args.backbone == EMBEDDED:
        from eigenhub.embedded.glyph_models import glyph_backbone

        return glyph_backbone("new")
    return AutoConfig.from_pretrained(args.backbone)


def load_backbone(model: Bt2TrunkModel, args: argparse.Namespace) -> None:
    """Pretrained weights, unless the architecture is all that is wanted."""
    if args.backbone == EMBEDDED or args.from_scratch:
        return
    owner = model.bt2 if args.method == "bt2" else model
    owner.backbone.load_state_dict(AutoModel.from_pretrained(args.backbone).state_dict())


def start(
    args: argparse.Namespace, model: Bt2TrunkModel, old: Tensor | None, new: Tensor | None, new_model: nn.Module | None
) -> None:
    """Trunk, projection and classifier of the new teacher where they fit, then for bt2 the bases of Procrustes.

    The baselines start from it only if asked to: their papers know no new teacher.
    """
    fits = isinstance(new_model, Bt2EmbedderForImageClassification) and _fits(model, new_model)
    if args.warm_start and not fits:
        raise ValueError(
            "--warm_start needs a --new_model made by --method independent with the same --backbone and sizes"
        )
    if isinstance(model, Bt2ForImageClassification):
        if fits and args.warm_start is not False:
            warm_start_(model, new_model)  # type: ignore[arg-type]  # what `fits` says
        if args.init == "procrustes":
            model.bt2.head.procrustes_init_(new, old)
    elif args.warm_start:
        model.load_state_dict(new_model.state_dict(), strict=False)  # type: ignore[union-attr]  # likewise


def _fits(model: Bt2TrunkModel, teacher: Bt2EmbedderForImageClassification) -> bool:
    """Whether a model can start from the weights of an embedder."""
    ours, theirs = model.config, teacher.config
    ignored = {"dtype", "_name_or_path", "architectures", "id2label", "label2id"}
    architecture = [{k: v for k, v in c.backbone.to_dict().items() if k not in ignored} for c in (ours, theirs)]
    dims = [getattr(ours, "new_dim", getattr(ours, "embedding_dim", None)), theirs.embedding_dim]
    others = [(c.num_labels, c.pooling) for c in (ours, theirs)]
    return all(a == b for a, b in (architecture, dims, others))


def same_view_teachers(teachers: dict[str, nn.Module | None], pixel_values: Tensor) -> dict[str, Tensor]:
    """Teacher vectors of the very view that the student sees.

    Args:
        teachers (`dict[str, nn.Module]`): by name.
        pixel_values (`Tensor` of shape `(batch, channels, height, width)`): the view.
    """
    from eigenhub.models.bt2.modeling_bt2_embedder import teacher_of

    return {name: teacher_of(model, pixel_values) for name, model in teachers.items() if model is not None}


def trained_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def make_optimizer(args: argparse.Namespace, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, or Adam with coupled decay as in the published runs, with a step size of its own for the head."""
    from eigenhub.models.bt2.bt2_training import bt2_param_groups

    groups = bt2_param_groups(model, args.lr, args.head_lr, args.weight_decay)
    return (torch.optim.AdamW if args.optimizer == "adamw" else torch.optim.Adam)(groups)
