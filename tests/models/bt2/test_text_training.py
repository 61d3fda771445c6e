# SPDX-License-Identifier: Apache-2.0
"""The loss against its formula and under sentence-transformers' trainer, and the evaluator against ranking by hand."""

import csv
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from torch.nn import functional as F
from torch.testing import assert_close

from eigenhub.models.bt2 import (
    BackwardCompatibilityEvaluator,
    BackwardCompatibleLoss,
    backfill_curve,
    fold,
    rank,
    update_gain,
)
from eigenhub.models.bt2.text_evaluator import CSV_FILE
from eigenhub.models.bt2.text_module import basis_transformation
from tests.models.bt2.text_cases import pairs, tiny_encoder, with_head
from tests.support.devices import require_package


pytestmark = require_package("sentence_transformers")
TEXTS = pairs(24)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return tiny_encoder(folder, 16, seed=1), tiny_encoder(folder, 12, seed=2)


@pytest.fixture
def model(encoders):
    return with_head(encoders[0])


def old_vectors(old_model, columns):
    return torch.tensor(np.stack([old_model.encode(column) for column in columns], axis=1))


def columns_of(model, rows=slice(0, 6), sides=("queries", "documents")):
    texts = [getattr(TEXTS, side)[rows] for side in sides]
    return texts, [model.preprocess(column) for column in texts]


# ---------------------------------------------------------------- the loss


def test_terms_against_plain_formulas(model, encoders):
    texts, features = columns_of(model)
    labels = old_vectors(encoders[1], texts)
    loss = BackwardCompatibleLoss(model, MultipleNegativesRankingLoss(model), l2=0.5, l3=3, temperature=10)
    terms = loss.terms(features, labels)
    queries, documents = (model(model.preprocess(column)) for column in texts)
    b, o = F.normalize(queries["compat_embedding"], dim=1), F.normalize(labels, dim=2)
    own = (10 * b @ o[:, 1].mT).log_softmax(1).diagonal()
    assert_close(terms["influence"], -own.mean())
    matches = [
        1 - F.cosine_similarity(f["compat_embedding"], labels[:, i]) for i, f in enumerate((queries, documents))
    ]
    assert_close(terms["old_match"], torch.cat(matches).mean())
    z, other = queries["sentence_embedding"], documents["sentence_embedding"]
    assert_close(terms["base"], -(20 * z @ other.mT).log_softmax(1).diagonal().mean())
    assert_close(loss(features, labels), terms["base"] + 0.5 * terms["influence"] + 3 * terms["old_match"])


def test_further_columns_are_negatives(model, encoders):
    texts, features = columns_of(model, sides=("queries", "documents", "documents"))
    texts[2], features[2] = texts[2][::-1], model.preprocess(texts[2][::-1])
    labels = old_vectors(encoders[1], texts)
    influence = BackwardCompatibleLoss(model).terms(features, labels)["influence"]
    b = F.normalize(model(model.preprocess(texts[0]))["compat_embedding"], dim=1)
    scores = 20 * b @ torch.cat([labels[:, 1], labels[:, 2]]).mT
    assert_close(influence, -scores.log_softmax(1).diagonal().mean())


def test_one_column_has_no_influence_term(model, encoders):
    texts, features = columns_of(model, sides=("documents",))
    labels = old_vectors(encoders[1], texts)
    loss = BackwardCompatibleLoss(model)
    assert set(loss.terms(features, labels)) == {"old_match"}
    assert_close(loss(features, labels), loss(features, labels[:, 0]))


def test_vectors_of_the_new_teacher_may_follow_the_old_ones(model, encoders):
    texts, features = columns_of(model)
    old, new = (old_vectors(encoder, texts) for encoder in (encoders[1], encoders[0]))
    loss = BackwardCompatibleLoss(model, l1=2.0)
    terms = loss.terms(features, torch.cat([old, new], dim=2))
    assert terms["new_teacher"].abs() < 1e-6  # the trunk is still the teacher
    assert_close(loss(features, torch.cat([old, 0 * new - new], dim=2)) - loss(features, old), torch.tensor(4.0))


