# SPDX-License-Identifier: Apache-2.0
"""Heads: what they read, in which order, and how they pool."""

import pytest
import torch
from torch.testing import assert_close
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTimeSeriesPrediction,
)

from eigenhub.models import s4d, s5_ptd
from tests.models.state_space.cases import padded, random_tokens
from tests.support.models import build


TINY = {"hidden_size": 6, "state_size": 8, "num_hidden_layers": 2}
PACKAGES = {"S5": s5_ptd, "S4D": s4d}


@pytest.fixture(params=PACKAGES)
def family(request):
    return request.param


def model(family, head, seed=0, **settings):
    package = PACKAGES[family]
    config = getattr(package, f"{family}Config")(**(TINY | settings))
    return build(getattr(package, f"{family}{head}"), config, seed)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_sequences_of_different_lengths(family, pooling):
    classifier = model(family, "ForSequenceClassification", vocab_size=13, num_labels=4, pooling=pooling)
    rows = [random_tokens(1, n, seed=n)[0] for n in (7, 3)]
    for side in ("left", "right"):
        ids, mask = padded(rows, side, 1)
        together = classifier(ids, attention_mask=mask).logits
        for i, row in enumerate(rows):
            assert_close(together[i], classifier(row[None]).logits[0], atol=1e-5, rtol=1e-5)
    assert torch.isfinite(classifier(ids, attention_mask=torch.zeros_like(mask)).logits).all()


def test_pooling_by_hand(family):
    classifier = model(family, "ForSequenceClassification", vocab_size=13, num_labels=4)
    ids = random_tokens(2, 5)
    mean = classifier.model(ids).last_hidden_state.mean(1)
    assert_close(classifier(ids).logits, classifier.classifier(mean))


def test_images_are_read_in_rows(family):
    images = model(family, "ForImageClassification", input_size=3, num_labels=5)
    sequences = model(family, "ForSequenceClassification", input_size=3, num_labels=5)
    sequences.load_state_dict(images.state_dict())
    pixels = torch.randn(2, 3, 4, 6)
    raster = torch.stack([pixels[:, :, i // 6, i % 6] for i in range(24)], dim=1)
    assert_close(images(pixels).logits, sequences(input_values=raster).logits)
    for wrong in (torch.randn(2, 1, 4, 4), torch.randn(3, 4, 4)):
        with pytest.raises(ValueError, match=r"`pixel_values` must have shape \(batch, 3, height, width\)"):
            images(wrong)


def test_audio_of_different_lengths(family):
    classifier = model(family, "ForAudioClassification", input_size=1, num_labels=3, bidirectional=True)
    audio = torch.randn(1, 50)
    expected = classifier(audio).logits
    assert_close(classifier(audio[..., None]).logits, expected)
    longer, mask = torch.cat([audio, torch.randn(1, 20)], 1), torch.ones(1, 70)
    mask[:, 50:] = 0
    assert_close(classifier(longer, attention_mask=mask).logits, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"`input_values` must have shape \(batch, length\) or \(batch, length, 1\)"):
        classifier(torch.randn(1, 50, 2))


def test_pairs_share_the_model(family):
    classifier = model(family, "ForSequencePairClassification", vocab_size=13, num_labels=2)
    ids = random_tokens(6, 8).view(3, 2, 8)
    a, b = (classifier.model(ids[:, i]).last_hidden_state.mean(1) for i in range(2))
    features = classifier.pair(torch.cat([a, b, a - b, a * b], -1))
    expected = classifier.classifier(torch.nn.functional.gelu(features, approximate="tanh"))
    assert_close(classifier(ids).logits, expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match=r"`input_ids` must have shape \(batch, 2, length, ...\), got \(6, 8\)"):
        classifier(ids.flatten(0, 1))


def test_losses(family):
    ids = random_tokens(4, 5)
    single = model(family, "ForSequenceClassification", vocab_size=13, num_labels=3)
    output = single(ids, labels=torch.tensor([0, 2, 1, 1]))
    assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 2, 1, 1])))
    values = torch.randn(4)
    regression = model(family, "ForSequenceClassification", vocab_size=13, num_labels=1)
    output = regression(ids, labels=values)
    assert_close(output.loss, (output.logits[:, 0] - values).square().mean())
    many = model(
        family, "ForSequenceClassification", vocab_size=13, num_labels=3, problem_type="multi_label_classification"
    )
    labels = torch.randint(0, 2, (4, 3)).float()
    output = many(ids, labels=labels)
    assert_close(output.loss, torch.nn.functional.binary_cross_entropy_with_logits(output.logits, labels))


def test_values_may_be_integers_or_half(family):
    classifier = model(family, "ForSequenceClassification", input_size=2)
    values = torch.randint(0, 5, (1, 6, 2))
    assert_close(classifier(input_values=values).logits, classifier(input_values=values.float()).logits)


def test_auto_classes(family):
    package = PACKAGES[family]
    config_class = getattr(package, f"{family}Config")
    tokens, values = config_class(**TINY, vocab_size=5), config_class(**TINY, input_size=1)
    for auto, head, config in (
        (AutoModel, "Model", tokens),
        (AutoModelForCausalLM, "ForCausalLM", tokens),
        (AutoModelForSequenceClassification, "ForSequenceClassification", tokens),
        (AutoModelForImageClassification, "ForImageClassification", values),
        (AutoModelForAudioClassification, "ForAudioClassification", values),
    ):
        assert type(auto.from_config(config)) is getattr(package, f"{family}{head}")
    if family == "S5":
        assert type(AutoModelForTimeSeriesPrediction.from_config(values)) is s5_ptd.S5ForTimeSeriesRegression
    assert config_class.model_type == {"S5": "s5_ptd", "S4D": "s4d"}[family]


def test_half_the_rate_with_twice_the_step(family):
    """A slow wave sampled half as often looks the same to a model whose steps are twice as long."""
    settings = {"init": "legs", "state_size": 4, "dt_min": 0.01, "dt_max": 0.02}
    settings |= {"c_init": "complex_normal", "num_blocks": 1} if family == "S5" else {}
    audio = model(family, "ForAudioClassification", input_size=1, num_labels=3, **settings)
    wave = torch.sin(0.01 * torch.arange(800.0))[None]
    full = audio(wave).logits
    without = audio(wave[:, ::2]).logits
    audio.config.step_rescale = 2.0
    rescaled = audio(wave[:, ::2]).logits
    assert (rescaled - full).abs().max() < 0.2 * (without - full).abs().max()
