# SPDX-License-Identifier: Apache-2.0
"""From the arguments of `train_lm.py` to an optimizer: ours, torch's, or another project's, over the same two groups."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_options import OURS, given_options, peak_rate
from torch.nn import Module
from torch.optim import AdamW, Optimizer

from eigenhub.optim import OptimizerConfig, ParamGroups, build_param_groups, memory_report
from eigenhub.optim.groups import ALL_LINEAR


#: GaLore's published projection settings; APOLLO's and Fira's scripts share them but for the scale.
PROJECTOR = {"rank": 128, "update_proj_gap": 200}
SCALES = {"galore": 0.25, "apollo": 1.0, "fira": 0.25}


def build_optimizer(model: Module, args: argparse.Namespace) -> tuple[Optimizer, ParamGroups]:
    """The optimizer, and the groups that tell which parameter got what."""
    groups = build_param_groups(model, target_modules=target_modules(args))
    if (config := optimizer_config(args)) is not None:
        return config.build(model), groups
    matrices = [p for group in groups if group.get("algorithm") != "adamw" for p in group["params"]]
    others = [
        {"params": group["params"], **auxiliary(args), "weight_decay": group.get("weight_decay", args.weight_decay)}
        for group in groups
        if group.get("algorithm") == "adamw"
    ]
    return BUILDERS[args.optimizer](matrices, others, args), groups


def optimizer_config(args: argparse.Namespace) -> OptimizerConfig | None:
    """The settings of one of our optimizers, which are saved beside the model; `None` for a baseline."""
    if args.optimizer not in OURS:
        return None
    aux = {"betas": args.aux_betas, "eps": args.aux_eps}
    shared = {"lr": peak_rate(args), "weight_decay": args.weight_decay, "lr_aux": args.aux_lr, "aux_options": aux}
    return OptimizerConfig(args.optimizer, {**shared, "target_modules": target_modules(args), **given_options(args)})


def target_modules(args: argparse.Namespace) -> str | list[str]:
    return args.target_modules or ALL_LINEAR


def auxiliary(args: argparse.Namespace) -> dict[str, Any]:
    return {"lr": args.aux_lr, "betas": tuple(args.aux_betas), "eps": args.aux_eps}


def adamw(matrices: list, others: list[dict], args: argparse.Namespace) -> Optimizer:
    own = {"lr": peak_rate(args), "betas": tuple(args.betas), "eps": args.eps, "weight_decay": args.weight_decay}
    return AdamW([{"params": matrices, **own}, *others])


def frozen(matrices: list, others: list[dict], args: argparse.Namespace) -> Optimizer:
    """The control that shows what the auxiliary optimizer reaches alone."""
    for matrix in matrices:
        matrix.requires_grad_(False)
    return AdamW(others)


def muon(matrices: list, others: list[dict], args: argparse.Namespace) -> Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise ImportError(f"--optimizer muon needs torch 2.9 or later, this is {torch.__version__}")
    options = given_options(args)
    options["adjust_lr_fn"] = options.pop("adjust_lr", None)
    own = torch.optim.Muon(matrices, lr=peak_rate(args), weight_decay=args.weight_decay, **options)
    return OptimizerPair([own, AdamW(others)])


def galore(matrices: list, others: list[dict], args: argparse.Namespace) -> Optimizer:
    from galore_torch import GaLoreAdamW

    group = projector_group(matrices, args) | {"proj_type": "std"}
    return GaLoreAdamW([group, *others], no_deprecation_warning=True)


def apollo(matrices: list, others: list[dict], args: argparse.Namespace) -> Optimizer:
    from apollo_torch import APOLLOAdamW

    kind = {"proj": "random", "scale_type": "channel", "proj_type": "std"}
    return APOLLOAdamW([projector_group(matrices, args) | kind, *others])


def fira(matrices: list, others: list[dict], args: argparse.Namespace) -> Optimizer:
    from pytorch_optimizer import Fira

    return Fira([projector_group(matrices, args) | {"projection_type": "std"}, *others])


def projector_group(matrices: list, args: argparse.Namespace) -> dict[str, Any]:
    """GaLore's group keys, which its relatives have kept."""
    options = PROJECTOR | given_options(args)
    options["scale"] = options.pop("projector_scale", SCALES[args.optimizer])
    options["betas"] = tuple(options["betas"])
    return {"params": matrices, "lr": peak_rate(args), "weight_decay": args.weight_decay, **options}


BUILDERS: dict[str, Callable[[list, list[dict], argparse.Namespace], Optimizer]] = {
    "adamw": adamw,
    "frozen": frozen,
    "muon": muon,
    "galore": galore,
    "apollo": apollo,
    "fira": fira,
}


class OptimizerPair(Optimizer):
    """Several optimizers as one object, with one state and one list of groups, which all of them share.

    `torch.optim.Muon` takes matrices only. Two objects would mean two schedulers and two gradient scalings per step.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def _share(self) -> None:
        """Hand state and groups to the parts again: loading a state makes new ones."""
        start = 0
        for part in self.parts:
            end = start + len(part.param_groups)
            part.state, part.param_groups = self.state, self.param_groups[start:end]
            start = end


def plain_optimizer(optimizer: Optimizer) -> Optimizer:
    """What accelerate has wrapped."""
    return getattr(optimizer, "optimizer", optimizer)


def state_bytes(optimizer: Optimizer) -> dict[str, int]:
    """Bytes of optimizer state on this process by name, stored projectors of GaLore and its relatives included."""
    own = plain_optimizer(optimizer)
    by_name = dict(memory_report(own).by_key)
    projectors = [state["projector"] for state in own.state.values() if "projector" in state]
    hidden = [value for projector in projectors for value in vars(projector).values() if torch.is_tensor(value)]
    if hidden:
        by_name["projector"] = sum(tensor.numel() * tensor.element_size() for tensor in hidden)
    return by_name


def routing_summary(groups: ParamGroups) -> str:
    """How many tensors and numbers went where, in a line."""
    parts = []
    for name in dict.fromkeys(assignment.group for assignment in groups.assignments):
        own = [assignment.shape for assignment in groups.assignments if assignment.group == name]
        parts.append(f"{name}: {len(own)} tensors, {sum(torch.Size(shape).numel() for shape in own):,} numbers")
    return "; ".join(parts)