def test_a_base_loss_that_runs_the_model_itself(model, encoders):
    """Cached losses cannot take embeddings; they give the same value."""
    texts, features = columns_of(model)
    labels = old_vectors(encoders[1], texts)
    direct = BackwardCompatibleLoss(model, MultipleNegativesRankingLoss(model)).terms(features, labels)
    texts, features = columns_of(model)
    cached = BackwardCompatibleLoss(model, CachedMultipleNegativesRankingLoss(model, mini_batch_size=2))
    assert_close(cached.terms(features, labels)["base"], direct["base"])


@pytest.mark.parametrize(
    "labels",
    [None, torch.zeros(6, 12), torch.zeros(6, 2, 11), torch.zeros(6, 3, 12), torch.zeros(6)],
    ids=["none", "one column", "width", "columns", "scalars"],
)
def test_labels_that_cannot_be(model, labels):
    _, features = columns_of(model)
    with pytest.raises(
        ValueError, match=r"`labels` must hold the old vectors .* of shape \(rows, 2, 12\), with those"
    ):
        BackwardCompatibleLoss(model)(features, labels)


def test_what_the_loss_refuses(model, encoders):
    with pytest.raises(ValueError, match="`model` must end with a BasisTransformation"):
        BackwardCompatibleLoss(encoders[0])
    with pytest.raises(ValueError, match="`l3` must not be negative, got -1"):
        BackwardCompatibleLoss(model, l3=-1)


def test_the_model_card_gets_settings_and_citation(model):
    loss = BackwardCompatibleLoss(model, MultipleNegativesRankingLoss(model), l3=7)
    assert loss.get_config_dict() == {
        "base_loss": "MultipleNegativesRankingLoss",
        "l1": 1.0,
        "l2": 1.0,
        "l3": 7,
        "temperature": 20.0,
    }
    assert "2211.03989" in loss.citation


# ---------------------------------------------------------------- the trainer


def training_set(old_model):
    labels = old_vectors(old_model, [TEXTS.queries, TEXTS.documents])
    return Dataset.from_dict({"query": TEXTS.queries, "document": TEXTS.documents, "label": labels.tolist()})


def trainer_for(model, encoders, folder, **options):
    settings = {
        "output_dir": str(folder),
        "max_steps": 8,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**(settings | options)),
        train_dataset=training_set(encoders[1]),
        loss=BackwardCompatibleLoss(model, MultipleNegativesRankingLoss(model)),
        evaluator=evaluator_for(encoders),
    )


def test_the_trainer_trains_the_head_and_reloads_the_best(model, encoders, tmp_path):
    """`load_best_model_at_end` reloads a module class that plain loading would refuse."""
    trainer = trainer_for(
        model,
        encoders,
        tmp_path,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=4,
        load_best_model_at_end=True,
        metric_for_best_model="eval_new_old_ndcg@10",
    )
    before = basis_transformation(model).head.compat_basis.skew.clone()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert (basis_transformation(trainer.model).head.compat_basis.skew - before).abs().max() > 1e-4
    assert trainer.state.best_model_checkpoint is not None
    assert any("eval_new_old_ndcg@10" in entry for entry in trainer.state.log_history)


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(encoders, tmp_path):
    def final(folder, resume=None, **options):
        torch.manual_seed(0)
        model = with_head(tiny_encoder(tmp_path / "fresh", 16, seed=1))
        trainer = trainer_for(model, encoders, folder, save_steps=4, lr_scheduler_type="constant", **options)
        trainer.evaluator = None
        trainer.train(resume_from_checkpoint=resume)
        return {name: value.clone() for name, value in trainer.model.state_dict().items()}

    straight = final(tmp_path / "straight")
    final(tmp_path / "broken", max_steps=4)
    resumed = final(tmp_path / "broken", resume=str(tmp_path / "broken" / "checkpoint-4"))
    for name, value in straight.items():
        assert torch.equal(resumed[name], value), name


# ---------------------------------------------------------------- the evaluator


