# SPDX-License-Identifier: Apache-2.0
"""`generate` of both families: the state in place of a growing cache changes no token."""

import pytest
import torch
from transformers import DynamicCache

from eigenhub.models.state_space.cache import StateSpaceCache
from tests.models.state_space.cases import language_model, padded, random_tokens


@pytest.fixture(params=["s5", "s4d"])
def model(request):
    return language_model(request.param)


def generate(model, ids, seed=0, **settings):
    torch.manual_seed(seed)
    return model.generate(ids, max_new_tokens=6, **({"do_sample": False} | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3},
        {"num_beams": 4, "num_return_sequences": 2, "do_sample": True},
        {"do_sample": True, "num_return_sequences": 3, "top_k": 5},
        {"repetition_penalty": 1.3},
    ],
)
def test_the_cache_changes_no_token(model, settings):
    ids = random_tokens(2, 7)
    cached = generate(model, ids, **settings)
    assert torch.equal(cached, generate(model, ids, use_cache=False, **settings))
    assert cached.shape == (2 * settings.get("num_return_sequences", 1), 13)


def test_scores_with_and_without_cache(model):
    ids = random_tokens(2, 7)
    settings = {"return_dict_in_generate": True, "output_logits": True}
    cached, plain = (generate(model, ids, use_cache=use, **settings) for use in (True, False))
    for found, expected in zip(cached.logits, plain.logits, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert isinstance(cached.past_key_values, model.cache_class)
    assert cached.past_key_values.get_seq_length() == 12  # the last token has not been read


@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_prefill_in_chunks(model, chunk):
    ids, mask = padded([random_tokens(1, n)[0] for n in (7, 2)], "left", 1)
    expected = generate(model, ids, attention_mask=mask)
    assert torch.equal(generate(model, ids, attention_mask=mask, prefill_chunk_size=chunk), expected)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_batch_of_prompts_padded_on_the_left(model, use_cache):
    rows = [random_tokens(1, n, seed=n)[0] for n in (8, 3, 5)]
    ids, mask = padded(rows, "left", 1)
    together = generate(model, ids, attention_mask=mask, use_cache=use_cache)
    beams = generate(model, ids, attention_mask=mask, use_cache=use_cache, num_beams=2)
    for i, row in enumerate(rows):
        assert torch.equal(together[i, 8:], generate(model, row[None])[0, len(row) :])
        assert torch.equal(beams[i, 8:], generate(model, row[None], num_beams=2)[0, len(row) :])


def test_resuming_from_a_cache(model):
    ids = random_tokens(2, 5)
    straight = model.generate(ids, max_new_tokens=8, do_sample=False)
    cache = model.cache_class(2)
    first = model.generate(ids, max_new_tokens=3, do_sample=False, past_key_values=cache)
    assert cache.get_seq_length() == 7
    second = model.generate(first, max_new_tokens=5, do_sample=False, past_key_values=cache)
    assert torch.equal(second, straight)


def test_generation_from_embeddings(model):
    ids = random_tokens(2, 5)
    embeds = model.get_input_embeddings()(ids)
    found = model.generate(inputs_embeds=embeds, max_new_tokens=6, do_sample=False)
    assert torch.equal(found, generate(model, ids)[:, 5:])


def test_logits_to_keep(model):
    ids = random_tokens(2, 6)
    with torch.no_grad():
        everything = model(ids).logits
        assert torch.equal(model(ids, logits_to_keep=2).logits, everything[:, -2:])
        assert torch.equal(model(ids, logits_to_keep=torch.tensor([1, 4])).logits, everything[:, [1, 4]])


def test_loss_is_that_of_the_next_token(model):
    ids = random_tokens(2, 6)
    labels = ids.clone()
    labels[0, 3] = -100
    with torch.no_grad():
        output = model(ids, labels=labels)
    rows, targets = output.logits[:, :-1].reshape(-1, 13), labels[:, 1:].reshape(-1)
    expected = torch.nn.functional.cross_entropy(rows, targets, ignore_index=-100)
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("kind", ["static", "offloaded", "quantized", "sliding_window"])
def test_other_caches_are_refused(model, kind):
    with pytest.raises(ValueError, match="cache_implementation"):
        generate(model, random_tokens(1, 3), cache_implementation=kind)


def test_a_foreign_cache_object_is_refused(model):
    with pytest.raises(ValueError, match="`past_key_values` must be a .*Cache, got DynamicCache"):
        generate(model, random_tokens(1, 3), past_key_values=DynamicCache())


def test_assisted_decoding_is_refused(model):
    with pytest.raises(ValueError, match="stateful"):
        generate(model, random_tokens(1, 3), prompt_lookup_num_tokens=2)


def test_a_step_costs_the_same_after_any_prompt(model):
    """One decoding step runs the same operations on tensors of the same sizes, however long the prompt was."""
    sizes = []
    for length in (2, 300):
        with torch.no_grad():
            cache = model(random_tokens(1, length)).past_key_values
            with torch.profiler.profile(record_shapes=True) as profile:
                model(random_tokens(1, 1), past_key_values=cache)
        sizes.append([(event.name, event.input_shapes) for event in profile.events()])
    assert sizes[0] == sizes[1]


def test_discrete_matrices_are_kept_until_a_parameter_changes(model):
    ids = random_tokens(1, 4)
    before = generate(model, ids, return_dict_in_generate=True, output_logits=True).logits[0]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("log_step", "inv_dt", ".B")):
                parameter.mul_(1.1)
    after = generate(model, ids, return_dict_in_generate=True, output_logits=True).logits[0]
    fresh = type(model)(model.config).eval()
    fresh.load_state_dict(model.state_dict())
    assert not torch.equal(after, before)
    assert torch.equal(after, generate(fresh, ids, return_dict_in_generate=True, output_logits=True).logits[0])


def test_tied_heads():
    for family in ("s5", "s4d"):
        model = language_model(family, tie_word_embeddings=True)
        assert model.lm_head.weight is model.get_input_embeddings().weight
        model.resize_token_embeddings(20)
        assert model.lm_head.weight is model.get_input_embeddings().weight
        assert model(random_tokens(1, 3)).logits.shape == (1, 3, 20)
        assert generate(model, random_tokens(1, 3)).shape == (1, 9)


def test_batch_select_and_repeat():
    cache = StateSpaceCache(1)
    cache.batch_repeat_interleave(2)
    cache.batch_select_indices(torch.tensor([0]))
    assert cache.batch_size == -1
    cache.update_states([torch.arange(6.0).view(3, 1, 2)], 1)
    cache.batch_repeat_interleave(2)
    assert cache.get_state(0)[:, 0, 0].tolist() == [0, 0, 2, 2, 4, 4]
    cache.batch_select_indices(torch.tensor([5, 0]))
    assert cache.get_state(0)[:, 0, 0].tolist() == [4, 0]
    assert cache.batch_size == 2
    with pytest.raises(ValueError, match="`num_layers` must be an integer of at least 1, got 0"):
        StateSpaceCache(0)
