# SPDX-License-Identifier: Apache-2.0
"""The Space as a visitor and as a program see it: served in a process of its own, with no way off this machine."""

import re

import pytest
from gradio_client import handle_file
from PIL import Image
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester
from tests.spaces.checks import check_command_opens_page, slide
from tests.support.hub_server import run_client


CLASSIFIER, WRITER = "tester/space-s5-digits", "tester/space-s5-text"
FIRST_TIME = 300_000  # milliseconds in which the embedded models are trained, on a busy machine
PUSH = f"""
from tests.spaces.tiny_state_space import push_models
push_models({CLASSIFIER!r}, {WRITER!r})
"""


class TestS5Space(SpaceTester):
    slug = "s5_ptd"
    api_names = ("/classify", "/transfer", "/pseudospectrum", "/generate")

    @classmethod
    def prepare(cls, server, scratch):
        run_client(PUSH, server, scratch / "author", block=())
        cls.picture = scratch / "digit.png"
        Image.new("L", (24, 24), 128).save(cls.picture)

    @property
    def api_calls(self):
        picture = handle_file(str(self.picture))
        return (
            ApiCall("/transfer", (16,), is_gain_of_order_16),
            ApiCall(
                "/pseudospectrum", ("ptd", 8), lambda found: len(found["eigenvalues"]) == 8 and found["kappa"] < 10
            ),
            ApiCall("/generate", ("ab", 20, 0.0, WRITER), is_text_at_constant_memory),
            ApiCall("/classify", (picture, 0.5, "low", CLASSIFIER), are_probabilities),
        )

    @pytest.mark.slow
    def test_api_answers(self, space, tmp_path):
        super().test_api_answers(space, tmp_path)

    def browse(self, page):
        verdict = page.locator("#noise-verdict")
        expect(verdict).to_contain_text("amplitude 0.3", timeout=FIRST_TIME)
        expect(page.locator("#accuracy-plot img")).to_be_visible()
        page.get_by_role("button", name="Thumbnail 8 of 10").click()
        slide(page, "#amplitude", 0)
        expect(verdict).to_contain_text(re.compile(r"no noise.*says 7"))
        page.get_by_label("low, inside of what").check()
        slide(page, "#amplitude", 1)
        expect(verdict).to_contain_text("amplitude 1 at ω = 5")
        self.open_tab(page, "Transfer functions")
        expect(page.locator("#transfer-facts")).to_contain_text("208.3 ×")
        page.locator("#transfer-order").get_by_label("64").check()
        expect(page.locator("#transfer-facts")).to_contain_text("830.9 ×")
        self.open_tab(page, "Pseudospectra")
        expect(page.locator("#pseudo-facts")).to_contain_text("e+10")
        page.get_by_label("its normal part").check()
        expect(page.locator("#pseudo-facts")).to_contain_text("its normal part")
        self.open_tab(page, "Write")
        page.get_by_label("Model", exact=True).fill(WRITER)
        page.get_by_label("Model", exact=True).press("Enter")
        page.locator("#prompt textarea").fill("ab")
        page.locator("#write").click()
        expect(page.locator("#memory-facts")).to_contain_text("after 258 tokens")
        expect(page.locator("#memory-plot img")).to_be_visible()
        self.open_tab(page, "Noise")
        page.get_by_label(re.compile("where S4D-LegS")).check()
        expect(verdict).to_contain_text("ω = 325.4")
        self.draw_a_seven(page)
        before = page.locator("#sequence-plot img").get_attribute("src")
        page.get_by_role("button", name="Use this drawing").click()
        expect(page.locator("#sequence-plot img")).not_to_have_attribute("src", before)
        expect(verdict).not_to_contain_text("processing")

    @staticmethod
    def open_tab(page, name):
        """On a narrow screen the last tabs hide in a menu."""
        tab = page.get_by_role("tab", name=name)
        if not tab.is_visible():
            page.locator(".overflow-menu > button").click()
            tab = page.locator(".overflow-dropdown").get_by_text(name)
        tab.click()

    @staticmethod
    def draw_a_seven(page):
        page.get_by_text("Draw one", exact=True).click()
        page.get_by_role("button", name="Brush").click()
        box = page.locator("#sketch canvas").first.bounding_box()
        corners = [(0.35, 0.25), (0.62, 0.25), (0.5, 0.75)]
        places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=10)
        page.mouse.up()


def is_gain_of_order_16(found):
    assert abs(found["largest"]["legs"] - 52.71) < 0.01 and abs(found["at"]["legs"] - 80.966) < 0.01
    return found["largest"]["lowrank"] <= 1 / 0.9 and found["largest"]["ptd"] < 1.6


def is_text_at_constant_memory(found):
    assert found["tokens"][-1] == 22 and len(set(found["state_bytes"])) == 1
    return isinstance(found["text"], str) and found["attention_bytes"][-1] > found["attention_bytes"][0]


def are_probabilities(found):
    assert found.pop("omega") == 5.0
    assert set(found) == {"legs", "ptd", "lowrank", "other"}
    return all(abs(sum(row.values()) - 1) < 1e-4 and len(row) == 10 for row in found.values())


def test_the_command_opens_the_page():
    check_command_opens_page("s5_ptd", "Perturb, then diagonalise")
