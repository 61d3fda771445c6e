# SPDX-License-Identifier: Apache-2.0
"""The BT2 Space as a visitor and as a program see it: served in a process of its own, with no way off this machine."""

from gradio_client import handle_file
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from tests.common.space_tester import ApiCall, SpaceTester
from tests.spaces.checks import check_command_opens_page, slide
from tests.spaces.conftest import require_listed
from tests.support.devices import require_package


FIRST_TIME = 240_000  # milliseconds in which the embedded encoders are trained, on a busy machine


@require_listed("bt2")
@require_package("sentence_transformers")
@require_package("faiss")
class TestBt2Space(SpaceTester):
    slug = "bt2"
    api_names = ("/search_text", "/search_images", "/curve")

    @classmethod
    def prepare(cls, server, scratch):
        cls.picture = scratch / "cross.png"
        image = Image.new("L", (60, 60), 0)
        ImageDraw.Draw(image).line([(10, 10), (50, 50)], fill=255, width=5)
        ImageDraw.Draw(image).line([(10, 50), (50, 10)], fill=255, width=5)
        image.save(cls.picture)

    @property
    def api_calls(self):
        picture = handle_file(str(self.picture))
        return (
            ApiCall("/search_text", ("Return the current time in seconds.", 40), are_hits("text")),
            ApiCall("/search_text", ("open a socket",), are_hits("text"), {"share": 0, "calibrated": False}),
            ApiCall("/search_images", (picture, 100), are_hits("label")),
            ApiCall("/curve", ("text",), is_an_upgrade),
            ApiCall("/curve", ("images",), is_an_upgrade),
        )

    def browse(self, page):
        expect(page.locator("#text-summary")).to_contain_text("On the first day", timeout=FIRST_TIME)
        expect(page.locator("#text-curve img")).to_be_visible()
        expect(page.locator("#text-mixed li")).to_have_count(5)
        expect(page.locator("#text-verdict")).to_contain_text("First right answer")
        slide(page, "#text-share", 100)
        expect(page.locator("#text-mixed li .new")).to_have_count(5)
        slide(page, "#text-share", 0)
        expect(page.locator("#text-mixed li .old")).to_have_count(5)
        slide(page, "#text-share", 40)
        page.get_by_label("Question").fill("wait until a thread has ended")
        page.get_by_label("Question").press("Enter")
        expect(page.locator("#text-verdict")).to_contain_text("is not known")
        page.get_by_role("tab", name="Images").click()
        expect(page.locator("#image-summary")).to_contain_text("Mean average precision", timeout=FIRST_TIME)
        expect(page.locator("#image-mixed img")).to_have_count(5)
        page.locator("#samples").get_by_role("button").nth(2).click()
        expect(page.locator("#image-verdict")).to_contain_text("First right answer")
        slide(page, "#image-share", 100)
        expect(page.locator("#image-mixed li .new")).to_have_count(5)
        page.get_by_role("tab", name="Text").click()
        expect(page.locator("#text-curve img")).to_be_visible()


def are_hits(key):
    def check(found):
        assert set(found) == {"before", "mixed", "after"}
        return all(len(records) == 5 and key in records[0] for records in found.values())

    return check


def is_an_upgrade(found):
    return found["before"] < found["now"] < found["after"] and len(found["plain"]) == 11


@require_listed("bt2")
@require_package("sentence_transformers")
@require_package("faiss")
def test_the_command_opens_the_page():
    check_command_opens_page("bt2", "Upgrade a search without re-embedding it")
