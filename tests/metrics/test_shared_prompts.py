# SPDX-License-Identifier: Apache-2.0
"""Prompts computed once and states taken on the way, against passes over the whole texts."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.metrics import HallucinationScorer, teacher_forcing
from eigenhub.metrics.answers import SpecialTokens, draw_answers
from eigenhub.metrics.drawing import GreedyRows, draw_and_read
from eigenhub.metrics.generation_record import GenerationRecord
from eigenhub.metrics.hidden_states import evaluating
from eigenhub.metrics.prompt_cache import repeated_prompts
from eigenhub.metrics.sampling import fixed_seed
from tests.metrics.language_models import ARCHITECTURES, SLIDING, lfm2
from tests.support.models import tiny_tokenizer


EOS, PAD = 3, 1
SPECIAL = SpecialTokens((EOS,), PAD)
MODELS = {**ARCHITECTURES, **SLIDING}
# longer and shorter than the window of four tokens
PROMPTS = [[2, 9, 10, 11, 12, 13, 14], [2, 20], [2, 30, 31]]
PAIRS = [
    (PROMPTS[prompt], answer)
    for prompt, answer in (
        (0, [5, 6, 7, 8, 9, 10, EOS]), (0, [5, EOS]), (0, [EOS]), (1, [40, 41, 42, 43, 44, EOS]), (1, [40]), (2, [50, 51, EOS]),
    )
]  # fmt: skip
SAMPLING = {"do_sample": True, "temperature": 2.0, "top_k": 50, "max_new_tokens": 7}


def read(model, pairs, token="mean_last"):
    with evaluating(model):
        embeddings, statistics = teacher_forcing.read_answers(model, pairs, PAD, 2, token)
    return embeddings, torch.tensor(statistics)


def draw(model, prompts=PROMPTS, num_samples=4, greedy=True, token="mean_last", seed=0, **options):
    with evaluating(model), fixed_seed(seed, torch.device("cpu")):
        return draw_and_read(model, prompts, SPECIAL, num_samples, greedy, 2, token, **{**SAMPLING, **options})


@pytest.mark.parametrize("name", MODELS)
def test_sharing_prompts_changes_no_reading(name, monkeypatch):
    model, used = MODELS[name](), []
    monkeypatch.setattr(
        teacher_forcing, "repeated_prompts", lambda *inputs: used.append(repeated_prompts(*inputs)) or used[-1]
    )
    shared = read(model, PAIRS)
    monkeypatch.setattr(teacher_forcing, "repeated_prompts", lambda *inputs: None)
    whole = read(model, PAIRS)
    assert len(used) == 1 and used[0] is not None
    for a, b in zip(shared, whole, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("token", ["last", "mean"])
def test_what_is_taken_on_the_way_is_what_a_second_reading_finds(name, token):
    model = MODELS[name]()
    drawn = draw(model, token=token)
    assert drawn.reading is not None and len({tuple(row) for row in drawn.answers[0]}) > 1
    pairs = [(prompt, row) for prompt, rows in zip(PROMPTS, drawn.answers, strict=True) for row in rows]
    embeddings, statistics = read(model, pairs, token)
    assert_close(drawn.reading[0], embeddings, rtol=1e-5, atol=1e-5)
    assert_close(torch.tensor(drawn.reading[1]), statistics, rtol=1e-5, atol=1e-5)
    alone = draw_answers(model, PROMPTS, SPECIAL, 1, do_sample=False, max_new_tokens=7)
    assert drawn.greedy == [row for (row,) in alone]
    hooks = [m for m in model.modules() if m._forward_pre_hooks]
    assert not any("GenerationRecord" in repr(hook) for m in hooks for hook in m._forward_pre_hooks.values())


@pytest.mark.parametrize(
    "options", [{"num_beams": 4}, {"use_cache": False}, {"cache_implementation": "static"}, {"guidance_scale": 1.5}]
)
def test_other_ways_to_generate_are_read_afterwards(options):
    drawn = draw(ARCHITECTURES["llama"](), **options)
    assert drawn.reading is None and [len(rows) for rows in drawn.answers] == [4, 4, 4]
    assert all(1 <= len(row) <= 7 for rows in drawn.answers for row in rows) and len(drawn.greedy) == 3


def test_a_state_that_is_not_of_attention_is_not_shared():
    model = lfm2()
    with evaluating(model):
        assert repeated_prompts(model, PROMPTS, [0, 0, 1, 2], PAD) is None
    drawn = draw(model)
    assert drawn.reading is None
    scorer = HallucinationScorer(model, tiny_tokenizer(), num_samples=3, max_new_tokens=4, temperature=2.0, seed=0)
    first = scorer.generate_and_score(PROMPTS)
    again = scorer.score(PROMPTS, [score.sample_ids for score in first])
    assert [a.eigenscore for a in first] == pytest.approx([b.eigenscore for b in again], abs=1e-5)


def test_nothing_is_shared_where_nothing_is_saved():
    model = ARCHITECTURES["llama"]()
    with evaluating(model):
        assert repeated_prompts(model, PROMPTS, [0, 1, 2], PAD) is None
        assert repeated_prompts(model, [[2], [2, 5]], [0, 0, 1], PAD) is None
        cache, mask = repeated_prompts(model, PROMPTS, [2, 0, 0, 1], PAD)
    assert cache.get_seq_length() == 6 and mask.sum(1).tolist() == [2, 6, 6, 1]
    drawn = draw(model, prompts=[[2], [2, 5]])
    assert drawn.reading is None and len(drawn.answers) == 2


def test_equal_answers_have_one_embedding():
    drawn = draw(ARCHITECTURES["gpt2"](), temperature=1e-6, num_samples=5)
    rows = drawn.reading[0].view(3, 5, -1)
    assert torch.equal(rows, rows[:, :1].expand_as(rows)) and len(set(drawn.reading[1][:5])) == 1


def test_without_a_greedy_answer_there_is_no_row_for_it():
    drawn = draw(ARCHITECTURES["llama"](), greedy=False)
    assert drawn.greedy == [None] * 3 and drawn.reading[0].shape[0] == 12


def test_greedy_rows_keep_their_best_token_only():
    scores = torch.tensor([[1.0, 3, 2], [1, 2, 3], [3, 3, 1]])
    found = GreedyRows(slice(1, None, 2))(torch.zeros(3, 1), scores)
    assert torch.equal(found[[0, 2]], scores[[0, 2]])
    assert found[1].tolist() == [-torch.inf, -torch.inf, 0.0] and scores[1, 0] == 1
    assert GreedyRows(slice(2, 3))(torch.zeros(3, 1), scores)[2].tolist() == [0.0, -torch.inf, -torch.inf]


def test_a_record_of_other_tokens_is_no_reading():
    model = ARCHITECTURES["llama"]()
    ids = torch.tensor([[5, 6, 7]])
    with evaluating(model), GenerationRecord(model, 1) as record:
        for place in range(3):
            model(input_ids=ids[:, place : place + 1])
    states, log_probs, entropies = record.answers(ids[:, 1:])
    assert states.shape == (1, 2, 16) and log_probs.shape == entropies.shape == (1, 2)
    assert record.answers(ids[:, :2]) is None and record.answers(ids) is None
