# SPDX-License-Identifier: Apache-2.0
"""Losses per example: each equals transformers' own loss of that example alone."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForTokenClassification,
    BertModel,
)

from eigenhub.federated.per_example_loss import (
    check_losses,
    classification_loss,
    per_example_loss,
)
from tests.support.models import VOCABULARY, build, tiny_bert, tiny_gpt2, tiny_llama, tiny_vit


BERT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2} | {
    "vocab_size": VOCABULARY
}
TOKENS = torch.arange(4 * 7).reshape(4, 7) % VOCABULARY


def sparse_labels(classes):
    """Labels of tokens; rows carry different numbers of them."""
    labels = TOKENS % classes
    return labels.masked_fill(torch.arange(7) >= torch.tensor([[7], [5], [3], [2]]), -100)


def cases():
    tokens = {"input_ids": TOKENS}
    classes, numbers = torch.tensor([0, 2, 1, 2]), torch.tensor([0.5, -1.0, 2.0, 0.0])
    bert = BertConfig(**BERT, num_labels=5)
    return {
        "classes": (tiny_bert(num_labels=3), tokens, classes),
        "one number": (tiny_bert(num_labels=1), tokens, numbers),
        "several numbers": (
            tiny_bert(num_labels=2, problem_type="regression"), tokens, torch.stack((numbers, -numbers), 1)
        ),
        "several classes": (tiny_bert(num_labels=3), tokens, (torch.arange(12).reshape(4, 3) % 2).float()),
        "images": (tiny_vit(), {"pixel_values": torch.randn(4, 1, 8, 8)}, torch.tensor([0, 9, 3, 3])),
        "tokens": (build(BertForTokenClassification, bert), tokens, sparse_labels(5)),
        "masked tokens": (build(BertForMaskedLM, bert), tokens, sparse_labels(VOCABULARY)),
        "next token": (tiny_llama(), tokens, sparse_labels(VOCABULARY)),
        "next token, other name": (tiny_gpt2(), tokens, sparse_labels(VOCABULARY)),
    }  # fmt: skip


@pytest.mark.parametrize("name", cases())
def test_each_loss_is_that_of_the_example_alone(name):
    model, inputs, labels = cases()[name]
    losses = per_example_loss(model)(model(**inputs), labels)
    assert losses.shape == (4,) and losses.dtype == torch.float32
    for row in range(4):
        alone = {key: value[row : row + 1] for key, value in inputs.items()}
        expected = model(**alone, labels=labels[row : row + 1]).loss
        torch.testing.assert_close(losses[row], expected, rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_float32():
    model, inputs, labels = cases()["classes"]
    outputs = model.to(torch.bfloat16)(**inputs)
    losses = per_example_loss(model)(outputs, labels)
    expected = nn.functional.cross_entropy(outputs.logits.double(), labels, reduction="none")
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-6)


def test_an_adapter_does_not_hide_the_task():
    model = get_peft_model(tiny_llama(), LoraConfig(target_modules=["q_proj"]))
    assert per_example_loss(model) is per_example_loss(tiny_llama())


def test_a_class_of_another_package_goes_by_its_name():
    class OwnForCausalLM(nn.Module):
        pass

    assert per_example_loss(OwnForCausalLM()) is per_example_loss(tiny_gpt2())


def test_virtual_tokens_in_front_are_left_out():
    labels = TOKENS[:2]
    logits = torch.randn(2, 7, VOCABULARY)
    longer = torch.cat((torch.randn(2, 3, VOCABULARY), logits), dim=1)
    loss = per_example_loss(tiny_llama())
    assert torch.equal(loss(SimpleNamespace(logits=longer), labels), loss(SimpleNamespace(logits=logits), labels))


def test_a_row_without_labels_costs_nothing_and_pulls_nothing():
    logits = torch.randn(2, 7, VOCABULARY, requires_grad=True)
    labels = torch.stack((TOKENS[0], torch.full((7,), -100)))
    losses = per_example_loss(tiny_llama())(SimpleNamespace(logits=logits), labels)
    losses.sum().backward()
    assert losses[1] == 0 and not logits.grad[1].any() and logits.grad[0].any()


@pytest.mark.parametrize("model_class", [BertForQuestionAnswering, BertModel])
def test_other_tasks_ask_for_a_loss(model_class):
    with pytest.raises(ValueError, match=f"`compute_loss` must be given for {model_class.__name__}"):
        per_example_loss(build(model_class, BertConfig(**BERT)))


def test_problem_types_are_checked():
    model = tiny_bert()
    model.config.problem_type = "ranking"  # transformers itself checks at construction only
    with pytest.raises(ValueError, match="`problem_type` must be one of regression, .*; got 'ranking'"):
        per_example_loss(model)
    with pytest.raises(ValueError, match="`problem_type` must be one of regression, .*; got 'ranking'"):
        classification_loss(torch.zeros(2, 2), torch.zeros(2), "ranking")


@pytest.mark.parametrize("losses", [torch.tensor(1.0), torch.ones(3), torch.ones(4, 1), 1.0])
def test_a_loss_of_the_batch_is_refused(losses):
    with pytest.raises(ValueError, match=r"`compute_loss` must return one loss per example, shape \(4,\); got"):
        check_losses(losses, 4)
    assert check_losses(torch.ones(4), 4).shape == (4,)
