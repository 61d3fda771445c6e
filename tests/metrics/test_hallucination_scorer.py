# SPDX-License-Identifier: Apache-2.0
"""The scorer against passes over single texts without padding, in five architectures."""

import dataclasses
import json
import math

import pytest
import torch
from torch.testing import assert_close

from eigenhub.metrics import HallucinationScorer, abstain_above, best_of_k, eigenscore
from eigenhub.metrics.answer_statistics import (
    common_subsequence,
    lexical_similarity,
    mode_share,
    rouge_l,
    token_statistics,
)
from eigenhub.metrics.answers import cut_at_end
from tests.metrics.language_models import ARCHITECTURES
from tests.support.models import tiny_tokenizer


EOS, PAD = 3, 1
PROMPTS = [[2, 9, 10, 11, 12], [2, 20], [2, 30, 31, 32]]
SAMPLES = [
    [[5, 6, 7, EOS], [5, 6, EOS], [8, EOS], [5, 6, 7, EOS]],
    [[40, 41, 42, 43, 44, EOS], [EOS], [40, EOS]],
    [[50, 51], [52, 53, 54], [50, 51], [55, EOS], [56, EOS]],
]
NUMBERS = (
    "eigenscore", "spectrum", "length_normalized_entropy", "mean_token_entropy", "sequence_log_probs",
    "one_minus_mode_share", "lexical_similarity", "mean_length",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def scorer_of(name, tokenizer, **options):
    return HallucinationScorer(ARCHITECTURES[name](), tokenizer, **{"max_new_tokens": 6, "num_samples": 4, **options})


def by_hand(model, prompt, answers, index, token):
    """One text at a time: states of the answer and what its tokens cost."""
    rows, log_probs, entropies = [], [], []
    for answer in answers:
        with torch.no_grad():
            out = model(input_ids=torch.tensor([prompt + answer]), output_hidden_states=True)
        states = out.hidden_states[index][0, len(prompt) :]
        rows.append(
            {"last": states[-1], "mean": states.mean(0), "mean_last": (states.mean(0) + states[-1]) / 2}[token]
        )
        predicted = out.logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        log_probs.append(predicted[range(len(answer)), answer].sum().item())
        entropies.append(-(predicted.exp() * predicted).sum(-1).mean().item())
    return torch.stack(rows), log_probs, entropies


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("layer", "token", "index"), [("middle", "last", 2), ("penultimate", "mean_last", 2), (1, "mean", 1)]
)
def test_scores_are_those_of_texts_read_alone(name, layer, token, index, tokenizer):
    scorer = scorer_of(name, tokenizer, layer=layer, token=token, convention="sample")
    for score, prompt, answers in zip(scorer.score(PROMPTS, SAMPLES), PROMPTS, SAMPLES, strict=True):
        rows, log_probs, entropies = by_hand(scorer.model, prompt, answers, index, token)
        expected, spectrum = eigenscore(rows, "sample", return_spectrum=True)
        assert score.eigenscore == pytest.approx(expected.item(), abs=1e-4)
        assert_close(torch.tensor(score.spectrum, dtype=torch.float64), spectrum, rtol=1e-3, atol=1e-6)
        assert score.sequence_log_probs == pytest.approx(log_probs, abs=1e-4)
        assert score.mean_token_entropy == pytest.approx(sum(entropies) / len(entropies), abs=1e-4)
        lengths = [len(answer) for answer in answers]
        per_token = [-p / n for p, n in zip(log_probs, lengths, strict=True)]
        assert score.length_normalized_entropy == pytest.approx(sum(per_token) / len(per_token), abs=1e-4)
        assert score.lengths == lengths and score.sample_ids == answers
    assert [score.num_distinct for score in scorer.score(PROMPTS, SAMPLES)] == [3, 3, 4]


