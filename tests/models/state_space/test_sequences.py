# SPDX-License-Identifier: Apache-2.0
"""Pieces of a sequence, pads on either side, states: every way to read a sequence gives the same."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.models.state_space.cache import StateSpaceCache
from tests.models.state_space.cases import FAMILIES, backbone, language_model, padded, random_tokens


LENGTHS = (9, 4, 1, 7)
EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def read(model, ids, **keywords):
    with torch.no_grad():
        return model(ids, **keywords)


def in_pieces(model, ids, sizes, mask=None):
    """Outputs and cache after reading piece by piece; the mask covers all pieces so far, as in `generate`."""
    cache, outputs, seen = StateSpaceCache(2), [], 0
    for piece in ids.split(sizes, dim=1):
        seen += piece.shape[1]
        so_far = None if mask is None else mask[:, :seen]
        outputs.append(read(model, piece, past_key_values=cache, attention_mask=so_far).last_hidden_state)
    return torch.cat(outputs, dim=1), cache


@pytest.mark.parametrize("sizes", [[1] * 12, [5, 1, 1, 4, 1], [1, 11], [11, 1]])
def test_pieces_equal_the_whole(family, sizes):
    model, ids = backbone(family), random_tokens(3, 12)
    whole = read(model, ids)
    outputs, cache = in_pieces(model, ids, sizes)
    assert_close(outputs, whole.last_hidden_state, **EXACT)
    assert cache.get_seq_length() == whole.past_key_values.get_seq_length() == 12
    for index in range(2):
        assert_close(cache.get_state(index), whole.past_key_values.get_state(index), **EXACT)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_change_no_real_output_and_no_state(family, side, bidirectional):
    model = backbone(family, bidirectional=bidirectional)
    rows = [random_tokens(1, n, seed=n)[0] for n in LENGTHS]
    first, second = (read(model, ids, attention_mask=m) for ids, m in (padded(rows, side, s) for s in (1, 2)))
    _, mask = padded(rows, side, 1)
    real = mask.bool()
    assert torch.equal(first.last_hidden_state[real], second.last_hidden_state[real])  # whatever the pads hold
    for i, row in enumerate(rows):
        alone = read(model, row[None])
        assert_close(first.last_hidden_state[i][real[i]], alone.last_hidden_state[0], **EXACT)
        if not bidirectional:
            for found in (first, second):
                state = found.past_key_values.get_state(1)[i]
                assert_close(state, alone.past_key_values.get_state(1)[0], **EXACT)


@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_in_pieces(family, side):
    """Later pieces come with a state, some rows all pads."""
    model = backbone(family)
    rows = [random_tokens(1, n, seed=n)[0] for n in LENGTHS]
    ids, mask = padded(rows, side, 1)
    outputs, cache = in_pieces(model, ids, [4, 3, 1, 1], mask)
    for i, row in enumerate(rows):
        alone = read(model, row[None])
        assert_close(outputs[i][mask[i].bool()], alone.last_hidden_state[0], **EXACT)
        assert_close(cache.get_state(1)[i], alone.past_key_values.get_state(1)[0], **EXACT)


def test_a_hole_is_a_step_with_zero_input(family):
    model, ids = backbone(family), random_tokens(2, 8)
    mask = torch.ones_like(ids)
    mask[:, 3] = 0
    other = ids.clone()
    other[:, 3] = (other[:, 3] + 1) % 12 + 1
    first, second = (read(model, x, attention_mask=mask) for x in (ids, other))
    assert torch.equal(first.last_hidden_state[mask.bool()], second.last_hidden_state[mask.bool()])
    pieces, cache = in_pieces(model, ids, [2, 3, 3], mask)
    assert_close(pieces[mask.bool()], first.last_hidden_state[mask.bool()], **EXACT)
    assert_close(cache.get_state(1), first.past_key_values.get_state(1), **EXACT)


def test_without_mask_padding_pads_are_read_as_in_the_official_code(family):
    ids, mask = random_tokens(2, 6), torch.ones(2, 6)
    mask[:, 4:] = 0
    model = backbone(family, mask_padding=False)
    found = read(model, ids, attention_mask=mask)
    assert torch.equal(found.last_hidden_state, read(model, ids).last_hidden_state)


def test_states_of_every_step(family):
    model, ids = backbone(family), random_tokens(2, 7)
    output = read(model, ids, output_ssm_states=True)
    assert read(model, ids).ssm_states is None
    assert len(output.ssm_states) == 2
    for step in range(7):
        before = read(model, ids[:, : step + 1]).past_key_values
        for index in range(2):
            assert_close(output.ssm_states[index][:, step], before.get_state(index), **EXACT)


def test_states_of_both_directions(family):
    model, ids = backbone(family, bidirectional=True), random_tokens(1, 5)
    causal = backbone(family)
    states = read(model, ids, output_ssm_states=True).ssm_states[0]
    assert states.shape[:3] == (1, 5, 2)
    forward = read(causal, ids, output_ssm_states=True).ssm_states[0]
    backward = read(causal, ids.flip(1), output_ssm_states=True).ssm_states[0].flip(1)
    assert states.shape[3:] == forward.shape[2:]
    assert not torch.equal(forward, backward)


def test_gradients_flow_through_the_state_until_it_is_detached(family):
    model, ids = backbone(family).train(), random_tokens(2, 10)
    weights = torch.linspace(0.5, 1.5, 80).view(10, 8)

    def gradients(sizes, detach):
        model.zero_grad()
        cache, loss, seen = StateSpaceCache(2), 0, 0
        for piece in ids.split(sizes, dim=1):
            output = model(piece, past_key_values=cache, use_cache=True).last_hidden_state
            loss = loss + (output * weights[seen : seen + piece.shape[1]]).square().sum()
            seen += piece.shape[1]
            cache = cache.detach() if detach else cache
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    whole, pieces, cut = gradients([10], False), gradients([4, 6], False), gradients([4, 6], True)
    for name, gradient in whole.items():
        assert_close(pieces[name], gradient, atol=1e-4, rtol=1e-4)
    assert any((cut[name] - gradient).abs().max() > 1e-3 for name, gradient in whole.items())


def test_a_detached_cache_goes_its_own_way(family):
    model, ids = backbone(family), random_tokens(2, 3)
    cache = read(model, ids).past_key_values
    twin = cache.detach()
    read(model, ids, past_key_values=twin)
    twin.reset()
    assert (cache.get_seq_length(), twin.get_seq_length()) == (3, 0)
    assert cache.get_state(0) is not None and cache.has_previous_state(0) and not twin.has_previous_state(0)


def test_checkpointing_keeps_the_state(family):
    model, ids = backbone(family).train(), random_tokens(2, 6)
    model.activation_checkpointing_enable()
    cache = StateSpaceCache(2)
    model(ids[:, :4], past_key_values=cache)
    model(ids[:, 4:], past_key_values=cache).last_hidden_state.sum().backward()
    assert_close(cache.get_state(1), read(model.eval(), ids).past_key_values.get_state(1), **EXACT)


def test_cache_is_of_constant_size_and_can_be_reset(family):
    model = backbone(family)
    short, long = (read(model, random_tokens(1, n)).past_key_values for n in (2, 200))
    assert short.num_bytes == long.num_bytes > 0
    long.reset()
    assert (long.get_seq_length(), long.num_bytes, long.get_state(0)) == (0, 0, None)
    again = read(model, random_tokens(1, 2), past_key_values=long)
    assert_close(again.past_key_values.get_state(1), short.get_state(1))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"past_key_values": "x"}, "`past_key_values` must be a StateSpaceCache"),
        ({"past_key_values": StateSpaceCache(3)}, "must have 2 layers as the model has, got 3"),
        ({"attention_mask": torch.ones(2, 4)}, r"`attention_mask` must have shape \(batch, length\) = \(2, 5\)"),
        ({"attention_mask": torch.ones(2, 6)}, r"`attention_mask` must have shape \(batch, length\) = \(2, 5\)"),
        ({"attention_mask": torch.ones(2, 1, 5, 5)}, "`attention_mask` must have shape"),
        ({"inputs_embeds": torch.zeros(2, 5, 8)}, "either `input_ids` or `inputs_embeds`, got `input_ids` and"),
        ({"input_ids": None}, "either `input_ids` or `inputs_embeds`, got neither"),
        ({"input_ids": None, "input_values": torch.zeros(2, 5, 1)}, "either `input_ids` or `inputs_embeds`, got `input_"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(5, 8)}, "`inputs_embeds` must have shape"),
        ({"input_ids": torch.zeros(5, dtype=torch.long)}, "`input_ids` must have shape"),
    ],
)  # fmt: skip
def test_bad_inputs_are_named(family, keywords, message):
    with pytest.raises(ValueError, match=message):
        backbone(family)(**({"input_ids": random_tokens(2, 5)} | keywords))


def test_a_cache_of_another_batch_is_named(family):
    model = backbone(family)
    cache = read(model, random_tokens(2, 3)).past_key_values
    with pytest.raises(ValueError, match="holds states of 2 sequences, but the input has 3"):
        model(random_tokens(3, 2), past_key_values=cache)


def test_bidirectional_models_have_no_cache(family):
    model, ids = backbone(family, bidirectional=True), random_tokens(1, 3)
    assert read(model, ids).past_key_values is None
    for keywords in ({"use_cache": True}, {"past_key_values": StateSpaceCache(2)}):
        with pytest.raises(ValueError, match="need a model that has a state, but `bidirectional=True`"):
            model(ids, **keywords)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_rows_of_pads_and_empty_sequences_are_finite(family, bidirectional):
    model, ids = backbone(family, bidirectional=bidirectional), random_tokens(2, 4)
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    output = read(model, ids, attention_mask=mask)
    assert torch.isfinite(output.last_hidden_state).all()
    if not bidirectional:
        assert (output.past_key_values.get_state(0)[1] == 0).all()
    assert read(model, ids[:, :0]).last_hidden_state.shape == (2, 0, 8)
    assert read(model, ids[:0]).last_hidden_state.shape == (0, 4, 8)


def test_nan_in_the_input_is_not_hidden(family):
    model = backbone(family)
    embeds = model.get_input_embeddings()(random_tokens(1, 5)).detach()
    embeds[0, 2, 0] = torch.nan
    assert torch.isnan(read(model, None, inputs_embeds=embeds).last_hidden_state[:, 2:]).all()


def test_averaged_weights_written_into_data_are_seen(family):
    """`parameter.data.copy_` leaves version counters and addresses as they are."""
    model, average, ids = backbone(family), backbone(family, seed=1), random_tokens(2, 5)
    first = read(model, ids[:, :4])
    for parameter, mean in zip(model.parameters(), average.parameters(), strict=True):
        parameter.data.copy_(mean.data)
    found, expected = (read(m, ids[:, :4]) for m in (model, average))
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert not torch.equal(found.last_hidden_state, first.last_hidden_state)
    steps = [read(m, ids[:, 4:], past_key_values=o.past_key_values) for m, o in ((model, found), (average, expected))]
    assert torch.equal(*(step.last_hidden_state for step in steps))


def test_embeddings_in_place_of_tokens(family):
    model, ids = language_model(family), random_tokens(2, 5)
    embeds = model.get_input_embeddings()(ids)
    assert_close(read(model, None, inputs_embeds=embeds).logits, read(model, ids).logits)


def test_step_rescale_is_a_factor_on_the_time_steps(family):
    """Twice the step is what a model sees at half the sampling rate."""
    model, other = backbone(family), backbone(family)
    other.config.step_rescale = 2.0
    name = "log_step" if family.startswith("s5") else "inv_dt"
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(name):
                parameter.add_(torch.tensor(2.0).log())
    ids = random_tokens(1, 9)
    assert_close(read(other, ids).last_hidden_state, read(model, ids).last_hidden_state, **EXACT)
