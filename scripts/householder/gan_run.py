# SPDX-License-Identifier: Apache-2.0
"""The run that both scripts share: networks, optimisers and data ready for the loop, the loop, and where it resumes."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from gan_data import ImageRows, endless_batches
from gan_evaluation import Evaluation
from gan_steps import training_step
from torch import Tensor
from torch.optim import Adam, Optimizer
from tqdm.auto import tqdm

from eigenhub.models.stylegan2 import (
    AdaptiveAugment,
    PathLengthPenalty,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
    StyleGAN2Networks,
    averaged_copy,
)
from eigenhub.training.checkpoint import Checkpoints
from eigenhub.training.metrics_log import MetricsLog
from eigenhub.training.options import fixed_settings
from eigenhub.training.publish import create_repo
from eigenhub.training.setup import make_accelerator, make_loader


@dataclass
class GanRun:
    """What the functions of a run share.

    Args:
        args (`argparse.Namespace`): options of the script.
        accelerator (`Accelerator`): device and processes.
        rows ([`ImageRows`]): the data.
        generator ([`StyleGAN2Generator`]): trained.
        discriminator ([`StyleGAN2Discriminator`]): its opponent.
        average ([`StyleGAN2Generator`]): running average of the generator.
        groups (`list[dict]`): what of the generator is trained, with learning rates.
        penalty (`Callable`, *optional*): further term of the generator's loss, of latents and conditions.
        update_w_avg (`bool`, *optional*, defaults to `True`): whether the running mean of `w` moves.
    """

    args: argparse.Namespace
    accelerator: Accelerator
    rows: ImageRows
    generator: StyleGAN2Generator
    discriminator: StyleGAN2Discriminator
    average: StyleGAN2Generator
    groups: list[dict[str, Any]]
    penalty: Callable[[Tensor, Tensor | None], Tensor] | None = None
    update_w_avg: bool = True

    def __post_init__(self) -> None:
        args, accelerator = self.args, self.accelerator
        device = accelerator.device
        for model in (self.generator.train(), self.discriminator.train(), self.average):
            model.to(device)
        self.augment = AdaptiveAugment(args.ada_p, None if args.ada_fixed else args.ada_target, args.ada_kimg)
        self.path_length = PathLengthPenalty(args.pl_weight).to(device)
        g_optimizer = lazy_adam(args, self.groups, args.pl_weight and args.pl_every)
        d_groups = [{"params": list(self.discriminator.parameters()), "lr": args.discriminator_lr or args.lr}]
        d_optimizer = lazy_adam(args, d_groups, args.r1_gamma and args.r1_every)
        self.loader = accelerator.prepare(make_loader(args, accelerator, self.rows, workers=args.workers))
        self.g_optimizer, self.d_optimizer = accelerator.prepare(g_optimizer, d_optimizer)
        # Registered, not prepared: DistributedDataParallel knows no second derivatives; gradients are averaged by the steps.
        accelerator.register_for_checkpointing(
            self.generator, self.discriminator, self.average, self.augment, self.path_length
        )
        folder = args.output_dir / "checkpoints"
        self.checkpoints = Checkpoints(accelerator, folder, fixed_settings(args), args.keep_checkpoints)
        self.evaluation = Evaluation(args, accelerator, self.rows)

    @property
    def batch(self) -> int:
        """Images per step over all processes."""
        args = self.args
        return args.per_device_batch_size * args.gradient_accumulation_steps * self.accelerator.num_processes

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """Parameters of the generator that are trained."""
        return [parameter for group in self.groups for parameter in group["params"]]

    @property
    def networks(self) -> StyleGAN2Networks:
        """All three, for saving."""
        return StyleGAN2Networks(self.average, self.generator, self.discriminator)


def start(args: argparse.Namespace, project: str) -> Accelerator:
    """The accelerator of a run; where results are to be pushed, a missing token shows now and not after the training.

    Args:
        args (`argparse.Namespace`): options of the script.
        project (`str`): name for the trackers.
    """
    accelerator = make_accelerator(args, project)
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    return accelerator


def lazy_adam(args: argparse.Namespace, groups: list[dict[str, Any]], every: float) -> Optimizer:
    r"""Adam for a loss whose regulariser is due every $n$ steps, in a step of its own: $\rho = n / (n + 1)$ in all of its numbers.

    Args:
        args (`argparse.Namespace`): with `beta1` and `beta2`.
        groups (`list[dict]`): parameters with their `lr`.
        every (`float`): $n$; 0 for no regulariser.
    """
    ratio = every / (every + 1) if every else 1.0
    corrected = [{**group, "lr": group["lr"] * ratio} for group in groups]
    return Adam(corrected, betas=(float(args.beta1) ** ratio, float(args.beta2) ** ratio), eps=1e-8)


def train(run: GanRun) -> dict[str, Any]:
    """The loop, from where the run resumes; returns the last row of the metrics."""
    args, accelerator = run.args, run.accelerator
    run.evaluation.load()  # before the seed, for it draws random numbers
    set_seed(args.seed, device_specific=True)  # latents differ from process to process
    done = run.checkpoints.resume(args.resume)
    log = MetricsLog(args.output_dir / "metrics.jsonl", done, accelerator.is_main_process)
    batches = endless_batches(run.loader, run.rows, done * args.gradient_accumulation_steps)
    bar = tqdm(range(done + 1, args.max_steps + 1), "training", disable=not accelerator.is_local_main_process)
    since = time.perf_counter()
    terms: dict[str, Tensor] = {}
    for step in bar:
        terms |= training_step(run, batches, step)  # a lazy term stays until the next row
        evaluated = {}
        if step == args.max_steps or (args.eval_every and step % args.eval_every == 0):
            evaluated = run.evaluation(run.average, step)
        if evaluated or step % args.logging_steps == 0 or step == args.max_steps:
            row = {"step": step, **means(accelerator, terms), "kimg": step * run.batch / 1000, **evaluated}
            log.write(row | {"seconds": time.perf_counter() - since})
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
            bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            terms = {}
        if args.checkpoint_every and step % args.checkpoint_every == 0:
            run.checkpoints.save(step)
    batches.close()
    return log.last()


def means(accelerator: Accelerator, terms: dict[str, Tensor]) -> dict[str, float]:
    """Terms averaged over the processes."""
    mean = accelerator.reduce(torch.stack([term.float() for term in terms.values()]), reduction="mean")
    return dict(zip(terms, mean.tolist(), strict=True))


def make_run(
    args: argparse.Namespace, accelerator: Accelerator, rows: ImageRows, networks: StyleGAN2Networks, **options: Any
) -> GanRun:
    """A run of a generator and a discriminator; the average starts from the generator.

    Args:
        args (`argparse.Namespace`): options of the script.
        accelerator (`Accelerator`): of the script.
        rows ([`ImageRows`]): the data.
        networks ([`StyleGAN2Networks`]): `generator` and `discriminator`.
        options (`Any`): of [`GanRun`].
    """
    generator, discriminator = networks.generator, networks.discriminator
    if generator is None or discriminator is None:
        raise ValueError("`networks` must hold a generator to train and a discriminator")
    options.setdefault("groups", [{"params": list(generator.parameters()), "lr": args.lr}])
    return GanRun(args, accelerator, rows, generator, discriminator, averaged_copy(generator), **options)
