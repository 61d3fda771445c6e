# SPDX-License-Identifier: Apache-2.0
"""The Space as a visitor and as a program see it: served in a process of its own, with no way off this machine."""

import re

import pytest
from gradio_client import handle_file
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester
from tests.models.stylegan2.nvidia_files import nvidia_pickle
from tests.models.stylegan2.tiny import generator
from tests.spaces.checks import check_command_opens_page, slide
from tests.support.browser import DESKTOP, visit
from tests.support.devices import require_chromium
from tests.support.hub_server import run_client


PROJECTED, BEFORE, LABELS = "tester/gan-projected", "tester/gan-before", "tester/gan-labels"
FIRST_TIME = 240_000  # milliseconds in which what computes is imported, on a busy machine
PUSH = f"""
from tests.spaces.tiny_gan import push_labels, push_pair
push_pair({PROJECTED!r}, {BEFORE!r})
push_labels({LABELS!r})
"""


class TestHouseholderSpace(SpaceTester):
    slug = "householder"
    api_names = ("/sample", "/traverse", "/directions", "/convert")

    @classmethod
    def prepare(cls, server, scratch):
        run_client(PUSH, server, scratch / "author", block=())
        cls.checkpoint = scratch / "cats.pkl"
        cls.checkpoint.write_bytes(nvidia_pickle({"G_ema": generator(1)}))

    @property
    def api_calls(self):
        tiny = {"model": PROJECTED, "layer": "b8.conv0"}
        return (
            ApiCall("/sample", (PROJECTED,), lambda found: len(found) == 3, {"count": 3}),
            ApiCall("/directions", (), is_aligned, tiny | {"basis": "aligned", "unprojected": BEFORE}),
            ApiCall("/traverse", (), is_film, tiny | {"direction": 1, "frames": 4, "edit": "style"}),
            ApiCall("/convert", (handle_file(str(self.checkpoint)),), is_converted),
        )

    # The default tests have the page in their own process: tests/spaces/householder.
    @pytest.mark.slow
    def test_import_builds_the_demo(self, space):
        super().test_import_builds_the_demo(space)

    @pytest.mark.slow
    def test_api_names(self, space):
        super().test_api_names(space)

    @pytest.mark.slow
    def test_api_answers(self, space, tmp_path):
        super().test_api_answers(space, tmp_path)

    def browse(self, page):
        self.edit(page)
        self.look_at_directions(page)
        self.name(page)
        self.convert(page)
        page.get_by_role("tab", name="Edit", exact=True).click()
        self.open_tab(page, "Sliders")
        self.begin(page)
        slide(page, "#slider-1", 1.5)
        expect(page.locator("#after img")).not_to_have_attribute(
            "src", page.locator("#before img").get_attribute("src")
        )

    @staticmethod
    def begin(page):
        page.get_by_label("Generator", exact=True).fill("embedded:shapes")
        page.get_by_label("Generator", exact=True).press("Enter")
        expect(page.locator("#summary")).to_contain_text("32 px", timeout=FIRST_TIME)
        expect(page.locator("#slider-6")).to_be_visible()

    def edit(self, page):
        expect(page.locator("#summary")).to_contain_text("32 px", timeout=FIRST_TIME)
        expect(page.locator("#slider-6")).to_be_visible()
        image = page.locator("#after img")
        before = image.get_attribute("src")
        slide(page, "#slider-1", 2)
        expect(image).not_to_have_attribute("src", before)
        page.locator("#keep").click()
        expect(page.locator("#edits")).to_contain_text("1 edit kept, in b4.conv1")
        page.get_by_role("button", name="Thumbnail 4 of 12").click()
        expect(image).not_to_have_attribute("src", before)
        page.locator("#undo").click()
        expect(page.locator("#edits")).not_to_contain_text("kept")
        before = page.locator("#slider-1").inner_text()
        self.choose(page, "Layer", re.compile("^16 px.*b16.conv0"))
        expect(page.locator("#slider-1")).not_to_have_text(before)
        self.choose(page, "Basis", "ordered by visible effect")
        expect(page.locator("#slider-1")).to_contain_text(re.compile(r"1 · \d"))

    def look_at_directions(self, page):
        self.open_tab(page, "Strip and film")
        expect(page.locator("#strip img")).to_be_visible()
        expect(page.locator("#strip-caption")).to_contain_text("b16.conv0, direction 1")
        page.locator("#gif").click()
        expect(page.locator("#film img")).to_be_visible()
        with page.expect_download() as download:
            page.locator("#file a").first.click()
        assert download.value.suggested_filename == "sample-3_b16-conv0_jacobian_direction-1.gif"
        self.open_tab(page, "All directions")
        expect(page.locator("#grid img")).to_be_visible()
        expect(page.locator("#factors td")).to_have_count(42)
        expect(page.locator("#effects tbody tr")).to_have_count(6)
        found = page.locator("#effects").inner_text()
        self.choose(page, "Layer", "4 to 8 px, 3 layers together")
        expect(page.get_by_label("Basis", exact=True)).to_have_value("singular vectors")
        expect(page.locator("#effects")).not_to_have_text(found, use_inner_text=True)
        expect(page.locator("#effects tbody tr")).to_have_count(6)
        self.choose(page, "Layer", re.compile("^16 px.*b16.conv0"))
        expect(page.get_by_label("Basis", exact=True)).to_have_value("parameters of the projector")
        self.choose(page, "Basis", "ordered by visible effect")
        expect(page.locator("#effects")).to_have_text(found, use_inner_text=True)
        self.open_tab(page, "Beside SeFa")
        expect(page.locator("#sefa-theirs img")).to_be_visible()
        expect(page.locator("#sefa-theirs-words")).to_contain_text("on the generator before projection")

    def name(self, page):
        self.open_tab(page, "Names")
        expect(page.locator("#names-table")).to_contain_text("has a name yet")
        page.locator("#name input, #name textarea").fill("what I see")
        page.locator("#give").click()
        expect(page.locator("#names-table")).to_contain_text("what I see")
        expect(page.get_by_label("Layer", exact=True)).to_have_value("16 px, b16.conv0: what I see")
        page.locator("#save").click()
        with page.expect_download() as download:
            page.locator("#archive a").first.click()
        page.get_by_text("Load names of others").click()
        saved = self.checkpoint.with_name("directions.zip")
        download.value.save_as(saved)
        page.locator("#upload-names input[type=file]").set_input_files(saved)
        expect(page.locator("#names-table")).to_contain_text("loaded from a file")

    def convert(self, page):
        page.get_by_role("tab", name="Convert a checkpoint").click()
        page.locator("#attack").click()
        expect(page.locator("#convert-report")).to_contain_text("posix.system")
        expect(page.locator("#convert-report")).to_contain_text("Nothing in the file has been run")
        page.locator("#checkpoint input[type=file]").set_input_files(self.checkpoint)
        expect(page.locator("#checkpoint")).to_contain_text("cats")
        page.locator("#convert").click()
        expect(page.locator("#convert-report")).to_contain_text("16 px")
        page.locator("#open-converted").click()
        expect(page.locator("#summary")).to_contain_text("16 px")

    @staticmethod
    def choose(page, label, option):
        page.get_by_label(label, exact=True).click()
        page.get_by_role("option", name=option).click()

    @staticmethod
    def open_tab(page, name):
        """On a narrow screen the last tabs hide in a menu."""
        tab = page.get_by_role("tab", name=name)
        if not tab.is_visible():
            page.locator(".overflow-menu > button:visible").first.click()
            tab = page.locator(".overflow-dropdown").get_by_text(name)
        tab.click()

    @require_chromium
    def test_two_visitors_do_not_mix(self, space):
        with visit(space.url, DESKTOP) as seen:
            other = seen.page.context.browser.new_page(viewport=DESKTOP)
            other.goto(space.url)
            for page, name in ((seen.page, "first"), (other, "second")):
                expect(page.locator("#slider-6")).to_be_visible(timeout=FIRST_TIME)
                self.open_tab(page, "Names")
                page.locator("#name input, #name textarea").fill(name)
                page.locator("#give").click()
                expect(page.locator("#names-table")).to_contain_text(name)
            self.open_tab(seen.page, "Sliders")
            self.open_tab(seen.page, "Names")
            expect(seen.page.locator("#names-table")).to_contain_text("first")
            expect(seen.page.locator("#names-table")).not_to_contain_text("second")
            expect(other.locator("#names-table")).not_to_contain_text("first")
        seen.assert_clean()

    @require_chromium
    @pytest.mark.parametrize(
        ("name", "said"),
        [("nobody/nothing", "Cannot load 'nobody/nothing'"), ("network.pkl", "householder convert FILE FOLDER")],
    )
    def test_a_generator_that_cannot_be_read_is_named_on_the_page(self, space, name, said):
        with visit(space.url, DESKTOP) as seen:
            expect(seen.page.locator("#slider-6")).to_be_visible(timeout=FIRST_TIME)
            seen.page.get_by_label("Generator", exact=True).fill(name)
            seen.page.get_by_label("Generator", exact=True).press("Enter")
            expect(seen.page.locator(".toast-body.error")).to_contain_text(said)
        seen.assert_clean()

    @require_chromium
    def test_a_generator_of_the_hub_with_names_of_others(self, space):
        with visit(space.url, DESKTOP) as seen:
            page = seen.page
            expect(page.locator("#slider-6")).to_be_visible(timeout=FIRST_TIME)
            page.get_by_label("Generator", exact=True).fill(PROJECTED)
            page.get_by_label("Generator", exact=True).press("Enter")
            expect(page.locator("#summary")).to_contain_text("16 px")
            self.open_tab(page, "Names")
            page.get_by_text("Load names of others").click()
            page.locator("#origin input, #origin textarea").fill(LABELS)
            page.locator("#fetch").click()
            expect(page.locator("#names-table")).to_contain_text("of somebody else")
        seen.assert_clean()


def is_aligned(found):
    assert found["basis"] == "aligned" and len(found["vectors"]) == 3 and found["factors"] is None
    return len(found["effects"]) == len(found["dead"]) == 3


def is_film(answer):
    frames, film = answer
    return len(frames) == 4 and film.endswith(".gif")


def is_converted(answer):
    archive, report = answer
    return archive.endswith("cats.zip") and report["resolution"] == 16 and report["networks"] == ["generator_ema"]


@pytest.mark.slow
def test_the_command_opens_the_page():
    check_command_opens_page("householder", "Directions of a StyleGAN2")
