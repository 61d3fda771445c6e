# SPDX-License-Identifier: Apache-2.0
"""The parts of the gallery, without a browser."""

import io
import subprocess
import sys
import time

import gradio as gr
import pytest

from eigenhub.methods import METHODS
from tests.spaces.conftest import modules_of


SLUGS = [method.slug for method in METHODS]


@pytest.fixture(scope="module")
def gallery():
    with modules_of("gallery") as modules:
        yield modules


@pytest.fixture
def card(gallery):
    return next(card for card in gallery.cards.all_cards() if card.slug == "s5_ptd")


@pytest.fixture
def launched(gallery, tmp_path, monkeypatch):
    """Starts the given program in place of a Space."""
    (tmp_path / "app.py").write_text("")

    def use(program):
        (tmp_path / "app.py").write_text(program)

    monkeypatch.setattr(gallery.apps, "find", lambda relative: tmp_path)
    monkeypatch.setattr(gallery.apps, "PAUSE", 0.02)
    monkeypatch.setattr(gallery.opening, "APPS", gallery.apps.Apps())
    yield use
    gallery.opening.APPS.stop("sorsa")
    gallery.opening.APPS.stop("s5_ptd")


SERVER = """
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
server = HTTPServer(("127.0.0.1", int(sys.argv[2])), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


def test_every_method_has_a_card_with_all_that_is_known(gallery):
    for method, card in zip(METHODS, gallery.cards.all_cards(), strict=True):
        assert card.slug == method.slug
        for part in (method.title, method.kind, method.arxiv, f"eigenhub train {method.slug}", card.headline):
            assert part in card.html
        assert "data:image/webp;base64," in card.html, f"python -m tests.spaces.screenshots {method.slug}"


def test_a_method_without_a_picture_has_its_headline_instead(gallery, monkeypatch, tmp_path):
    monkeypatch.setattr(gallery.cards, "THUMBNAILS", tmp_path)
    assert gallery.cards.thumbnail("new", "A <new> one") == '<div class="card-picture"><b>A &lt;new&gt; one</b></div>'


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("", None, set(SLUGS)),
        ("model", "", {"s5_ptd", "bt2", "householder"}),
        ("", "Hallucination", {"send"}),
        ("", "privacy clients", {"fedsvd"}),
        ("tuner", "hallucination", set()),
        ("", "no such words", set()),
    ],
)
def test_kind_and_words_narrow_the_choice(gallery, kind, words, expected):
    assert gallery.cards.chosen(gallery.cards.all_cards(), kind, words) == expected


def test_addresses_on_the_hub_are_those_of_the_same_owner(gallery, monkeypatch):
    assert gallery.places.hub_owner() is None
    monkeypatch.setenv("SPACE_ID", "Some_One/eigenhub-gallery")
    assert gallery.places.hub_owner() == "Some_One"
    assert gallery.places.hub_page("Some_One", "s5_ptd") == "https://huggingface.co/spaces/Some_One/eigenhub-s5-ptd"
    assert gallery.places.hub_app("Some_One", "s5_ptd") == "https://some-one-eigenhub-s5-ptd.hf.space"


@pytest.mark.parametrize(
    ("gallery_url", "expected"),
    [
        ("http://127.0.0.1:7860/x", "http://127.0.0.1:1234/"),
        ("http://box.local:7860", "http://box.local:1234/"),
        ("http://[::1]:7860", "http://[::1]:1234/"),
    ],
)
def test_a_local_space_is_reached_by_the_name_of_the_gallery(gallery, gallery_url, expected):
    assert gallery.places.local_app(gallery_url, 1234) == expected


def request_from(url="http://127.0.0.1:7860/"):
    class Inner:
        pass

    inner, request = Inner(), gr.Request(session_hash="visitor")
    inner.url = url
    request.request = inner
    return request


def test_a_space_starts_once_and_ends_when_it_is_told(gallery, card, launched):
    launched(SERVER)
    *waits, (words, frame) = gallery.opening.starting(card, "http://127.0.0.1:7860/")
    assert all("Starting S5-PTD" in said and not shown for said, shown in waits)
    app = gallery.opening.APPS.get(card.slug)
    assert f'src="http://127.0.0.1:{app.port}/"' in frame and "Open in a tab of its own" in words
    assert list(gallery.opening.starting(card, "http://127.0.0.1:7860/")) == [[words, frame]]
    gallery.opening.stop(card.slug, request_from())
    assert not app.is_alive
    assert gallery.opening.APPS.get(card.slug) is not app


def test_a_space_that_fails_says_why(gallery, card, launched):
    launched("raise SystemExit('no <gradio> here')")
    *_, (words, frame) = gallery.opening.starting(card, "http://127.0.0.1:7860/")
    assert frame == "" and "did not start: no &lt;gradio&gt; here" in words and "eigenhub space s5_ptd" in words


def test_a_space_that_never_answers_is_given_up(gallery, card, launched, monkeypatch):
    monkeypatch.setattr(gallery.apps, "PATIENCE", 0)
    launched("import sys; sys.stdin.read()")
    *_, (words, _) = gallery.opening.starting(card, "http://127.0.0.1:7860/")
    assert "no answer within 0 seconds" in words


def test_spaces_end_with_the_gallery_however_it_ends(gallery, tmp_path):
    """A gallery that is killed has no time to end anything: the closed pipe does."""
    (tmp_path / "app.py").write_text(f"{SERVER}\nopen({str(tmp_path / 'ended')!r}, 'w')")
    code = (
        f"import sys, time; sys.path.insert(0, {str(gallery.apps.__file__.rpartition('/')[0])!r}); import apps, pathlib\n"
        f"apps.find = lambda relative: pathlib.Path({str(tmp_path)!r})\n"
        "app = apps.Apps().get('sorsa')\nfor _ in app.opening(): pass\nprint('up', flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"up\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(500):
        if (tmp_path / "ended").exists():
            return
        time.sleep(0.02)
    raise AssertionError("the Space goes on without its gallery")


def test_who_turned_to_another_card_is_left_alone(gallery, card, launched):
    launched("import sys; sys.stdin.read()")
    demo = gr.Blocks()
    demo.share = False
    events = gallery.opening.opener(card, demo)(request_from())
    assert "Starting" in next(events)[0]
    gallery.opening.leave("", request_from())
    assert list(events) == []


def test_a_shared_gallery_starts_nothing(gallery, card, launched):
    launched("raise SystemExit('started')")
    demo = gr.Blocks()
    demo.share = True
    ((words, frame),) = gallery.opening.opener(card, demo)(request_from())
    assert frame == "" and "--share" in words


def test_on_the_hub_the_other_space_is_embedded(gallery, card, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "me/eigenhub-gallery")
    ((words, frame),) = gallery.opening.opener(card, gr.Blocks())(request_from())
    assert 'src="https://me-eigenhub-s5-ptd.hf.space"' in frame
    assert 'href="https://huggingface.co/spaces/me/eigenhub-s5-ptd"' in words


def test_nothing_of_the_gallery_is_for_programs(gallery):
    assert {fn.api_visibility for fn in gallery.app.demo.fns.values()} == {"private"}


def test_a_program_that_starts_a_space_ends_it_by_closing_its_input(monkeypatch):
    from eigenhub.hub.space import Space

    given = {}
    monkeypatch.setattr(Space, "launch", lambda self, **options: given.update(options))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    Space(None, "A page", "What it is.").serve(["--until-closed", "--port", "7"])
    assert given["prevent_thread_lock"] and given["server_port"] == 7 and given["mcp_server"] is None


def test_tools_need_a_package(monkeypatch, capsys):
    from eigenhub.hub.space import Space

    monkeypatch.setattr("eigenhub.hub.space.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        Space(None, "A page", "What it is.").serve(["--mcp"])
    assert "pip install 'mcp<2'" in capsys.readouterr().err
