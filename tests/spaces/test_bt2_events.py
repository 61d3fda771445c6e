# SPDX-License-Identifier: Apache-2.0
"""The events of the BT2 Space called as functions: three indexes against brute force, curves, lists, pictures."""

import re
from base64 import b64decode
from html import unescape as html_unescape
from io import BytesIO

import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageOps

from eigenhub.embedded.glyphs import draw_glyphs
from eigenhub.models.bt2 import Relevance, backfill_curve, rank
from tests.models.bt2.text_cases import tiny_encoder
from tests.spaces.checks import check_endpoints_are_described
from tests.spaces.conftest import modules_of, require_listed
from tests.support.devices import require_package


pytestmark = [require_listed("bt2"), require_package("sentence_transformers"), require_package("faiss")]
OLD, NEW = "embedded:old", "embedded:new"


@pytest.fixture(scope="module")
def bt2():
    with modules_of("bt2") as modules:
        yield modules


@pytest.fixture(scope="module")
def text(bt2):
    return bt2.upgrade.text_upgrade(OLD, NEW)


@pytest.fixture(scope="module")
def images(bt2):
    return bt2.upgrade.image_upgrade()


def brute_force(upgrade, query, share, scale):
    """Positions of the best items of each index."""
    m = upgrade.material
    old_query, new_query = m.encode(query)
    mixed = np.zeros_like(m.items)
    mixed[:, : m.old.dim] = np.float32(scale) * m.old_items
    new = upgrade.order[: round(share * len(m.items))]
    mixed[new] = m.items[new]
    scores = {"before": old_query @ m.old_items.T, "mixed": new_query @ mixed.T, "after": new_query @ m.items.T}
    return {state: np.argsort(-rows[0])[:5].tolist() for state, rows in scores.items()}, set(new.tolist())


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("share", [0.4, 1.0, 0.0, 0.7])
def test_the_three_indexes_answer_like_brute_force(text, share, calibrated):
    """One index goes forth and back between the shares, by real backfills and rollbacks."""
    query = "Return the current time in seconds."
    found = text.search(query, share, calibrated)
    scale = text.calibration.old_scale if calibrated else 1.0
    expected, new = brute_force(text, query, share, scale)
    for state, positions in expected.items():
        assert [hit.position for hit in found[state]] == positions, state
    assert [hit.is_new for hit in found["mixed"]] == [hit.position in new for hit in found["mixed"]]
    assert not any(hit.is_new for hit in found["before"]) and all(hit.is_new for hit in found["after"])
    assert text.mixed.status().share == pytest.approx(share, abs=1e-3)


def test_images_too(images):
    image = Image.fromarray(np.uint8(255 * np.clip(images.material.contents[40][0], 0, 1)))
    found = images.search(image, 0.4, True)
    expected, _ = brute_force(images, image, 0.4, images.calibration.old_scale)
    assert {state: [hit.position for hit in hits] for state, hits in found.items()} == expected


@pytest.mark.parametrize("kind", ["text", "images"])
def test_the_embedded_upgrades_are_upgrades(bt2, kind):
    """Better at once, much better in the end, and with the factor no worse on the way than at the start."""
    found = bt2.api.curve(kind)
    assert found["now"] > found["before"] + 0.02
    assert found["after"] > found["now"] + 0.05
    assert found["after"] > found["independent"] - 0.02
    assert min(found["calibrated"]) >= 0.95 * found["calibrated"][0]
    assert found["plain"][0] == found["calibrated"][0] == pytest.approx(found["now"])
    assert found["plain"][-1] == found["calibrated"][-1] == pytest.approx(found["after"])
    assert len(found["shares"]) == len(found["plain"]) == 11


def test_the_curve_is_judged_on_queries_that_did_not_choose_the_factor(text):
    m, rest = text.material, np.arange(len(text.material.queries)) % 4 != 0
    relevance = Relevance.of_lists([[row] for row in np.flatnonzero(rest)], len(m.items))
    expected = backfill_curve(
        m.queries[rest],
        m.old_items,
        m.items,
        relevance,
        metric="recall@10",
        shares=np.linspace(0, 1, 11).tolist(),
        order=text.order,
    )
    assert text.curves["plain"].values == pytest.approx(expected.values)
    assert text.figures["before"] == rank(m.old_queries[rest], m.old_items, relevance).metric("recall@10")


def test_no_encoder_has_seen_the_texts_that_are_searched(bt2, text):
    fit_pairs, held_out = bt2.embedded_text.text_splits()
    assert not set(fit_pairs.documents) & set(held_out.documents) and not set(fit_pairs.queries) & set(
        held_out.queries
    )
    assert text.material.contents == held_out.documents
    assert len(held_out) == pytest.approx((len(fit_pairs) + len(held_out)) / 4, abs=1)


def test_records_for_programs(bt2, text):
    found = bt2.api.search_text("Return the current time in seconds.", 40)
    assert set(found) == {"before", "mixed", "after"}
    for records in found.values():
        assert [record["rank"] for record in records] == [1, 2, 3, 4, 5]
        assert all(set(record) == {"rank", "text", "score", "is_new"} for record in records)
        scores = [record["score"] for record in records]
        assert scores == sorted(scores, reverse=True)
    image, _ = bt2.page.sample_images()[0]
    assert set(bt2.api.search_images(image)["mixed"][0]) == {"rank", "label", "score", "is_new"}