def evaluator_for(encoders, **options):
    queries = {f"q{i}": text for i, text in enumerate(TEXTS.queries)}
    corpus = {f"d{i}": text for i, text in enumerate(TEXTS.documents)}
    relevant = {f"q{i}": [f"d{i}"] for i in range(0, len(queries), 2)}  # half of the queries have no answer
    return BackwardCompatibilityEvaluator(queries, corpus, relevant, encoders[1], **options)


def test_the_evaluator_ranks_what_it_says(model, encoders):
    evaluator = evaluator_for(encoders, old_scale=1.2, new_model=encoders[0])
    found = evaluator(model)
    assert evaluator.primary_metric == "new_old_ndcg@10" and evaluator.primary_metric in found
    old_q, new_q = encoders[1].encode_query(TEXTS.queries), model.encode_query(TEXTS.queries)
    old_d, new_d = encoders[1].encode_document(TEXTS.documents), model.encode_document(TEXTS.documents)
    for side, queries, gallery in (("old_old", old_q, old_d), ("new_old", new_q, old_d), ("new_new", new_q, new_d)):
        ranking = rank(queries, gallery, evaluator.relevance)
        assert len(ranking.ranks) == 12 and ranking.skipped == 12
        for metric in ("recall@1", "recall@10", "mrr@10", "ndcg@10"):
            assert found[f"{side}_{metric}"] == pytest.approx(ranking.metric(metric))
    curve = backfill_curve(new_q, old_d, new_d, evaluator.relevance, metric="ndcg@10", old_scale=1.2)
    assert (found["backfill_auc"], found["backfill_dip"]) == pytest.approx((curve.auc, curve.dip))
    independent = rank(
        encoders[0].encode_query(TEXTS.queries), encoders[0].encode_document(TEXTS.documents), evaluator.relevance
    )
    ends = {side.replace("_", "/"): found[f"{side}_ndcg@10"] for side in ("old_old", "new_old")}
    expected = update_gain(ends | {"new/new": independent.metric("ndcg@10")})
    assert found.get("update_gain") == (expected if expected is None else pytest.approx(expected))


def test_prompts_of_each_model_are_its_own(encoders):
    """Old vectors come from the old model's prompts, new ones from the new model's."""
    other = encoders[1]
    plain = evaluator_for(encoders)._teacher("old", other)[0]
    np.testing.assert_allclose(plain, other.encode([f"the {text}" for text in TEXTS.queries]), atol=1e-6)


def test_the_evaluator_writes_lines_and_takes_a_name(model, encoders, tmp_path):
    evaluator = evaluator_for(encoders, name="dev")
    found = evaluator(model, str(tmp_path), epoch=1, steps=5)
    evaluator(model, str(tmp_path), epoch=2, steps=10)
    assert evaluator.primary_metric == "dev_new_old_ndcg@10" and evaluator.primary_metric in found
    with (tmp_path / f"dev_{CSV_FILE}").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["steps"]) for row in rows] == [("1", "5"), ("2", "10")]
    assert math.isclose(float(rows[0]["new_old_mrr@10"]), found["dev_new_old_mrr@10"])
    assert evaluator(model)["dev_new_old_ndcg@10"] == found["dev_new_old_ndcg@10"]


def test_an_exported_model_is_evaluated_alike(model, encoders):
    evaluator = evaluator_for(encoders)
    assert evaluator(fold(model)) == pytest.approx(evaluator(model))


def test_what_the_evaluator_refuses(model, encoders):
    with pytest.raises(ValueError, match="`relevant_docs` must name documents of `corpus`, got 'd9'"):
        BackwardCompatibilityEvaluator({"q": "a"}, {"d": "b"}, {"q": ["d9"]}, encoders[1])
    with pytest.raises(ValueError, match="`relevant_docs` must name an answer"):
        BackwardCompatibilityEvaluator({"q": "a"}, {"d": "b"}, {}, encoders[1])
    wide = BackwardCompatibilityEvaluator({"q": "a"}, {"d": "b"}, {"q": ["d"]}, encoders[0])
    with pytest.raises(
        ValueError, match="`model` must begin with the 16 coordinates of the old encoder, got 12 of 20"
    ):
        wide(model)