def assert_same(first, second, tolerance=1e-4):
    for a, b in zip(first, second, strict=True):
        assert a.samples == b.samples and a.sample_ids == b.sample_ids and a.empty == b.empty
        for field in NUMBERS:
            assert getattr(a, field) == pytest.approx(getattr(b, field), abs=tolerance)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sampling_then_scoring_is_scoring_the_samples(name, tokenizer):
    scorer = scorer_of(name, tokenizer, temperature=2.0, top_k=50, seed=0)
    texts = ["the cat", "a much longer question about a dog", "b"]
    drawn = scorer.generate_and_score(texts)
    assert [len(score.samples) for score in drawn] == [4, 4, 4] and len({*drawn[0].samples}) > 1
    assert all(isinstance(score.greedy, str) for score in drawn)
    assert_same(drawn, scorer.score(texts, [score.sample_ids for score in drawn]))
    assert_same(drawn, scorer.generate_and_score(texts))  # the seed
    scorer.batch_size = 1
    assert_same(drawn, scorer.score(texts, [score.sample_ids for score in drawn]))


def test_greedy_and_global_generators(tokenizer):
    scorer = scorer_of("llama", tokenizer, temperature=2.0, top_k=0, seed=3)
    prompt = [2, 9, 10]
    state = torch.random.get_rng_state()
    (score,) = scorer.generate_and_score([prompt])
    assert torch.equal(torch.random.get_rng_state(), state)
    expected = scorer.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=6, eos_token_id=EOS)
    assert score.greedy == tokenizer.decode(expected[0, 3:], skip_special_tokens=True)
    scorer.greedy = False
    assert scorer.generate_and_score([prompt])[0].greedy is None
    scorer.seed = None
    scorer.generate_and_score([prompt])
    assert not torch.equal(torch.random.get_rng_state(), state)


def test_texts_get_an_end_and_empty_answers_are_marked(tokenizer):
    scorer = scorer_of("llama", tokenizer)
    (score,) = scorer.score(["the cat"], [["the dog", "", "the dog"]])
    ids = tokenizer("the dog", add_special_tokens=False)["input_ids"]
    assert score.sample_ids == [[*ids, EOS], [EOS], [*ids, EOS]]
    assert score.empty == [False, True, False] and score.samples[1] == ""
    assert (score.num_distinct, score.one_minus_mode_share) == (2, pytest.approx(1 / 3))
    same = scorer.score(["the cat"], [[[*ids, EOS, 7, 8], [], [*ids, EOS, EOS]]])  # padding behind the end
    assert_same([score], same)


def test_pad_may_be_the_end(tokenizer):
    other = tiny_tokenizer()
    other.pad_token = other.eos_token
    assert_same(
        scorer_of("llama", tokenizer).score(PROMPTS, SAMPLES), scorer_of("llama", other).score(PROMPTS, SAMPLES)
    )
    assert cut_at_end([5, EOS, EOS], (EOS,)) == [5, EOS] and cut_at_end([5, 6], (EOS,)) == [5, 6]
    assert cut_at_end([], (EOS,)) == [] and cut_at_end([4, 7, 3], (3, 7)) == [4, 7]


def test_identical_answers_give_the_closed_form(tokenizer):
    scorer = scorer_of("gpt2", tokenizer, convention="sample")
    (score,) = scorer.score([PROMPTS[0]], [[[5, 6, EOS]] * 6])
    assert score.eigenscore == pytest.approx(math.log(1e-3), abs=1e-6)
    assert (score.num_distinct, score.one_minus_mode_share, score.lexical_similarity) == (1, 0.0, 1.0)


def test_the_model_is_left_as_it_was(tokenizer):
    scorer = scorer_of("llama", tokenizer)
    scorer.model.train()
    before = [p.detach().clone() for p in scorer.model.parameters()]
    scorer.score(PROMPTS, SAMPLES)
    assert scorer.model.training and all(
        torch.equal(a, b) for a, b in zip(before, scorer.model.parameters(), strict=True)
    )


def test_results_are_json(tokenizer):
    (score,) = scorer_of("llama", tokenizer).score(["the cat"], [["a", "b"]], greedy=["c"])
    again = json.loads(json.dumps(score.to_dict()))
    assert again.pop("mean_length") == score.mean_length and again == dataclasses.asdict(score)
    assert (score.prompt, score.greedy) == ("the cat", "c")


def test_best_of_k_and_abstaining(tokenizer):
    (score,) = scorer_of("llama", tokenizer).score(["the cat"], [["a", "b", "b", "c"]])
    chosen = dataclasses.replace(score, sequence_log_probs=[-9.0, -4.0, -4.0, -6.0], lengths=[9, 2, 2, 2])
    assert best_of_k(chosen) == score.samples[0] and best_of_k(chosen, "mode") == score.samples[1]
    low = dataclasses.replace(chosen, eigenscore=-5.0)
    high = dataclasses.replace(chosen, eigenscore=1.0)
    assert abstain_above([low, high], -5.0, by="mode") == [score.samples[1], None]
    with pytest.raises(ValueError, match="`by` must be one of log_prob, mode, got 'length'"):
        best_of_k(chosen, "length")


