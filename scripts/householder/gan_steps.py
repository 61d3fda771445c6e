# SPDX-License-Identifier: Apache-2.0
"""The steps of adversarial training: discriminator, R1, generator, path length, average."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.parameter import Parameter
from torch.optim import Optimizer

from eigenhub.models.stylegan2 import (
    average_decay,
    discriminator_loss,
    generator_loss,
    mixed_latents,
    r1_penalty,
    update_average,
)


if TYPE_CHECKING:
    from gan_run import GanRun


Batch = dict[str, Tensor]
Terms = dict[str, Tensor]


def training_step(run: "GanRun", batches: Iterator[Batch], step: int) -> Terms:
    """One step of both networks, the regularisers that are due, and the average; returns this process's terms.

    Args:
        run ([`GanRun`]): the run.
        batches (`Iterator`): real images.
        step (`int`): number of the step, from 1.
    """
    args = run.args
    parts = [next(batches) for _ in range(args.gradient_accumulation_steps)]
    d_parameters = list(run.discriminator.parameters())
    terms = descend(run, run.d_optimizer, d_parameters, parts, discriminator_terms)
    if args.ada and step % args.ada_every == 0:
        terms["real_sign"] = torch.tensor(run.augment.adapt(run.batch * args.ada_every), device=run.accelerator.device)
    if args.r1_gamma and is_due(step, args.r1_every):
        terms |= descend(run, run.d_optimizer, d_parameters, parts, r1_terms, args.r1_every)
    found = descend(run, run.g_optimizer, run.trained, parts, generator_terms)
    if args.pl_weight and is_due(step, args.pl_every):
        found |= descend(run, run.g_optimizer, run.trained, parts, path_length_terms, args.pl_every)
    synchronise_mean(run)
    decay = average_decay(run.batch, args.ema_kimg, seen=step * run.batch, rampup=args.ema_rampup)
    update_average(run.average, run.generator, decay)
    if args.ada:
        terms["ada_p"] = run.augment.p.to(run.accelerator.device)
    return terms | {name: term for name, term in found.items() if name != "loss"}


def is_due(step: int, every: int) -> bool:
    """Whether a lazy term is due: at the first step and then every `every`."""
    return (step - 1) % every == 0


def descend(
    run: "GanRun",
    optimizer: Optimizer,
    parameters: Sequence[Parameter],
    parts: Sequence[Batch],
    compute: Callable[["GanRun", Batch], Terms],
    factor: int = 1,
) -> Terms:
    """One step of an optimizer on the mean loss over the parts of a batch and over all processes; returns the mean terms.

    Args:
        run ([`GanRun`]): the run.
        optimizer (`Optimizer`): of one of the networks.
        parameters (`Sequence[Parameter]`): what it moves; the other network gets no gradients.
        parts (`Sequence[dict]`): batches that are accumulated.
        compute (`Callable`): gives the terms of a part, the loss first.
        factor (`int`, *optional*, defaults to 1): on the loss, for one that is due every so many steps.
    """
    optimizer.zero_grad()
    found = []
    for part in parts:
        terms = compute(run, part)
        loss = next(iter(terms.values()))
        (loss * (factor / len(parts))).backward(inputs=list(parameters))
        found.append({name: term.detach() for name, term in terms.items()})
    average_gradients(run, parameters)
    optimizer.step()
    optimizer.zero_grad()
    return {name: torch.stack([terms[name].float() for terms in found]).mean() for name in found[0]}


def discriminator_terms(run: "GanRun", part: Batch) -> Terms:
    """The discriminator's loss on real and on fake images."""
    c = conditions(run, part["label"])
    with run.accelerator.autocast():
        with torch.no_grad():
            fake, fake_c, _ = fakes(run, len(part["image"]))
        fake_logits = run.discriminator(run.augment(fake), fake_c).logits
        real_logits = run.discriminator(run.augment(part["image"]), c).logits
    if run.args.ada:
        run.augment.observe(real_logits, across(run))
    loss = discriminator_loss(real_logits.float(), fake_logits.float())
    return {"loss": loss, "real_score": real_logits.mean(), "fake_score": fake_logits.mean()}


