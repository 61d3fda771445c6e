# SPDX-License-Identifier: Apache-2.0
"""Bases of directions, edits along them, and their files."""

import pytest
import torch

from eigenhub.linalg import gram_defect, subspace_angles
from eigenhub.models.stylegan2 import (
    Directions,
    LabelledDirections,
    load_directions,
    save_directions,
    sefa_directions,
)
from eigenhub.models.stylegan2.projectors import affine_of, projector_at
from tests.models.stylegan2.tiny import gaussian, generator


LAYER = "b8.conv0"


def projected(**options):
    return generator().add_projectors(rank=3, **options)


@pytest.mark.parametrize("basis", ["parameter", "jacobian", "aligned", "svd"])
def test_every_basis_is_orthonormal_and_spans_the_same(basis):
    model = projected(singular_values="learned")
    v = projector_at(model, LAYER).factors().right
    options = {"reference": gaussian(8, 3)} if basis == "aligned" else {}
    found = model.directions(LAYER, basis, **options)
    assert found.vectors.shape == (8, 3) and found.scores.shape == (3,)
    assert gram_defect(found.vectors).abs().max() < 1e-5
    assert subspace_angles(found.vectors, v).max() < 1e-3
    weight = affine_of(model, LAYER).effective_weight()
    if basis != "jacobian":
        lengths = (weight @ found.vectors).norm(dim=0)
        torch.testing.assert_close(found.scores, lengths, rtol=1e-4, atol=1e-5)
    first = model.directions(LAYER, basis, count=2, **options)
    assert torch.equal(first.vectors, found.vectors[:, :2])


def test_singular_vectors_are_known_only_if_the_values_differ():
    model = projected(singular_values="learned")
    found = model.directions(LAYER, "svd")
    v, s = projector_at(model, LAYER).factors().right, projector_at(model, LAYER).factors().values
    overlap = (found.vectors.mT @ v[:, s.argsort(descending=True)]).abs()
    torch.testing.assert_close(overlap, torch.eye(3), rtol=0, atol=1e-3)
    with pytest.warns(UserWarning, match="equal singular values, so that its singular vectors are an arbitrary basis"):
        projected().directions(LAYER, "svd")
    model = generator(projector_layers="upsample", projector_rank=3, projector_singular_values="learned")
    with pytest.warns(UserWarning, match="equal singular values"):
        model.directions(LAYER, "svd")


def test_jacobian_basis_does_not_depend_on_the_parameters_basis():
    model = projected().double()
    before = model.directions(LAYER, "jacobian", num_samples=8, eps=1e-3)
    assert (before.scores.diff() < 0).all() and before.scores.min() > 0
    projector = projector_at(model, LAYER)
    u, _, v = projector.factors()
    turn = torch.linalg.qr(gaussian(3, 3, dtype=torch.float64)).Q
    with torch.no_grad():
        projector.left.copy_(projector.map.left.right_inverse(u @ turn))
        projector.right.copy_(projector.map.right.right_inverse(v @ turn))
    after = model.directions(LAYER, "jacobian", num_samples=8, eps=1e-3, batch_size=2)
    torch.testing.assert_close(after.vectors, before.vectors, rtol=0, atol=2e-3)
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("edit", ["ws", "style"])
def test_jacobian_scores_are_those_of_automatic_differentiation(edit):
    model = projected().double()
    ws = model.mapping(gaussian(1, 6)).detach().double()
    found = model.directions(LAYER, "jacobian", ws=ws, eps=1e-4, edit=edit)
    index = model.config.layer(LAYER).ws_index
    weight = affine_of(model, LAYER).effective_weight()

    def image(shift, row):
        w = ws[row : row + 1].clone()
        if edit == "style":
            return model.synthesis(w, style_edits={LAYER: weight @ shift})
        w = torch.cat([w[:, :index], (w[:, index] + shift)[:, None], w[:, index + 1 :]], 1)
        return model.synthesis(w)

    zero = torch.zeros(8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda s: image(s, 0).flatten(), zero)
    energy = (jacobian @ found.vectors.double()).square().mean(0)
    torch.testing.assert_close(found.scores.double(), energy, rtol=1e-3, atol=1e-9)


