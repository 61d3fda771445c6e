# SPDX-License-Identifier: Apache-2.0
"""The embedded RoBERTa and its tokenizer, made from given sentences."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from eigenhub.embedded import roberta, sentence_batches
from eigenhub.embedded.roberta_tokenizer import SPECIAL_TOKENS, train_roberta_tokenizer
from tests.support.data import TEXTS


SMALL = {"vocab_size": 300, "hidden_size": 16, "num_layers": 1, "num_steps": 2, "head_steps": 2, "batch_size": 4}


def test_tokenizer_is_laid_out_as_robertas() -> None:
    tokenizer = train_roberta_tokenizer(TEXTS, vocab_size=300)
    assert tokenizer.convert_tokens_to_ids([*SPECIAL_TOKENS]) == [0, 1, 2, 3, 4]
    ids = tokenizer("the cat", "a dog")["input_ids"]
    assert [ids[0], ids[-1], ids.count(0), ids.count(2)] == [0, 2, 1, 3]
    assert tokenizer.decode(tokenizer("unseen Ünï 🙂")["input_ids"], skip_special_tokens=True) == " unseen Ünï 🙂"
    first, masked = (tokenizer(text)["input_ids"] for text in ("cat", "the <mask> cat"))
    assert masked[-2] == first[1] and tokenizer.mask_token_id in masked
    with pytest.raises(ValueError, match="`vocab_size` must be at least 261, got 260"):
        train_roberta_tokenizer(TEXTS, vocab_size=260)


def test_pretrained_once_per_text_and_labels(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    folder = roberta.pretrained_roberta_folder(TEXTS, **SMALL)
    labels = [0, 1, 2, 0, 1, 2]
    with_head = roberta.pretrained_roberta_folder(TEXTS, labels, **SMALL)
    without = roberta.pretrained_roberta_folder(TEXTS, labels, keep_head=False, **SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(roberta, "fit", None)  # a second training would fail
    assert roberta.pretrained_roberta_folder(TEXTS, **SMALL) == folder
    assert len({folder, with_head, without}) == 3
    tokenizer = AutoTokenizer.from_pretrained(folder)
    masked = AutoModelForMaskedLM.from_pretrained(folder)
    assert masked.config.vocab_size == len(tokenizer)
    classifier = AutoModelForSequenceClassification.from_pretrained(with_head)
    assert classifier.num_labels == 3
    linears = [name for name, module in classifier.named_modules() if isinstance(module, torch.nn.Linear)]
    assert [name for name in linears if name.endswith(roberta.TARGET_MODULES)] == [
        f"roberta.encoder.layer.0.attention.self.{name}" for name in ("query", "value")
    ]


def test_encoder_without_its_head_is_the_same_encoder(empty_cache: Path) -> None:
    labels = [0, 1] * 3
    heads = []
    encoders = []
    for keep_head in (True, False):
        folder = roberta.pretrained_roberta_folder(TEXTS, labels, keep_head=keep_head, **SMALL)
        torch.manual_seed(5)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
        encoders.append(model.roberta.state_dict())
        heads.append(model.classifier.dense.weight)
    assert all(torch.equal(tensor, encoders[1][name]) for name, tensor in encoders[0].items())
    assert not torch.equal(*heads)


def test_masked_language_model_learns(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []

    def watched(*arguments: object) -> float:
        losses.append(roberta_fit(*arguments, progress=False))
        return losses[-1]

    roberta_fit = roberta.fit
    monkeypatch.setattr(roberta, "fit", watched)
    for num_steps in (2, 150):
        roberta.pretrained_roberta_folder(TEXTS, **SMALL | {"num_steps": num_steps, "lr": 1e-2})
    assert losses[1] < losses[0] / 2


def test_masks(empty_cache: Path) -> None:
    tokenizer = train_roberta_tokenizer(TEXTS, vocab_size=300)
    batches = sentence_batches.masked_batches(TEXTS * 50, tokenizer, 100, seed=0)
    asked = kept = masked = words = 0
    for batch, _ in zip(batches, range(30), strict=False):
        inputs, labels = batch["input_ids"], batch["labels"]
        chosen = labels != sentence_batches.IGNORED
        assert not (chosen & (labels < len(SPECIAL_TOKENS))).any()
        words += int((torch.where(chosen, labels, inputs) >= len(SPECIAL_TOKENS)).sum())
        asked += int(chosen.sum())
        kept += int((inputs == labels).sum())
        masked += int((inputs == tokenizer.mask_token_id).sum())
    assert asked / words == pytest.approx(sentence_batches.MASKED_SHARE, abs=0.01)
    assert masked / asked == pytest.approx(0.8, abs=0.03)
    assert kept / asked == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("texts", "labels", "labelled", "message"),
    [
        ([], None, None, "`texts` must hold sentences to pretrain on, got 0 without text"),
        ([""], None, None, "got 1 without text"),
        (TEXTS, None, TEXTS, "`labelled_texts` holds 6 sentences and `labels` is None"),
        (TEXTS, [0, 1], None, "got 2 for 6 sentences"),
        (TEXTS, [], [], "got 0 for 0 sentences"),
        (TEXTS, [0, -1], TEXTS[:2], "`labels` must be classes from 0, got -1"),
    ],
)
def test_bad_input(empty_cache: Path, texts: list, labels: list | None, labelled: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roberta.pretrained_roberta_folder(texts, labels, labelled, **SMALL)


def test_batches_are_of_about_one_length() -> None:
    texts = ["cat " * length for length in range(1, 41)]
    tokenizer = train_roberta_tokenizer(texts, vocab_size=300)
    batches = sentence_batches.padded_batches(texts, tokenizer, 4, seed=0)
    seen = torch.cat([rows for _, rows in (next(batches) for _ in range(10))])
    assert sorted(seen.tolist()) == list(range(40))
    assert all(
        (batch["attention_mask"].sum(1) >= batch["input_ids"].shape[1] - 3).all() for batch, _ in (next(batches),)
    )