def r1_terms(run: "GanRun", part: Batch) -> Terms:
    """R1 on the images before augmentation, in full precision."""
    images = part["image"].detach().requires_grad_()
    logits = run.discriminator(run.augment(images), conditions(run, part["label"])).logits
    penalty = r1_penalty(logits, images, run.args.r1_gamma)
    # The last bias does not enter: with a gradient of zero it takes part in this step of Adam as in the others.
    return {"r1": penalty + 0 * logits.sum()}


def generator_terms(run: "GanRun", part: Batch) -> Terms:
    """The generator's loss, with the penalty of the arm inside."""
    with run.accelerator.autocast():
        images, c, z = fakes(run, len(part["image"]), update_w_avg=run.update_w_avg)
        logits = run.discriminator(run.augment(images), c).logits
    loss = generator_loss(logits.float())
    if run.penalty is None:
        return {"generator_loss": loss}
    penalty = run.penalty(z, c)
    return {"generator_loss": loss + penalty, "penalty": penalty}


def path_length_terms(run: "GanRun", part: Batch) -> Terms:
    """The path length penalty on a smaller batch, in full precision."""
    count = max(1, len(part["image"]) // run.args.pl_batch_shrink)
    z, c = latents(run, count)
    ws = mixed_latents(run.generator, z, c, run.args.mixing)
    if not ws.requires_grad:  # a mapping that is frozen
        ws = ws.detach().requires_grad_()
    images = run.generator.synthesis(ws, noise_mode="random")
    penalty = run.path_length(images, ws, across=across(run))
    # Biases of the image layers take part in the step, too.
    return {"path_penalty": penalty + 0 * images[:, 0, 0, 0].sum(), "path_length": run.path_length.mean.clone()}


def fakes(run: "GanRun", count: int, update_w_avg: bool = False) -> tuple[Tensor, Tensor | None, Tensor]:
    """Images of random latents with style mixing, their conditions and latents.

    Args:
        run ([`GanRun`]): the run.
        count (`int`): number of images.
        update_w_avg (`bool`, *optional*, defaults to `False`): whether the running mean of `w` moves.
    """
    z, c = latents(run, count)
    ws = mixed_latents(run.generator, z, c, run.args.mixing, update_w_avg=update_w_avg)
    return run.generator.synthesis(ws, noise_mode="random"), c, z


def latents(run: "GanRun", count: int) -> tuple[Tensor, Tensor | None]:
    """Random latents, and conditions as frequent as in the data."""
    z = torch.randn(count, run.generator.config.z_dim, device=run.accelerator.device)
    if not run.generator.config.c_dim or run.rows.labels is None:
        return z, None
    return z, conditions(run, run.rows.labels[torch.randint(len(run.rows), (count,))])


def conditions(run: "GanRun", labels: Tensor) -> Tensor | None:
    """Labels as one-hot vectors, for a conditional pair."""
    size = run.generator.config.c_dim
    return one_hot(labels.to(run.accelerator.device), size).float() if size else None


def across(run: "GanRun") -> Callable[[Tensor], Tensor] | None:
    """Averages a number over the processes, where there are several."""
    if run.accelerator.num_processes == 1:
        return None
    return lambda number: run.accelerator.reduce(number, reduction="mean")


@torch.no_grad()
def average_gradients(run: "GanRun", parameters: Sequence[Parameter]) -> None:
    """Gradients averaged over the processes in one piece; overflows of float16 blocks, which have no loss scale, are cut."""
    given = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if run.accelerator.num_processes > 1:
        flat = run.accelerator.reduce(torch.cat([gradient.flatten() for gradient in given]), reduction="mean")
        for gradient, mean in zip(given, flat.split([gradient.numel() for gradient in given]), strict=True):
            gradient.copy_(mean.view_as(gradient))
    if run.generator.config.num_fp16_res:
        for gradient in given:
            torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)


def synchronise_mean(run: "GanRun") -> None:
    """The running mean of `w` over the latents of all processes."""
    if run.accelerator.num_processes > 1:
        w_avg = run.generator.mapping.w_avg
        w_avg.copy_(run.accelerator.reduce(w_avg.clone(), reduction="mean"))
