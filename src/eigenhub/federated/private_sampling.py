# SPDX-License-Identifier: Apache-2.0
"""Poisson batches and the random streams behind them and behind the noise."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from eigenhub.federated.extras import require


# torch keeps Mersenne Twister's 624 words, each in eight bytes, after 24 bytes of bookkeeping.
_CPU_STATE_BYTES = 5056
_HEADER, _WORDS = 24, 624


class CountedCollator:
    """A collator that also tells how many examples a batch holds and lets empty batches pass.

    Args:
        collate (`Callable[[list], Any]`): collator of non-empty batches.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, examples: list[Any]) -> tuple[int, Any]:
        return len(examples), self.collate(examples) if examples else None


class IndexedExamples:
    """A data set read one example at a time: some batched readers cannot read an empty batch.

    Args:
        dataset (`Sequence`): anything with a length and items.
    """

    def __init__(self, dataset: Sequence[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


def poisson_loader(
    dataset: Sequence[Any],
    collate: Callable[[list[Any]], Any],
    sample_rate: float,
    num_steps: int,
    generator: torch.Generator,
) -> DataLoader:
    """Batches to which each example belongs with probability `sample_rate`, independently of all others.

    Args:
        dataset (`Sequence`): the examples.
        collate (`Callable[[list], Any]`): collator of non-empty batches.
        sample_rate (`float`): the probability, in (0, 1].
        num_steps (`int`): number of batches.
        generator (`torch.Generator`): source of the choice, on the CPU.

    Returns:
        `DataLoader` of pairs: number of examples, collated batch or `None` if it is empty.
    """
    sampling = require("opacus.utils.uniform_sampler", "Private training")
    sampler = sampling.UniformWithReplacementSampler(
        num_samples=len(dataset), sample_rate=sample_rate, steps=num_steps, generator=generator
    )
    # A generator of its own: the loader draws a seed for workers, and the global stream belongs to the user.
    return DataLoader(
        IndexedExamples(dataset),  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=CountedCollator(collate),
        generator=torch.Generator(),
    )


def random_stream(device: torch.device | str, seed: int | None = None, key: Sequence[int] = ()) -> torch.Generator:
    """A generator for noise or sampling.

    Without a seed its state comes from the operating system's entropy. On the CPU all of the state is filled:
    `manual_seed` there uses 32 bits of its argument only, few enough to try every noise that a client can have added.

    Args:
        device (`torch.device` or `str`): where the numbers are drawn.
        seed (`int`, *optional*): for a repeatable stream.
        key (`Sequence[int]`, *optional*): with a seed, numbers that set streams apart; two equal streams of noise would
            cancel in a difference.
    """
    generator = torch.Generator(device)
    if seed is not None:
        # as a spawn key: appended to the seed, (1, 0) would be the same stream as (1,)
        words = np.random.SeedSequence(seed, spawn_key=tuple(key)).generate_state(1, np.uint64)
        return generator.manual_seed(int(words[0]) >> 1)
    generator.manual_seed(secrets.randbits(63))
    state = generator.get_state()
    if generator.device.type == "cpu" and len(state) == _CPU_STATE_BYTES:
        words = np.frombuffer(secrets.token_bytes(4 * _WORDS), dtype=np.uint32).astype(np.uint64)
        state[_HEADER : _HEADER + 8 * _WORDS] = torch.from_numpy(words.view(np.uint8).copy())
        generator.set_state(state)
    return generator
