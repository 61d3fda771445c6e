# SPDX-License-Identifier: Apache-2.0
"""The gallery as a visitor sees it; it starts one Space for real, the lightest."""

import re

import pytest
from playwright.sync_api import expect

from eigenhub.methods import METHODS
from tests.common.space_tester import SpaceTester
from tests.spaces.checks import check_command_opens_page


STARTS_WITHIN = 120_000  # milliseconds, on a busy machine


class TestGallerySpace(SpaceTester):
    slug = "gallery"
    api_names = ()
    api_calls = ()

    # What is fast is tested without a process: test_gallery.py.
    @pytest.mark.browser
    def test_import_builds_the_demo(self, space):
        super().test_import_builds_the_demo(space)

    @pytest.mark.browser
    def test_api_names(self, space):
        super().test_api_names(space)

    def browse(self, page):
        self.narrow(page)
        page.locator("#card-sorsa").get_by_text("Commands").click()
        expect(page.locator("#card-sorsa pre")).to_contain_text("eigenhub train sorsa")
        self.open_by_keyboard(page)
        page.locator("#back").press("Enter")
        expect(page.locator("#open-s5_ptd")).to_be_focused()
        self.come_back(page)
        page.locator("#stop").click()
        expect(page.locator(".card")).to_have_count(len(METHODS))

    @staticmethod
    def narrow(page):
        expect(page.locator(".card:visible")).to_have_count(len(METHODS))
        page.get_by_role("radio", name=re.compile("Models")).check()
        expect(page.locator("#card-sorsa")).to_be_hidden()
        page.get_by_label("Need").fill("pseudospectra")
        expect(page.locator(".card:visible")).to_have_count(1)
        expect(page.locator("#card-s5_ptd")).to_be_visible()
        page.get_by_label("Need").fill("nobody needs this")
        expect(page.locator("#found")).to_contain_text("No method has all of these words")
        page.get_by_label("Need").fill("")
        page.get_by_role("radio", name=re.compile("All")).check()
        expect(page.locator(".card:visible")).to_have_count(len(METHODS))

    @staticmethod
    def open_by_keyboard(page):
        page.locator("#open-s5_ptd").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#stage-words")).to_contain_text("Starting S5-PTD")
        expect(page.locator("#back")).to_be_focused()
        title = page.frame_locator("#space-frame").get_by_role("heading", name="Perturb, then diagonalise")
        expect(title).to_be_visible(timeout=STARTS_WITHIN)
        expect(page.get_by_role("link", name="Open in a tab of its own")).to_be_visible()

    @staticmethod
    def come_back(page):
        """The Space has gone on; its address is the old one."""
        page.locator("#open-s5_ptd").click()
        title = page.frame_locator("#space-frame").get_by_role("heading", name="Perturb, then diagonalise")
        expect(title).to_be_visible(timeout=STARTS_WITHIN)


@pytest.mark.browser
def test_the_command_opens_the_page():
    check_command_opens_page("", "The methods of eigenhub")
