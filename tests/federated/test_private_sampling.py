# SPDX-License-Identifier: Apache-2.0
"""Poisson batches and random streams: rates, independence, fresh entropy, repeatability."""

import logging

import pytest
import torch

from eigenhub.federated.extras import require
from eigenhub.federated.private_sampling import poisson_loader, random_stream
from tests.federated.private_reference import lora_model, run_privately, token_data, trainable


pytest.importorskip("opacus")


def batches(rate, steps, examples=40, seed=0):
    return list(poisson_loader(list(range(examples)), list, rate, steps, random_stream("cpu", seed)))


def test_each_example_comes_at_its_rate_and_alone():
    rows = batches(0.3, 2000)
    present = torch.zeros(2000, 40)
    for step, (count, batch) in enumerate(rows):
        assert count == len(set(batch or []))
        present[step, batch or []] = 1.0
    assert torch.allclose(present.mean(0), torch.tensor(0.3), atol=5 * (0.21 / 2000) ** 0.5)
    correlation = torch.corrcoef(present.T).fill_diagonal_(0.0)
    assert correlation.abs().max() < 5.5 / 2000**0.5
    assert present.sum(1).std() == pytest.approx((40 * 0.21) ** 0.5, rel=0.08)  # batches vary in size


def test_all_examples_at_rate_one_and_none_in_empty_batches():
    assert batches(1.0, 3) == [(40, list(range(40)))] * 3
    rare = batches(1e-4, 5)
    assert rare == [(0, None)] * 5


@pytest.mark.parametrize("seed", [None, 5])
def test_noise_is_normal(seed):
    noise = torch.randn(200_000, generator=random_stream("cpu", seed), dtype=torch.float64)
    assert abs(noise.mean()) < 0.012 and noise.std() == pytest.approx(1.0, abs=0.01)
    assert (noise.abs() < 1.96).double().mean() == pytest.approx(0.95, abs=0.004)


def test_streams_with_a_seed_repeat_and_keys_set_them_apart():
    def draw(*arguments):
        return torch.rand(4, generator=random_stream("cpu", *arguments)).tolist()

    streams = [draw(1), draw(2), draw(1, (0,)), draw(1, (1,)), draw(1, (1, 0)), draw(1, (0, 1))]
    assert len({tuple(stream) for stream in streams}) == 6
    assert draw(1, (1, 0)) == draw(1, (1, 0))


def test_fresh_streams_fill_the_whole_state():
    """A generator on the CPU keeps 32 bits of a seed; all noise that these allow can be tried."""
    seeded = [torch.rand(2, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (9, 9 + 2**40)]
    assert seeded[0] == seeded[1]
    states = [random_stream("cpu").get_state() for _ in range(2)]
    words = [state[24 : 24 + 8 * 624].view(624, 8) for state in states]
    assert (words[0][:, :4] != words[1][:, :4]).any(1).all() and not words[0][:, 4:].any()
    # no seed of 32 bits leads there: the words would follow from the first one
    regenerated = torch.Generator().manual_seed(int.from_bytes(bytes(words[0][0, :4].tolist()), "little"))
    assert not torch.equal(regenerated.get_state()[24:5016].view(624, 8), words[0])


def after(seed, **settings):
    model = lora_model()
    run_privately(model, seed=seed, noise_multiplier=1.0, max_grad_norm=1.0, batch_size=4, num_steps=2, **settings)
    return torch.cat([value.flatten() for value in trainable(model).values()])


def test_the_global_seed_does_not_reach_noise_or_sampling():
    """`set_seed` at the start of every round would repeat the noise, and differences of uploads would show the data."""
    results = []
    for _ in range(2):
        torch.manual_seed(42)
        results.append(after(None))
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(42)))
    assert not torch.equal(*results)


def test_runs_with_a_seed_repeat_and_their_keys_set_them_apart():
    assert torch.equal(after(4, stream_key=(1, 2)), after(4, stream_key=(1, 2)))
    assert not torch.equal(after(4, stream_key=(1, 2)), after(4, stream_key=(2, 1)))
    assert not torch.equal(after(4), after(5))


@pytest.mark.parametrize("part", [1, 3, 100])
def test_physical_batches_change_nothing_but_memory(part):
    torch.testing.assert_close(after(4, physical_batch_size=part), after(4), rtol=1e-5, atol=1e-6)


def test_physical_batches_are_no_larger_than_asked_for():
    sizes = []

    def collate(examples):
        sizes.append(len(examples))
        return {key: torch.tensor([example[key] for example in examples]) for key in examples[0]}

    run_privately(lora_model(), token_data(), data_collator=collate, physical_batch_size=5, num_steps=2)
    assert max(sizes) <= 5 and sum(sizes) == 24


def test_a_missing_library_and_a_broken_one_differ(monkeypatch, tmp_path):
    with pytest.raises(ImportError, match=r"It needs nowhere: install it by `pip install 'eigenhub\[flower\]'`"):
        require("nowhere.inside", "It", extra="flower")
    (tmp_path / "broken_library.py").write_text("import not_there_at_all")
    (tmp_path / "chatty_library.py").write_text("import logging\nlogging.basicConfig(force=True)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        require("broken_library", "It")
    handlers = logging.getLogger().handlers[:]
    require("chatty_library", "It")
    assert logging.getLogger().handlers == handlers