def test_all_answers_the_same_is_said(tokenizer):
    scorer = scorer_of("llama", tokenizer, temperature=1e-6, seed=0)
    with pytest.warns(RuntimeWarning, match="all answers to every prompt are the same"):
        scorer.generate_and_score([PROMPTS[0], PROMPTS[1]])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "`temperature` must be above 0.*got 0.0"),
        ({"top_k": 1}, "`top_k` must not be 1"),
        ({"top_p": 0.0}, "`top_p` must be above 0"),
        ({"num_samples": 1}, "`num_samples` must be at least 2.*got 1"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be at least 1, got 0"),
        ({"layer": "top"}, "`layer` must be one of middle, penultimate"),
        ({"token": "first"}, "`token` must be one of last"),
        ({"convention": "cov"}, "`convention` must be one of"),
        ({"alpha": 0.0}, "`alpha` must be positive"),
    ],
)
def test_bad_options(options, said, tokenizer):
    with pytest.raises(ValueError, match=said):
        scorer_of("llama", tokenizer, **options)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.generate_and_score(["a"], do_sample=False), "`do_sample` must be True"),
        (lambda s: s.generate_and_score(["a"], temperature=0), "`temperature` must be above 0"),
        (lambda s: s.generate_and_score(["a"], num_return_sequences=3), "`num_return_sequences` must not be given"),
        (lambda s: s.generate_and_score("a"), "`prompts` must be a list"),
        (lambda s: s.generate_and_score([]), "`prompts` must be a list"),
        (lambda s: s.score([[]], [["a", "b"]]), "`prompts` must have a token each, number 0 is empty"),
        (lambda s: s.score(["a", "b"], [["a", "b"]]), "`samples` must have an entry for each of 2 prompts, got 1"),
        (lambda s: s.score(["a"], [["a", "b"]], greedy=[]), "`greedy` must have an entry for each of 1 prompts, got 0"),
        (lambda s: s.score(["a"], [["a"]]), "`samples` must be lists of two or more answers, number 0"),
        (lambda s: s.score(["a"], ["ab"]), "`samples` must be lists of two or more answers, number 0 is 'ab'"),
    ],
)  # fmt: skip
def test_bad_calls(call, said, tokenizer):
    with pytest.raises(ValueError, match=said):
        call(scorer_of("llama", tokenizer))


def test_no_end_token_is_an_error(tokenizer):
    model = ARCHITECTURES["llama"]()
    model.generation_config.eos_token_id = None
    other = tiny_tokenizer()
    other.eos_token = None
    with pytest.raises(ValueError, match="end-of-sequence token"):
        HallucinationScorer(model, other)
    model.generation_config.eos_token_id = [3, 7]
    assert HallucinationScorer(model, other).special.eos == (3, 7)


def test_lexical_similarity():
    assert rouge_l([1, 2, 3, 4], [2, 4]) == pytest.approx(2 * 2 / 6)
    assert rouge_l([1, 2], [3]) == 0 and rouge_l([], []) == 1 and rouge_l([], [1]) == 0
    assert lexical_similarity([[1, 2], [1, 2], [3]]) == pytest.approx(1 / 3)
    assert mode_share(["a", "b", "a"]) == pytest.approx(2 / 3)


def test_the_common_subsequence_against_the_table():
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        a, b = (torch.randint(0, 5, (int(torch.randint(0, 90, (1,), generator=generator)),), generator=generator).tolist() for _ in range(2))  # fmt: skip
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
        assert common_subsequence(a, b) == table[-1][-1]


def test_tokens_that_cannot_be_cost_no_entropy():
    logits = torch.tensor([[0.0, 0.0, -float("inf")], [0.0, -float("inf"), -float("inf")]])
    log_prob, entropy = token_statistics(logits, torch.tensor([1, 0]))
    assert (log_prob, entropy) == pytest.approx((-math.log(2), math.log(2) / 2))
