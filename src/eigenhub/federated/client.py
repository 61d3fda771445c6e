# SPDX-License-Identifier: Apache-2.0
"""One client's part of a round: load what was broadcast, train, hand back what was asked for."""

from collections.abc import Mapping

from peft import PeftModel
from torch import Tensor
from torch.utils.data import Dataset

from eigenhub.federated.local_job import LocalJob
from eigenhub.federated.local_training import LocalTraining
from eigenhub.federated.lora_keys import pair_lora_keys
from eigenhub.federated.lora_model import live_tensors, read_adapter, set_trainable, write_adapter
from eigenhub.federated.updates import ClientUpdate, fingerprint, uploaded_keys


def run_client(
    model: PeftModel,
    state: Mapping[str, Tensor],
    factors: str,
    dataset: Dataset,
    job: LocalJob,
    training: LocalTraining,
    adapter_name: str = "default",
    rank: int | None = None,
    live: Mapping[str, Tensor] | None = None,
) -> ClientUpdate:
    """Train one client and return its reply; the model keeps the client's adapter.

    Args:
        model (`PeftModel`): unwrapped, on its device.
        state (`Mapping[str, Tensor]`): the whole adapter as it was broadcast.
        factors (`str`): what to train: "A", "B" or "AB".
        dataset (`Dataset`): the client's rows.
        job (`LocalJob`): client, round, steps, seed, noise.
        training (`LocalTraining`): how to train.
        adapter_name (`str`, *optional*, defaults to `"default"`): which adapter.
        rank (`int`, *optional*): work with the first so many ranks only. The others are set to zero, where they get no
            gradient, so that the model is exactly that of the lower rank; the upload holds the first ones alone.
        live (`Mapping[str, Tensor]`, *optional*): from [`live_tensors`], where it is at hand.

    Returns:
        `ClientUpdate`: with the trained tensors on the CPU.
    """
    shared = state if rank is None else cut_to_rank(state, rank, pad=True)
    live = live if training.keeps_memory and live is not None else live_tensors(model, adapter_name)
    write_adapter(model, shared, adapter_name, live)
    train_head = training.config.train_head
    set_trainable(model, factors, adapter_name, train_head)
    outcome = training.run(model, dataset, job)
    after = read_adapter(model, adapter_name, live if training.keeps_memory else None)
    keys = uploaded_keys(after, factors, train_head)
    upload = {key: after[key] for key in keys}
    if rank is not None:
        upload = {key: tensor for key, tensor in cut_to_rank(after, rank).items() if key in upload}
    return ClientUpdate(
        client_id=job.client_id,
        round=job.round,
        state=upload,
        num_examples=len(dataset),  # type: ignore[arg-type]
        num_steps=outcome.num_steps,
        fingerprint=_frozen_fingerprint(state, shared, after, keys),
        metrics=outcome.metrics,
    )


def _frozen_fingerprint(
    state: Mapping[str, Tensor], given: Mapping[str, Tensor], after: Mapping[str, Tensor], trained: list[str]
) -> str:
    """Of the factors as they were broadcast, if training has left them alone; else of what it has made of them."""
    frozen = [key for pair in pair_lora_keys(state).values() for key in pair if key not in trained]
    if not frozen:
        return ""
    untouched = all(after[key].equal(given[key].to(after[key].dtype)) for key in frozen)
    return fingerprint(state if untouched else after, frozen)


def cut_to_rank(state: Mapping[str, Tensor], rank: int, pad: bool = False) -> dict[str, Tensor]:
    """The first rows of every A and columns of every B; what is no factor stays.

    Args:
        state (`Mapping[str, Tensor]`): of an adapter.
        rank (`int`): how many, at least 1; layers of a lower rank stay whole.
        pad (`bool`, *optional*, defaults to `False`): keep the shapes, with zeros in place of the rest.
    """
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}")
    cut = dict(state)
    for pair in pair_lora_keys(state).values():
        a, b = state[pair.A], state[pair.B]
        if pad:
            cut[pair.A], cut[pair.B] = a.clone(), b.clone()
            cut[pair.A][rank:] = 0
            cut[pair.B][:, rank:] = 0
        else:
            cut[pair.A], cut[pair.B] = a[:rank], b[:, :rank]
    return cut
