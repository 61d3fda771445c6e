# SPDX-License-Identifier: Apache-2.0
"""What the common tester does not ask: the loss term by term, any backbone, folding, what is saved, half-precision bases."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, ConvNextConfig, SwinConfig

from eigenhub.linalg import gram_defect
from eigenhub.models.bt2 import Bt2Config, Bt2EmbedderConfig, Bt2Model, class_prototypes, compat_losses
from eigenhub.nn import BasisTransformationOutput
from tests.models.bt2.tiny_images import LABELS, batch, tiny_bt2, tiny_embedder, tiny_resnet, tiny_vit
from tests.support.devices import require_package


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    model = tiny_bt2(label_smoothing=0.2, logit_scale=3.0, new_teacher_weight=0.5, old_match_weight=7.0)
    inputs = batch()
    output = model(**inputs)
    vectors = BasisTransformationOutput(output.new_embedding, output.compat_embedding, output.embedding)
    prototypes = model.old_prototypes(torch.device("cpu"))
    expected = {
        "classification": F.cross_entropy(output.logits, inputs["labels"], label_smoothing=0.2),
        **compat_losses(vectors, inputs["new_embedding"], inputs["old_embedding"], inputs["labels"], prototypes),
    }
    assert list(output.loss_terms) == ["classification", "new_teacher", "influence", "old_match"]
    for name, term in expected.items():
        torch.testing.assert_close(output.loss_terms[name], term)
    weights = {"classification": 1, "new_teacher": 0.5, "influence": 10, "old_match": 7}
    torch.testing.assert_close(output.loss, sum(weights[name] * term for name, term in expected.items()))
    logits = 3 * F.linear(output.new_embedding, model.classifier.weight)
    torch.testing.assert_close(output.logits, logits)


def test_the_loss_has_the_terms_that_the_columns_allow() -> None:
    model = tiny_bt2(prototypes=False).eval()
    inputs = batch()
    pixels = {"pixel_values": inputs["pixel_values"]}
    assert model(**pixels).loss is None and model(**pixels).loss_terms is None
    assert list(model(**pixels, labels=inputs["labels"]).loss_terms) == ["classification"]
    assert list(model(**pixels, old_embedding=inputs["old_embedding"]).loss_terms) == ["old_match"]
    taught = model(**pixels, old_embedding=inputs["old_embedding"], new_embedding=inputs["new_embedding"])
    assert list(taught.loss_terms) == ["new_teacher", "old_match"]


def test_training_without_prototypes_is_refused_unless_unweighted() -> None:
    with pytest.raises(ValueError, match="set_old_prototypes"):
        tiny_bt2(prototypes=False).train()(**batch())
    terms = tiny_bt2(prototypes=False, influence_weight=0.0).train()(**batch()).loss_terms
    assert "influence" not in terms
    with pytest.raises(ValueError, match="training with `old_dim` needs `set_old_prototypes`"):
        tiny_embedder(old_dim=4).train()(pixel_values=torch.zeros(2, 1, 8, 8), labels=torch.tensor([0, 1]))


def test_prototypes_must_fit() -> None:
    for model, shape in ((tiny_bt2(), r"\(3, 5\), got \(2, 5\)"), (tiny_embedder(), r"\(3, None\), got \(2, 5\)")):
        with pytest.raises(ValueError, match=rf"shape \(num_labels, old_dim\) = {shape}"):
            model.set_old_prototypes(class_prototypes(torch.randn(4, 5), torch.tensor([0, 1, 0, 1]), 2))


def test_wrong_teacher_vectors_are_named() -> None:
    with pytest.raises(ValueError, match=r"`old` must have shape \(6, 5\), got \(6, 4\)"):
        tiny_bt2()(**batch(old_dim=4))
    with pytest.raises(ValueError, match=r"`teacher` must have shape \(6, 6\), got \(6, 7\)"):
        tiny_bt2()(**batch(new_dim=7))


@pytest.mark.parametrize(
    ("backbone", "pooling", "size"),
    [
        (tiny_vit(), "pooler", 8),
        (tiny_vit(), "mean", 8),
        (tiny_vit(), "cls", 8),
        (tiny_resnet(), "pooler", 8),
        (tiny_resnet(), "mean", 8),
        (ConvNextConfig(num_channels=1, hidden_sizes=[4, 6], depths=[1, 1], num_stages=2, patch_size=2), "pooler", 6),
        (
            SwinConfig(
                num_channels=1, image_size=8, patch_size=2, embed_dim=4, depths=[1, 1], num_heads=[1, 1], window_size=2
            ),
            "pooler",
            8,
        ),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_any_backbone(backbone, pooling: str, size: int, tmp_path: Path) -> None:
    model = tiny_bt2(backbone, pooling=pooling).train()
    assert model.config.hidden_size == size
    model(**batch()).loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(loaded.config.backbone_config) is type(backbone)
    pixels = batch()["pixel_values"]
    assert torch.equal(loaded(pixels).embedding, model(pixels).embedding)
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(pixels).embedding, model(pixels).embedding)


@require_package("timm")
def test_timm_backbone(tmp_path: Path) -> None:
    from transformers import TimmWrapperConfig

    model = tiny_bt2(TimmWrapperConfig(architecture="resnet18", model_args={"in_chans": 1})).eval()
    assert model.config.hidden_size == 512
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded.config.backbone_config, TimmWrapperConfig)
    pixels = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(loaded(pixels).embedding, model(pixels).embedding, rtol=0, atol=1e-7)


def test_backbones_that_do_not_fit_are_explained() -> None:
    pixels = batch()["pixel_values"]
    with pytest.raises(ValueError, match="`pooling='cls'` needs a backbone with tokens, this one has maps"):
        tiny_bt2(tiny_resnet(), pooling="cls")(pixels)
    with pytest.raises(ValueError, match="`hidden_size` is 9, but the backbone's feature has 8"):
        tiny_bt2(hidden_size=9)(pixels)
    with pytest.raises(ValueError, match="`hidden_size` must be given for a backbone of type 'mobilenet_v1'"):
        Bt2Model(Bt2Config(backbone_config=AutoConfig.for_model("mobilenet_v1", depth_multiplier=0.25)))
    model = tiny_bt2()
    model.bt2.backbone.pooler = None
    with pytest.raises(ValueError, match="`pooling='pooler'` needs a backbone with a pooler_output"):
        model(pixels)


def test_default_configuration_is_a_vit_of_the_published_sizes() -> None:
    config = Bt2Config()
    assert (config.backbone.model_type, config.hidden_size, config.num_hidden_layers) == ("vit", 768, 12)
    assert (config.new_dim, config.old_dim, config.added_dim, config.scale, config.embedding_dim) == (
        128,
        128,
        32,
        2.0,
        160,
    )
    assert config.loss_weights == {"classification": 1.0, "new_teacher": 1.0, "influence": 10.0, "old_match": 5.0}
    assert Bt2EmbedderConfig().loss_weights == {"classification": 1.0, "influence": 10.0, "prototype_match": 0.0}
    assert AutoConfig.for_model("bt2", old_dim=64).old_dim == 64


def test_folded_model_gives_the_same_vectors_and_is_not_saved(tmp_path: Path) -> None:
    model = AutoModel.from_config(tiny_bt2().config).eval()
    pixels = batch()["pixel_values"]
    expected = model(pixels).embedding
    folded = copy.deepcopy(model).fold_()
    torch.testing.assert_close(folded(pixels).embedding, expected, rtol=0, atol=1e-6)
    assert folded.fold_() is folded
    half = folded.to(torch.bfloat16)(pixels.bfloat16())
    assert half.embedding.dtype == torch.bfloat16
    torch.testing.assert_close(half.embedding.float(), expected, rtol=0, atol=0.05)
    loaded_in_half = copy.deepcopy(model).to(torch.bfloat16).fold_()  # keeps its bases in float32, folds there
    torch.testing.assert_close(loaded_in_half(pixels.bfloat16()).embedding.float(), expected, rtol=0, atol=0.05)
    with pytest.raises(ValueError, match="for inference only: save it before `fold_"):
        folded.save_pretrained(tmp_path)


def test_classifier_need_not_be_saved(tmp_path: Path) -> None:
    model = tiny_bt2(save_classifier=False).eval()
    model.save_pretrained(tmp_path)
    assert "classifier.weight" not in load_file(tmp_path / "model.safetensors")
    pixels = batch()["pixel_values"]
    loaded, report = AutoModelForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {"classifier.weight"}
    assert torch.equal(loaded(pixels).embedding, model(pixels).embedding)


def test_embedding_model_loads_from_a_training_checkpoint_in_silence(tmp_path: Path) -> None:
    tiny_bt2().save_pretrained(tmp_path)
    _, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_bases_saved_in_half_precision_are_mended_on_loading(tmp_path: Path) -> None:
    model = tiny_bt2(new_dim=40, old_dim=40, added_dim=8).eval()
    model.save_pretrained(tmp_path)
    rounded = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(rounded, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match="orthonormalised again"):
        loaded = AutoModel.from_pretrained(tmp_path)
    for basis in (loaded.head.new_basis, loaded.head.compat_basis):
        assert basis.base.dtype == torch.float32
        assert gram_defect(basis.matrix().double()).abs().max() < 1e-5
    pixels = batch()["pixel_values"]
    torch.testing.assert_close(loaded(pixels).embedding, model(pixels).embedding, rtol=0, atol=0.05)


def test_old_checkpoint_names_are_still_read(tmp_path: Path) -> None:
    """Weights of the backbone under the names that transformers used before; ours are written under today's."""
    model = tiny_bt2().eval()
    model.save_pretrained(tmp_path / "now")
    model.save_pretrained(tmp_path / "then", save_original_format=True)
    now, then = (load_file(tmp_path / name / "model.safetensors") for name in ("now", "then"))
    assert now.keys() == model.state_dict().keys() != then.keys()
    pixels = batch()["pixel_values"]
    loaded = AutoModel.from_pretrained(tmp_path / "then")
    assert torch.equal(loaded(pixels).embedding, model(pixels).embedding)