def test_aligned_basis_is_the_closest_one():
    model = generator()
    reference = model.directions(LAYER, "svd", count=3).vectors
    model.add_projectors(rank=3)
    found = model.directions(LAYER, "aligned", reference=reference).vectors
    torch.testing.assert_close(found, reference, rtol=0, atol=1e-4)  # nothing was trained yet
    other = gaussian(8, 3)
    best = (model.directions(LAYER, "aligned", reference=other).vectors - other).norm()
    v = model.directions(LAYER).vectors
    for seed in range(20):
        assert (v @ torch.linalg.qr(gaussian(3, 3, seed=seed)).Q - other).norm() >= best - 1e-6


def test_sefa_is_the_closed_form():
    model = generator()
    found = model.directions(LAYER, "sefa", count=4)
    rows = affine_of(model, LAYER).effective_weight().double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    _, s, vh = torch.linalg.svd(rows)
    torch.testing.assert_close(found.scores.double(), s[:4].square(), rtol=1e-5, atol=0)
    torch.testing.assert_close((found.vectors.mT.double() @ vh[:4].mT).abs(), torch.eye(4).double(), rtol=0, atol=1e-4)
    both = [affine_of(model, name).effective_weight() for name in (LAYER, "b16.conv0")]
    group = sefa_directions(both, 2)
    assert group.vectors.shape == (8, 2) and not torch.allclose(group.vectors, found.vectors[:, :2], atol=1e-3)
    assert projected().directions(LAYER, "sefa").vectors.shape == (8, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "b8.conv2"}, "`layer` must be one of b4.conv1, b4.torgb, .*; got 'b8.conv2'"),
        ({"basis": "pca"}, "`basis` must be one of parameter, svd, sefa, jacobian, aligned; got 'pca'"),
        ({"count": 4}, "`count` must be between 1 and 3 for layer 'b8.conv0', got 4"),
        ({"basis": "aligned"}, r"`reference` must have shape \(8, 3\) .* got None"),
        ({"basis": "aligned", "reference": torch.zeros(8, 2)}, r"`reference` must have shape .* got \(8, 2\)"),
        ({"basis": "jacobian", "eps": 0.0}, "`eps` must be positive, got 0.0"),
        ({"basis": "jacobian", "edit": "w"}, "`edit` must be one of ws, style; got 'w'"),
        ({"layer": "b8.torgb"}, "layer 'b8.torgb' has no projector: `basis` must be 'svd', 'sefa' or 'jacobian'"),
    ],
)
def test_bad_questions(options, message):
    with pytest.raises(ValueError, match=message):
        projected().directions(**({"layer": LAYER} | options))


# ---------------------------------------------------------------- traversal
@pytest.mark.parametrize("edit", ["ws", "style"])
def test_alpha_zero_is_the_image_and_the_rest_moves(edit):
    model = projected()
    ws = model.mapping(gaussian(2, 6))
    strip = model.traverse(ws, LAYER, 1, [-4.0, 0.0, 4.0], edit=edit)
    assert strip.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(strip[:, 1], model(ws=ws).images, rtol=0, atol=1e-5)
    assert (strip[:, 0] - strip[:, 2]).abs().amax((1, 2, 3)).min() > 1e-2
    again = model.traverse(ws, LAYER, 1, torch.tensor([-4.0, 0.0, 4.0]), edit=edit, batch_size=2)
    torch.testing.assert_close(again, strip, rtol=0, atol=1e-5)


@pytest.mark.parametrize("gain", ["mean", "unit", 0.05])
def test_alpha_is_the_length_of_the_displacement_of_the_style(gain):
    model = projected(gain=gain)
    ws = model.mapping(gaussian(1, 6))
    seen = []
    hook = model.synthesis.b8.conv0.affine.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    model.traverse(ws, LAYER, 2, [0.0, 3.0], batch_size=1)
    hook.remove()
    u = projector_at(model, LAYER).factors().left[:, 2]
    torch.testing.assert_close(seen[1][0] - seen[0][0], 3.0 * u, rtol=1e-4, atol=1e-4)


def styles_of(model, **options):
    """The style of every layer, after edits, at the last of two stops."""
    ws = model.mapping(gaussian(1, 6))
    seen = {}
    hooks = [
        affine_of(model, layer.name).register_forward_hook(
            lambda m, i, o, name=layer.name: seen.setdefault(name, []).append(o.detach())
        )
        for layer in model.config.style_layers
    ]
    model.traverse(ws, LAYER, 0, [0.0, 2.0], batch_size=1, **options)
    for hook in hooks:
        hook.remove()
    return {name for name, (before, after) in seen.items() if not torch.equal(before, after)}


