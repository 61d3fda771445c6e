# SPDX-License-Identifier: Apache-2.0
"""The common tester of Spaces passes a sound app and catches each fault of a bad one."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester, pinned_version
from tests.support.devices import require_chromium
from tests.support.spaces import running_space


README = f"""---
title: Doubler
emoji: ✖️
colorFrom: blue
colorTo: green
sdk: gradio
sdk_version: {pinned_version("gradio")}
python_version: "3.11"
app_file: app.py
license: apache-2.0
short_description: Doubles a number
models: []
tags: [doubling]
---
# Doubler
"""
APP = """
import gradio as gr

def double(x: float) -> float:
    return 2 * x

with gr.Blocks(title="Doubler") as demo:
    number = gr.Number(3, label="x")
    answer = gr.Number(label="2x", elem_id="answer")
    gr.Button("Double").click(double, number, answer, api_name="double")

if __name__ == "__main__":
    demo.launch()
"""


def write_space(folder: Path, readme: str = README, app: str = APP, requirements: str = "eigenhub>=0.1\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(readme)
    (folder / "app.py").write_text(app)
    (folder / "requirements.txt").write_text(requirements)
    return folder


class DoublerTester(SpaceTester):
    """Not collected by its name; the tests below subclass or call it."""

    slug = "tester-doubler"
    api_names = ("/double",)
    api_calls = (ApiCall("/double", (4,), lambda answer: answer == 8),)

    def browse(self, page):
        page.get_by_role("button", name="Double").click()
        expect(page.locator("#answer input")).to_have_value("6")


class TestSoundSpace(DoublerTester):
    where: Path

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def written(cls, tmp_path_factory):
        cls.where = write_space(tmp_path_factory.mktemp("spaces") / "doubler")

    @classmethod
    def folder(cls) -> Path:
        return cls.where


@pytest.fixture
def tester(tmp_path):
    """A tester of a Space in `tmp_path`, sound until a test overwrites one of its files."""
    write_space(tmp_path / "space")
    return type("Tester", (DoublerTester,), {"folder": classmethod(lambda cls: tmp_path / "space")})()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("license: apache-2.0\n", "", "lacks .'license'"),
        ("app_file: app.py", "app_file: main.py", "no app_file"),
        ("sdk_version: ", "sdk_version: 0", "pinned gradio"),
        ('"3.11"', "3.10", "quote python_version"),
        ('"3.11"', '"3.9"', "too old"),
        ("colorTo: green", "colorTo: teal", "colours"),
        ("Doubles a number", "Doubles " * 8, "60 characters"),
        ("models: []", "models: [doubler]", "Hub ids"),
        ("tags: [doubling]", "tags: []", "tags must"),
    ],
)
def test_bad_front_matter_is_named(tester, old, new, said):
    write_space(tester.folder(), readme=README.replace(old, new))
    with pytest.raises(AssertionError, match=said):
        tester.test_front_matter()


@pytest.mark.parametrize(
    ("requirements", "said"), [("eigenhub\ngradio>=6\n", "installs gradio"), ("torch\n", "does not install eigenhub")]
)
def test_bad_requirements_are_named(tester, requirements, said):
    write_space(tester.folder(), requirements=requirements)
    with pytest.raises(AssertionError, match=said):
        tester.test_requirements()


LAUNCHING = APP.replace('if __name__ == "__main__":\n    demo.launch()', "demo.launch(prevent_thread_lock=True)")
REACHING_OUT = "import urllib.request as u\ntry:\n    u.urlopen('http://192.0.2.1')\nexcept OSError:\n    pass\n" + APP
ASKING_THE_HUB = "from huggingface_hub import HfApi\nHfApi().repo_exists('tester/doubler')\n" + APP


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("demo = None", "must be gradio Blocks"),
        (LAUNCHING, "launched the app"),
        (REACHING_OUT, "touched the network.*192.0.2.1"),
        (ASKING_THE_HUB, "asked the Hub.*tester/doubler"),
        ("import a_module_that_is_absent", "failed:(.|\n)*a_module_that_is_absent"),
    ],
)
def test_a_bad_import_is_named(tester, hub_server, tmp_path, app, said):
    write_space(tester.folder(), app=app)
    with pytest.raises(AssertionError, match=said):
        with running_space(tester.folder(), hub_server, tmp_path / "scratch") as space:
            tester.test_import_builds_the_demo(space)


RENAMED = APP.replace('api_name="double"', 'api_name="twice"')
WRONG = APP.replace("2 * x", "3 * x")
LOOKUP = "    import socket, contextlib as c\n    with c.suppress(OSError): socket.getaddrinfo('example.org', 80)\n    return"
LEAVING = APP.replace("    return", LOOKUP)


@pytest.mark.parametrize(
    ("app", "check", "said"),
    [
        (RENAMED, "test_api_names", "missing endpoints .'/double'., unexpected ones .'/twice'."),
        (WRONG, "test_api_answers", "answered 12"),
        (LEAVING, "test_api_answers", "leave the loopback interface.*example.org"),
    ],
)
def test_bad_endpoints_are_named(tester, hub_server, tmp_path, app, check, said):
    write_space(tester.folder(), app=app)
    with running_space(tester.folder(), hub_server, tmp_path / "scratch") as space:
        arguments = [tmp_path] if check == "test_api_answers" else []
        with pytest.raises(AssertionError, match=said):
            getattr(tester, check)(space, *arguments)


def test_an_endpoint_without_a_call_is_named(tester, tmp_path):
    tester.api_calls = ()
    with pytest.raises(AssertionError, match="no ApiCall for .'/double'"):
        tester.test_api_answers(None, tmp_path)


def with_javascript(code: str) -> str:
    """The app with code that the page runs once it is loaded."""
    load = f"    demo.load(None, None, None, js={f'() => {{ {code} }}'!r}, api_visibility='private')"
    return APP.replace("\nif __name__", f"{load}\n\nif __name__")


THROWING = with_javascript("setTimeout(() => { throw new Error('boom') }, 0)")
FETCHING = with_javascript("fetch('http://192.0.2.1/x').catch(() => 0)")
FAILING = APP.replace("    return", "    if x == 3:\n        raise gr.Error('three is too much')\n    return")


@require_chromium
@pytest.mark.parametrize(
    ("app", "said"),
    [(THROWING, "boom"), (FETCHING, "192.0.2.1/x"), (FAILING, "three is too much")],
)
def test_a_bad_page_is_named(tester, hub_server, tmp_path, monkeypatch, app, said):
    monkeypatch.setattr("tests.common.space_tester.SCREENSHOTS", tmp_path)
    write_space(tester.folder(), app=app)
    if app == FAILING:
        tester.browse = lambda page: (
            page.get_by_role("button", name="Double").click(),
            expect(page.locator(".toast-body.error")).to_be_visible(),
        )
    with running_space(tester.folder(), hub_server, tmp_path / "scratch") as space:
        with pytest.raises(AssertionError, match=said):
            tester.test_browser(space, "phone", {"width": 390, "height": 844})