def test_oca_and_bct_are_settings_of_the_embedder() -> None:
    inputs = {name: tensor for name, tensor in batch().items() if name in ("pixel_values", "labels")}
    old = torch.randn(9, 4)
    prototypes = class_prototypes(old, torch.arange(9) % LABELS, LABELS)
    weights = {"classification_weight": 5.0, "influence_weight": 10.0, "prototype_weight": 5.0}
    oca = tiny_embedder(old_dim=4, orthogonal=True, **weights)
    oca.set_old_prototypes(prototypes)
    output = oca(**inputs)
    assert list(output.loss_terms) == ["classification", "influence", "prototype_match"]
    compat = output.embedding[:, :4]
    match = 1 - F.cosine_similarity(compat, prototypes.vectors[inputs["labels"]]).mean()
    torch.testing.assert_close(output.loss_terms["prototype_match"], match)
    logits = F.linear(output.embedding @ oca.rotation.matrix().mT, oca.classifier.weight)
    torch.testing.assert_close(output.logits, logits)
    total = 5 * output.loss_terms["classification"] + 10 * output.loss_terms["influence"] + 5 * match
    torch.testing.assert_close(output.loss, total)
    bct = tiny_embedder(embedding_dim=4, old_dim=4)
    bct.set_old_prototypes(prototypes)
    assert list(bct(**inputs).loss_terms) == ["classification", "influence"]


def test_classes_the_old_data_lacks_are_left_out() -> None:
    model = tiny_embedder(old_dim=4, prototype_weight=1.0)
    with pytest.warns(UserWarning, match="1 of 3 classes have no items"):
        model.set_old_prototypes(class_prototypes(torch.randn(4, 4), torch.tensor([0, 1, 0, 1]), LABELS))
    pixels = batch(2)["pixel_values"]
    for labels in ([2, 2], [0, 2]):
        output = model(pixels, labels=torch.tensor(labels))
        output.loss.backward()
        assert torch.isfinite(output.loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