def test_the_published_edit_moves_two_layers_and_the_strict_one_only_its_own():
    assert styles_of(projected(), edit="ws") == {"b8.conv0", "b4.torgb"}
    assert styles_of(projected(), edit="style") == set()  # added behind the affine, to this layer alone
    model = projected()
    ws = model.mapping(gaussian(1, 6))
    strict = model.traverse(ws, LAYER, 0, [2.0], edit="style")[:, 0]
    u = projector_at(model, LAYER).factors().left[:, 0]
    expected = model(ws=ws, style_edits={LAYER: 2.0 * u}).images
    torch.testing.assert_close(strict, expected, rtol=0, atol=1e-5)


def test_given_directions_and_units():
    model = generator()  # no projector: the closed form
    ws = model.mapping(gaussian(1, 6))
    found = model.directions(LAYER, "sefa", count=2)
    by_basis = model.traverse(ws, LAYER, 1, [1.5], basis="sefa", count=2)
    torch.testing.assert_close(model.traverse(ws, LAYER, 1, [1.5], directions=found), by_basis)
    torch.testing.assert_close(model.traverse(ws, LAYER, 1, [1.5], directions=found.vectors), by_basis)
    in_w = model.traverse(ws, LAYER, 1, [1.5], directions=found, unit="w")
    moved = ws.clone()
    moved[:, 1] += 1.5 * found.vectors[:, 1]
    torch.testing.assert_close(in_w[:, 0], model(ws=moved).images, rtol=0, atol=1e-5)
    assert model.traverse(ws[:0], LAYER, 1, [1.5], directions=found).shape == (0, 1, 3, 16, 16)


def test_a_linear_generator_moves_symmetrically():
    """Small steps: images at alpha and -alpha differ from the middle by opposite amounts."""
    model = projected().double()
    ws = model.mapping(gaussian(1, 6)).double()
    strip = model.traverse(ws, LAYER, 0, [-1e-4, 0.0, 1e-4])[0]
    torch.testing.assert_close(strip[0] + strip[2] - 2 * strip[1], torch.zeros_like(strip[0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 3}, "`k` must be between 0 and 2, got 3"),
        ({"k": -1}, "`k` must be between 0 and 2, got -1"),
        ({"alphas": [float("nan")]}, "`alphas` must be finite"),
        ({"edit": "layer"}, "`edit` must be one of ws, style; got 'layer'"),
        ({"unit": "pixels"}, "`unit` must be one of style, w; got 'pixels'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"directions": torch.zeros(7, 2)}, r"`directions` must have shape \(8, count\), got \(7, 2\)"),
        ({"directions": torch.zeros(8, 2)}, "does not move the style of layer 'b8.conv0' at all: use unit='w'"),
    ],
)
def test_bad_traversals(options, message):
    model = projected()
    with pytest.raises(ValueError, match=message):
        model.traverse(model.mapping(gaussian(1, 6)), LAYER, **({"k": 0, "alphas": [1.0]} | options))


# ---------------------------------------------------------------- files
def test_directions_with_labels_come_back(tmp_path):
    found = Directions(-torch.eye(8, 3), torch.tensor([3.0, 2.0, 1.0]))
    save_directions(tmp_path / "directions", {LAYER: LabelledDirections(found, "jacobian", {1: "größer"})})
    loaded = load_directions(tmp_path / "directions")[LAYER]
    assert loaded.basis == "jacobian" and loaded.labels == {1: "größer"}
    assert torch.equal(loaded.directions.vectors, torch.eye(8, 3))  # the sign is fixed in files
    assert torch.equal(loaded.directions.scores, found.scores)


def test_bad_direction_files(tmp_path):
    found = Directions(torch.eye(8, 3), torch.ones(3))
    with pytest.raises(ValueError, match=r"`labels` of layer 'b8.conv0' must be from 0 to 2, got \[3\]"):
        save_directions(tmp_path, {LAYER: LabelledDirections(found, labels={3: "smile"})})
    save_directions(tmp_path, {LAYER: LabelledDirections(found)})
    for text in ("[", "[]", '{"b9.conv0": {"basis": "svd", "labels": {}}}', '{"b8.conv0": {}}'):
        (tmp_path / "directions.json").write_text(text)
        with pytest.raises(ValueError, match="holds no directions that can be read"):
            load_directions(tmp_path)