def test_the_text_tab_shows_a_known_question(bt2, text):
    summary, query, verdict, *lists, curve = bt2.page.show_text(OLD, NEW, "", 40, True)
    assert query.value in dict(query.choices) and len(query.choices) == 12
    assert lists[2].count('class="right"') == 1, "the page begins with a question that is answered"
    assert "Recall@10 before" in summary and "64 to 128 dimensions" in summary
    assert verdict.startswith("First right answer")
    assert all(html.count("<li") == 5 for html in lists)
    assert [line.get_label() for line in curve.axes[0].lines[:3]] == [
        "as it is",
        f"old vectors times {text.calibration.old_scale:g}",
        "before the change",
    ]
    assert list(curve.axes[0].lines[0].get_ydata()) == pytest.approx(text.curves["plain"].values)


def test_a_right_answer_is_marked_where_it_is_found(bt2, text):
    _, held_out = bt2.embedded_text.text_splits()
    row = next(
        row for row, query in enumerate(held_out.queries) if text.search(query, 1.0, True)["after"][0].position == row
    )
    query, document = held_out.queries[row], held_out.documents[row]
    verdict, _, _, after, _ = bt2.page.search_text(query, 100, True, OLD, NEW)
    assert bt2.material_text.right_answer(query) == document
    assert "new index, new query: **1**" in verdict
    assert after.count('class="right"') == 1 and after.count("new vector") == 5


def test_words_of_ones_own_have_no_known_answer(bt2):
    verdict, *lists, _ = bt2.page.search_text("how do I parse a date", 40, True, OLD, NEW)
    assert "is not known" in verdict and not any('class="right"' in html for html in lists)


def test_texts_are_escaped_and_cut(bt2, text):
    long = "<b>" + "word " * 60
    html = bt2.reports._hit(long, bt2.upgrade.Hit(0, 0.5, True), None)
    assert "<b>" not in html.replace('<b class="right">', "") and "&lt;b&gt;" in html and html.count("word") < 40
    assert "…" in html and "new vector" in html


def test_the_image_tab(bt2, images):
    summary, samples, image, label, verdict, *rows, _ = bt2.page.show_images(40, True)
    assert "Mean average precision before" in summary and len(samples) == 12
    assert len({label for _, label in samples}) == 12
    assert image.size == (112, 112) and label == samples[0][1]
    assert verdict.startswith("First right answer")
    found = images.search(image, 0.4, True)
    for state, html in zip(("before", "mixed", "after"), rows, strict=True):
        shown = [html_unescape(name) for name in re.findall(r"<p>(.*?)</p>", html)]
        assert shown == [images.material.labels[hit.position] for hit in found[state]]
        assert html.count('class="is-right"') == shown.count(label)
        assert html.count("new vector") == sum(hit.is_new for hit in found[state])
        for hit, picture in zip(found[state], re.findall(r'base64,([^"]+)"', html), strict=True):
            pixels = np.asarray(Image.open(BytesIO(b64decode(picture))))
            expected = bt2.pictures.to_image(images.material.contents[hit.position])
            np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_a_clicked_sample_is_the_query(bt2):
    event = gr.SelectData(None, {"index": 3, "value": None})
    image, label, *_ = bt2.page.search_sample(40, True, event)
    expected, name = bt2.page.sample_images()[3]
    assert np.array_equal(image, expected) and label == name


def test_an_upload_has_no_known_class(bt2):
    image, _ = bt2.page.sample_images()[0]
    _, label, verdict, *_ = bt2.page.search_upload(image, 40, True)
    assert label == "" and "is not known" in verdict


def test_a_glyph_reaches_the_networks_as_it_is_in_the_data(bt2):
    pixels = draw_glyphs()["test"].images[7].numpy()
    found = bt2.pictures.to_pixels(bt2.pictures.to_image(pixels)).numpy()[0]
    np.testing.assert_allclose(found, np.clip(pixels, 0, 1), atol=0.51 / 255)


def test_dark_on_bright_is_inverted_and_any_size_fits(bt2):
    bright = Image.new("RGB", (60, 40), "white")
    bright.paste((0, 0, 0), (20, 10, 40, 30))
    dark = ImageOps.invert(bright)
    first, second = (bt2.pictures.to_pixels(image).numpy() for image in (bright, dark))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (1, 1, 28, 28) and first[0, 0, 14, 14] == 1 and first[0, 0, 0, 0] == 0


def test_encoders_that_a_visitor_names(bt2, tmp_path):
    """Folders here, Hub ids elsewhere: the head is fitted on the spot, on fewer texts."""
    for name, width, seed in (("old", 12, 2), ("new", 16, 1)):
        tiny_encoder(tmp_path, width, seed).save(str(tmp_path / name))
    names = str(tmp_path / "old"), str(tmp_path / "new")
    found = bt2.api.search_text("Return the current time.", 40, True, *names)
    assert len(found["mixed"]) == 5
    upgrade = bt2.upgrade.text_upgrade(*names)
    assert len(upgrade.material.items) == 300 and upgrade.material.new.compatible_with.model_id == names[0]
    assert (upgrade.material.old.dim, upgrade.material.new.dim) == (12, 28)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda api: api.search_text("  "), "Write a question first"),
        (lambda api: api.search_text("time", 101), "The share must lie between 0 and 100 %, not 101"),
        (lambda api: api.search_text("time", 40, True, "", NEW), "Name both encoders"),
        (
            lambda api: api.search_text("time", 40, True, "no/such-model", NEW),
            "Cannot load the encoder 'no/such-model'",
        ),
        (lambda api: api.search_images(None), "Choose an image or upload one first"),
        (lambda api: api.curve("sounds"), "The kind must be text or images, not sounds"),
    ],
)
def test_mistakes_of_visitors(bt2, call, said):
    with pytest.raises(gr.Error, match=said):
        call(bt2.api)


def test_every_public_endpoint_is_described(bt2):
    check_endpoints_are_described(bt2.app.demo, {"search_text", "search_images", "curve"})
